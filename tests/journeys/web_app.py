"""A WSGI application that records a run for each request, configured where the server imports it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import otelsync

if "CONFIGURED" not in os.environ:  # else by `otelsync run`
    otelsync.configure(service_name="web", log_level="ERROR")


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Record the request whose number is its path."""
    number = int(environ["PATH_INFO"].strip("/"))
    with otelsync.pipeline("request", number=number) as run, otelsync.item("order", number):
        otelsync.get_logger("web").info("handled", number=number)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {run.trace_id}".encode()]
