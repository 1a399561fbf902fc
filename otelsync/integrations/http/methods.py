"""Methods of HTTP requests, as spans may be named by: a program can send any word as one."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from opentelemetry.util.http import sanitize_method

OTHER_METHOD: Final = "_OTHER"
"""Stands for a method that is none of the known ones. Source: semantic conventions of HTTP, ``http.request.method``."""


def known_method(method: str) -> str:
    """Return a method in capitals, or `OTHER_METHOD`, as the instrumentations of HTTP clients have it.

    >>> known_method("get"), known_method("FOO")
    ('GET', '_OTHER')
    """
    return _sanitized(method[:_LONGEST])


@lru_cache(64)
def _sanitized(method: str) -> str:
    return sanitize_method(method.strip()) or OTHER_METHOD


def span_name_of(method: str) -> str:
    """Return the part of a span's name that a known method stands for; ``HTTP`` if it is another.

    >>> span_name_of("GET"), span_name_of("_OTHER")
    ('GET', 'HTTP')
    """
    return "HTTP" if method == OTHER_METHOD else method


_LONGEST: Final = 32
