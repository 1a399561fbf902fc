"""The catalogues of log events, as lines for a terminal, as JSON and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from otelsync.logs import own_events
from otelsync.logs.events import Catalogue, Event, catalogues
from otelsync.text.paint import Line, Piece
from otelsync.text.printable import pad, printable

_STYLES = {"debug": "dim", "warning": "yellow", "error": "bold red", "critical": "bold red"}
_WIDEST = 32
"""Cells of an event's name, before the columns behind it give way."""
_ABOUT = """\
# Log events

Made by `make docs` from `otelsync/logs/own_events.py`. A record of one of these events has its `id`, rendered and by
OTLP. An id has one meaning for ever: it is never given to another event. [Log records](logging.md) says how to declare
events of your own. Fields that every record can have are left out, and `...` stands for fields that the caller names.
"""
_MESSAGES = """\
## Messages

What otelsync says of itself, in words, through the standard library's logging. `%s` and its like are filled in.
"""


def own() -> list[Catalogue]:
    """otelsync's own catalogues."""
    return [each for each in catalogues() if each.source.partition(".")[0] == own_events.__name__.partition(".")[0]]


def lines(shown: Iterable[Catalogue]) -> Iterator[Line]:
    """One an event, in columns: id, level, name, fields, what it says. Messages come last."""
    for event in sorted(chain.from_iterable(shown), key=lambda event: event.is_message):
        name = printable(event)
        yield [
            Piece(f"{event.id}  ", "bold"),
            Piece(pad(event.level, 7) + "  ", _STYLES.get(event.level, "")),
            Piece(pad(name, _WIDEST) + "  " if len(name) <= _WIDEST else name + "  "),
            Piece(f"{printable(_fields(event))}  " if event.fields or event.is_open else "", "dim"),
            Piece(printable(event.says)),
        ]


def as_json(shown: Iterable[Catalogue]) -> str:
    """A list of objects: id, name, level, fields, open, says, source."""
    described = [
        {
            "id": event.id,
            "name": str(event),
            "level": event.level,
            "fields": list(event.fields),
            "open": event.is_open,
            "says": event.says,
            "source": event.source,
        }
        for event in chain.from_iterable(shown)
    ]
    return json.dumps(described, indent=2)


def markdown(shown: Sequence[Catalogue] | None = None) -> str:
    """A page: a table of the events, and one of the messages; of otelsync's own by default."""
    events = [*chain.from_iterable(own() if shown is None else shown)]
    named = [event for event in events if not event.is_message]
    messages = [event for event in events if event.is_message]
    parts = [_ABOUT if shown is None else "# Log events\n", *_table(("id", "event", "level", "fields", ""), named)]
    if messages:
        parts += ["", _MESSAGES, *_table(("id", "message", "level", ""), messages)]
    return "\n".join(parts)


def _table(columns: Sequence[str], events: Iterable[Event]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for event in events:
        cells = {"fields": ", ".join(f"`{name}`" for name in _fields(event).split(", ") if name)}
        cells |= {"id": f"`{event.id}`", "level": event.level, "": _cell(event.says)}
        name = "`" + _cell(event).replace("`", "'") + "`"
        yield "| " + " | ".join(cells.get(column, name) for column in columns) + " |"


def _cell(text: str) -> str:
    return printable(text).replace("|", "\\|")


def _fields(event: Event) -> str:
    return ", ".join([*event.fields, *(["..."] if event.is_open else [])])
