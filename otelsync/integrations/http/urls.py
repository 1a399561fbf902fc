"""URLs as they may be recorded, and the host that they really lead to."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from otelsync.recording import scope as context
from otelsync.secret_values import REDACTED

_LONGEST: Final = 8192
_AUTHORITY: Final = re.compile(r"(?a)[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
_UNCLEAR: Final = re.compile(r"[\x00-\x20\x7f\\]")
"""Characters that clients read differently: a backslash is a slash to some, and part of the user's name to others."""
_PARAMETER: Final = re.compile(r"([?&;])([^=&;#]{1,256})=([^&;#]+)")
_NAME: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")


class Address(NamedTuple):
    """Parts of a URL, as they may be recorded."""

    shown: str
    """The URL without secrets."""
    host: str
    """Its plain host; empty where clients would not agree on it."""
    path: str
    server: str
    """The host as Python reads it, for the attributes of a span; empty for none."""
    port: int | None
    """The port, where the URL says one."""


def address_of(url: str) -> Address:
    """Return all that is recorded of a URL, read once.

    >>> address_of("https://me:pw@Example.com:8443/x?token=abc")
    Address(shown='https://REDACTED@Example.com:8443/x?token=[redacted]', host='example.com', path='/x', \
server='example.com', port=8443)
    """
    shown = without_secrets(url)
    found = _AUTHORITY.match(shown)
    if found is None:
        return Address(shown, "", _path_of(shown), "", None)
    host, server, port = _authority(found[0])
    return Address(shown, host, shown[found.end() :].partition("?")[0], server, port)


def _path_of(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


@lru_cache(512)
def _authority(start: str) -> tuple[str, str, int | None]:
    """Return host, server and port of a URL up to its path. It has no secrets, and most calls go to a few servers."""
    try:
        parts = urlsplit(start)
        return host_of(start), parts.hostname or "", parts.port
    except ValueError:
        return host_of(start), "", None


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


@lru_cache(512)
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
