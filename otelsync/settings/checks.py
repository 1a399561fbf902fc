"""Checks of options: each returns the value as the program uses it, or raises ValueError with what to use instead.

The docstring of a check is what the documentation says of the values that there are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from string import Formatter
from typing import Any, Final, TypeAlias

from otelsync.levels import level_of, parse

Check: TypeAlias = Callable[[object], Any]

MIB: Final = 1024 * 1024
TRUE: Final = frozenset(("1", "true", "yes", "on"))
FALSE: Final = frozenset(("0", "false", "no", "off"))


def level(value: object) -> int:
    """DEBUG, INFO, WARNING, ERROR, CRITICAL"""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    return level_of(str(value))


def levels(value: object) -> dict[str, int]:
    """such as `sync.pr=WARNING,github_sync.tokens=DEBUG`"""
    if isinstance(value, Mapping):
        return parse(f"{name}={level}" for name, level in value.items())
    return parse(pair for pair in str(value).split(",") if pair.strip())


def one_of(*allowed: str) -> Check:
    def check(value: object) -> str:
        text = str(value).strip().lower()
        if text not in allowed:
            raise ValueError(f"use {', '.join(allowed[:-1])} or {allowed[-1]}")
        return text

    check.__doc__ = ", ".join(allowed)
    return check


def switch(value: object) -> bool:
    """on, off"""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text not in TRUE | FALSE:
        raise ValueError("use true or false")
    return text in TRUE


def whole(least: int, most: int) -> Check:
    """Return a check for whole numbers within bounds."""

    def check(value: object) -> int:
        text = str(value).strip()
        if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise ValueError(f"use a whole number from {least} to {most}")
        return int(text)

    check.__doc__ = f"{least} to {most}"
    return check


def decimal(least: float, most: float, unit: str) -> Check:
    """Return a check for numbers within bounds, such as a number of ``seconds``."""

    def check(value: object) -> float:
        try:
            number = float(str(value))
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            raise ValueError(f"use a number of {unit} from {least:g} to {most:g}")
        return number

    check.__doc__ = unit
    return check


_UNITS: Final = {"": 1, "b": 1, "k": 1024, "kib": 1024, "m": MIB, "mib": MIB, "g": 1024 * MIB, "gib": 1024 * MIB}


def size(value: object) -> int:
    """bytes, KiB, MiB, GiB"""
    found = re.fullmatch(r"(\d+)\s*([a-z]*)", str(value).strip().lower())
    if found is None or found[2] not in _UNITS:
        raise ValueError("use a number of bytes, such as 268435456 or 256MiB")
    number = int(found[1]) * _UNITS[found[2]]
    if number < 64 * 1024:
        raise ValueError("use at least 64KiB")
    return number


def name(value: object) -> str:
    """text"""
    text = str(value).strip()
    if not text:
        raise ValueError("use a name that is not empty")
    return text


def path(value: object) -> Path:
    """path"""
    text = str(value)
    if not text or "\0" in text:
        raise ValueError("use the path of a directory or file")
    try:
        return Path(text).expanduser().absolute()  # the program may change its working directory
    except RuntimeError:
        raise ValueError("there is no such user; use the path of a directory or file") from None


def words(value: object) -> tuple[str, ...]:
    """names, by comma"""
    if isinstance(value, (list, tuple, set, frozenset)):
        return tuple(str(word) for word in value)
    return tuple(word.strip() for word in str(value).split(",") if word.strip())


def hosts(value: object) -> tuple[str, ...]:
    """names, by comma"""
    hosts = words(value)
    for host in hosts:
        if not re.fullmatch(r"(?ia)\*|(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?|[0-9a-f]*:[0-9a-f:]+", host):
            raise ValueError(f"{host!r} is no host; use names such as api.example.com or *.example.com, without a port")
    return hosts


def patterns(value: object) -> tuple[str, ...]:
    """one per line"""
    is_text = not isinstance(value, (list, tuple, set, frozenset))
    patterns = words([line.strip() for line in str(value).splitlines() if line.strip()] if is_text else value)
    for pattern in patterns:
        try:
            matches_nothing = re.compile(pattern).search("")
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
        if matches_nothing:
            raise ValueError(f"{pattern!r} matches the empty text, and so everything; use one that does not")
    return patterns


def endpoint(value: object) -> str:
    """URL"""
    text = str(value).strip()  # read as a URL where the protocol is known: grpc takes a bare host and port
    if not text or any(character.isspace() for character in text):
        raise ValueError("use the URL of an OTLP receiver, such as http://localhost:4318")
    return text


_PLACES: Final = ("trace_id", "span_id", "sync_id")


def trace_url(value: object) -> str:
    """URL with `{trace_id}`"""
    text = str(value).strip()
    example = "http://localhost:16686/trace/{trace_id}?uiFind={span_id}"
    found = re.match(r"https?://([^/?#\s]+)", text, re.IGNORECASE)
    if found is None:
        raise ValueError(f"use an address that begins with http:// or https://, such as {example}")
    if "@" in found[1]:
        raise ValueError("leave user name and password out: the address is shown to whoever reads logs and reports")
    if not text.isprintable() or any(character.isspace() or character in "<>\"'`\\^|" for character in text):
        raise ValueError(f"use an address without spaces, quotes and control characters, such as {example}")
    try:
        places = [name for _, name, form, conversion in Formatter().parse(text) if name is not None]
        plain = not any(form or conversion for _, _, form, conversion in Formatter().parse(text))
    except ValueError:
        places, plain = [""], False
    if not plain or not set(places) <= set(_PLACES):
        said = ", ".join(f"{{{name}}}" for name in _PLACES)
        raise ValueError(f"use no braces but those of {said}; %7B and %7D stand for others")
    if "trace_id" not in places:
        raise ValueError(f"put {{trace_id}} where the trace's id goes, such as {example}")
    return text
