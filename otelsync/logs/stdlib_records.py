"""Contents of a record of the standard library's logging: its event, its fields, and the span it is about."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Final

from opentelemetry.trace import Span, get_current_span

from otelsync.bounds import LONGEST_TEXT, MOST_ITEMS, is_light, shown
from otelsync.hooks.host_errors import hand_back
from otelsync.logs import events
from otelsync.recording.scope import redactor
from otelsync.text.presentable import presentable, text_of
from otelsync.vocabulary import EVENT_ID

ID_NAMES: Final = ("otelTraceID", "otelSpanID", "otelTraceSampled", "otelServiceName", "otelSyncID")
"""Attributes that formats refer to: those of ``opentelemetry-instrumentation-logging``, and one of our own."""

_PLAIN: Final = frozenset(logging.makeLogRecord({}).__dict__)
_NO_FIELDS: Final = _PLAIN | {"message", "asctime", "taskName", *ID_NAMES}
"""``message`` and ``asctime`` are left by formatters, ``taskName`` came with Python 3.12."""

finders: Final[list[Callable[[logging.LogRecord], Span | None]]] = []
"""Functions that know the span of a record that is written outside any."""
_NO_ARGUMENTS: Final = object()


def span_about(record: logging.LogRecord) -> Span | None:
    """The span that a record is about, if it is written outside any and somebody knows."""
    if not finders or get_current_span().get_span_context().is_valid:
        return None
    return span_named_in(record)


def span_named_in(record: logging.LogRecord) -> Span | None:
    """The same for a record of which it is known that no span is current."""
    return next((span for find in finders if (span := find(record)) is not None), None)


def logger_of(record: logging.LogRecord) -> str:
    """Return the name of the logger; one that was made by hand may have none, or one that is no text."""
    name = record.name
    return name if type(name) is str else "root" if name is None else text_of(name)


def event_of(record: logging.LogRecord) -> str:
    """The message with its arguments; where they do not fit, both as they are. Never raises."""
    try:
        if record.args and not are_light(record.args):
            return str(shown(record.msg) % with_light(record.args))
        if type(record.msg) is not str and not is_light(record.msg):
            return shown(record.msg)
        return record.getMessage()
    except Exception as error:
        hand_back(error)
        return formatted(text_of(record.msg), record.args)


def formatted(message: str, arguments: Any) -> str:
    """A message with arguments of which one has no text, or does not fit: as far as they can be shown. Never raises."""
    try:
        if isinstance(arguments, dict):
            arguments = {key: presentable(argument) for key, argument in arguments.items()}
        elif isinstance(arguments, tuple):
            arguments = tuple(map(presentable, arguments))
        return str(message % arguments)
    except Exception as error:
        hand_back(error)
        return f"{message} {text_of(presentable(arguments))}"


def are_light(arguments: Any) -> bool:
    """Return whether a message with these arguments is formatted in no time."""
    if type(arguments) is tuple:
        return all(type(each) in _SMALL or is_light(each) for each in arguments)
    return is_light(arguments)


def with_light(arguments: Any) -> Any:
    """Arguments of a message, with a part of each whose text is very long in its place."""
    if type(arguments) is tuple:
        return tuple(map(_light, arguments))
    some = {key: _light(each) for key, each in islice(arguments.items(), MOST_ITEMS)}
    return some if is_light(some) else (shown(some),)


def _light(argument: Any) -> Any:
    if type(argument) is str:
        return redactor().shorten(argument, LONGEST_TEXT // 2)
    return argument if is_light(argument) else shown(argument)


_SMALL: Final = frozenset((float, bool, type(None)))


def fields_of(record: logging.LogRecord) -> Mapping[str, Any]:
    """Return the caller's ``extra``, and the stack if it was asked for.

    The mapping that the message was made from is no field as well: Celery gives it as both, with the arguments of tasks
    and whole tracebacks in it. A message whose format stands in a catalogue has its id as a field.
    """
    state = record.__dict__
    further = len(state) - len(_PLAIN)
    if further == 1 and record.args:
        last = next(reversed(state))
        if state[last] is record.args and last not in _PLAIN:
            further = 0
    known = events.known.get(record.msg) if record.args and type(record.msg) is str else None
    if not further and record.stack_info is None:  # nearly every record
        return {EVENT_ID: known.id} if known is not None else {}
    arguments = record.args or _NO_ARGUMENTS
    fields = {key: value for key, value in state.items() if key not in _NO_FIELDS and value is not arguments}
    if record.stack_info:
        fields["stack"] = record.stack_info
    return {**fields, EVENT_ID: known.id} if known is not None else fields
