"""URLs as they may be recorded, and the host that they really lead to."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from otelsync.recording import scope as context
from otelsync.secret_values import REDACTED

_LONGEST: Final = 8192
_AUTHORITY: Final = re.compile(r"(?a)[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
_UNCLEAR: Final = re.compile(r"[\x00-\x20\x7f\\]")
"""Characters that clients read differently: a backslash is a slash to some, and part of the user's name to others."""
_PARAMETER: Final = re.compile(r"([?&;])([^=&;#]{1,256})=([^&;#]+)")
_NAME: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")


def host_of(url: str) -> str:
    """The host that `url` leads to, as :func:`plain_host` writes it; empty where clients would not agree on it.

    >>> host_of("http://localhost@Evil.com.:8080/")
    'evil.com'
    """
    found = _AUTHORITY.match(url[:_LONGEST])
    return plain_host(found[1].rpartition("@")[2]) if found and not _UNCLEAR.search(found[1]) else ""


def plain_host(text: str) -> str:
    """A host in lower case, without port, brackets, zone and trailing dot; empty if it is none.

    >>> plain_host("[::FFFF:127.0.0.1]:80")
    '127.0.0.1'
    """
    if len(text) > 300 or _UNCLEAR.search(text):
        return ""
    if text.startswith("["):
        inside, closed, port = text[1:].partition("]")
        return _plain_address(inside) if closed and re.fullmatch(r"(:\d*)?", port) else ""
    if text.count(":") > 1:
        return _plain_address(text)
    name, colon, port = text.partition(":")
    if colon and port and not port.isdecimal():
        return ""
    return _plain_name(name)


def _plain_name(name: str) -> str:
    try:
        name = name.encode("idna").decode() if not name.isascii() else name
    except UnicodeError:
        return ""
    name = name.lower()
    name = name[:-1] if name.endswith(".") else name
    return name if _NAME.fullmatch(name) else ""


def _plain_address(text: str) -> str:
    try:
        address = ipaddress.IPv6Address(text.partition("%")[0])
    except ValueError:
        return ""
    return str(address.ipv4_mapped or address)


def is_loopback(host: str) -> bool:
    """Return whether a plain host is this machine: ``localhost``, 127.0.0.0/8 or ::1."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def without_secrets(url: str) -> str:
    """`url` without user and password, its fragment, and the values of query parameters that let somebody in.

    >>> without_secrets("https://me:pw@example.com/x?page=2&access_token=abc#y")
    'https://REDACTED@example.com/x?page=2&access_token=[redacted]'
    """
    address = url[:_LONGEST].partition("#")[0]
    found = _AUTHORITY.match(address)
    if found and len(url) > _LONGEST and found.end() == len(address):
        return f"{address[: found.start(1)]}{REDACTED}"  # there may be a password before the cut
    if found and "@" in found[1]:
        who = "REDACTED@" if host_of(address) else "REDACTED\\@"  # an unclear host does not become a clear one
        address = address[: found.start(1)] + who + address[found.start(1) + found[1].rindex("@") + 1 :]
    return _PARAMETER.sub(_clean_parameter, address) if "=" in address else address


def _clean_parameter(found: re.Match[str]) -> str:
    if context.redactor().is_secret_parameter(found[2]):
        return f"{found[1]}{found[2]}={REDACTED}"
    return found[0]
