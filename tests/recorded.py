"""A configured otelsync, and what it has recorded and logged so far."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import trace_tree
from trace_tree import Line, Node

import otelsync
from otelsync.in_force import settings as configured


class Recorded:
    """otelsync with a home of its own; nothing is shipped unless asked for.

    Args:
        home: Where journals and the store go.
        options: Of ``otelsync.configure()``.
    """

    def __init__(self, home: Path, **options: Any) -> None:
        self.home = home
        self.output = io.BytesIO()
        given = {"service_name": "test", "home": home, "ship": "off", "log_format": "json", "log_level": "DEBUG"}
        otelsync.configure(**{"log_stream": self.output, **given, **options})
        settings = configured()
        assert settings is not None
        self.settings = settings

    @property
    def journal(self) -> Path:
        """The journal's directory."""
        return self.settings.journal

    @property
    def spans(self) -> list[Node]:
        """The spans of the journal, as they ended."""
        return trace_tree.spans_in_journal(self.journal)

    @property
    def logs(self) -> list[Line]:
        """The log records of the journal."""
        return trace_tree.logs_in_journal(self.journal)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The rendered log records."""
        return [json.loads(line) for line in self.output.getvalue().splitlines()]

    @property
    def text(self) -> str:
        """The rendered log records as they stand."""
        return self.output.getvalue().decode()

    def span(self, name: str) -> Node:
        """The only span of that name."""
        (found,) = [node for node in self.spans if node.name == name]
        return found

    def line(self, event: str) -> dict[str, Any]:
        """The only rendered record of that event."""
        (found,) = [line for line in self.lines if line["event"] == event]
        return found

    def tree(self, *shown: str, events: bool = False, roll: int = 3) -> str:
        """The whole of what was traced, drawn; see :func:`trace_tree.draw`."""
        return "\n" + trace_tree.draw(self.spans, *shown, events=events, roll=roll)
