"""A log path that journals and shows nothing, as the program's own logging does that."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from contextvars import ContextVar
from functools import partial
from struct import Struct
from typing import Any, Final, NamedTuple

from opentelemetry.trace import Span, TraceFlags

from otelsync.bounds import MOST_ITEMS
from otelsync.journal.format import LOG
from otelsync.logs.failure_text import failure_text, is_failure
from otelsync.logs.fate import Fate
from otelsync.logs.fields import ExcInfo, complete, error_of
from otelsync.logs.output import Output
from otelsync.logs.path import LogPath
from otelsync.logs.record_bytes import ids_in, in_scope_logs, otlp_head
from otelsync.logs.stdlib_records import event_of, fields_of, logger_of, span_named_in
from otelsync.logs.verbosity import Levels
from otelsync.otlp import encoding as otlp
from otelsync.recording.scope import SyncScope
from otelsync.redaction import Redactor
from otelsync.text.presentable import text_of
from otelsync.vocabulary import EVENT_ID, SYNC_ID

_pack_times: Final = Struct("<BQBQ").pack
_SAMPLED: Final = int(TraceFlags.SAMPLED)
_IDS: Final = frozenset(("trace_id", "span_id", "sync_id"))
_ECHOES: Final = _IDS | {"logger", "level"}
_PLAIN_TYPES: Final = frozenset((str, int, float, bool, type(None)))
_HAS_ID: Final = otlp.text(0x0A, EVENT_ID) + b"\x12"
"""Bytes in the head of a record whose event is in a catalogue."""
_SHORT: Final = 128
_MANY: Final = 1024

_looking: ContextVar[bool] = ContextVar("otelsync_looking_at_record", default=False)
"""True if a record is being looked at. What its arguments' ``__str__`` logs meanwhile is not formatted by us as well:
records that log each other would be formatted twice at each depth."""


class Rendered(NamedTuple):
    """An event as the last processor rendered it, and the fields it was made of."""

    text: object
    fields: Mapping[str, Any]
    is_journalled: bool


rendered: ContextVar[Rendered | None] = ContextVar("otelsync_rendered", default=None)
"""The last event that was rendered: if the standard library gets its text next, it is still the same event."""


class JournalPath(LogPath):
    """A log path that shows nothing, as the program itself does, and adds ids where its formats find them.

    `level` is that of otelsync's own events, for all or by name; the program's records have passed its own.
    """

    renders = False

    def __init__(self, service: str, level: Levels, redactor: Redactor) -> None:
        super().__init__(service=service, level=level, output=Output(None), redactor=redactor)
        self._mark = "".join(service)  # an object of its own: records that have it have been here
        self._known_heads: dict[tuple[int, str], bytes] = {}

    def emit(
        self,
        level: int,
        logger: str,
        event: object,
        fields: Mapping[str, Any],
        span: Span | None = None,
        error: ExcInfo | None = None,
    ) -> None:
        """Journal one record. Never raises, but for what is the host's."""
        fate = Fate()
        try:
            text = event if type(event) is str else text_of(event)
            if not self._lets_all and f"{logger}.".startswith("otelsync.") and not self.is_shown(level, logger, text):
                return
            self._journal_it(level, logger, text, fields, span, error, fate)
        except BaseException as problem:
            given = (level, logger, text_of(event), fields, span, error)
            self._settle(problem, fate, partial(self._journal_it, *given))

    def keep(self, level: int, logger: str, event: str, fields: Mapping[str, Any], span: Span | None = None) -> None:
        """Journal one record whatever the levels say. Never raises, but for what is the host's."""
        fate = Fate()
        try:
            self._journal_it(level, logger, event, fields, span, None, fate)
        except BaseException as problem:
            given = (level, logger, event, fields, span, None)
            self._settle(problem, fate, partial(self._journal_it, *given))

    def _journal_it(
        self,
        level: int,
        logger: str,
        event: str,
        fields: Mapping[str, Any],
        span: Span | None,
        error: ExcInfo | None,
        fate: Fate,
    ) -> None:
        _, _, ids, scope = ids_in(span)
        if is_failure(logger, event):
            clean = {name: self.redactor.redact_value(name, value) for name, value in fields.items()}
            head = otlp_head(level, event, self.redactor.redact(failure_text(event, clean, scope.attributes)))
        else:
            head = self._head(level, event)
        self._append(logger, head, fields, ids, scope, error, fate)

    def forget_events(self) -> None:
        """Look up anew what is known of each event."""
        super().forget_events()
        self._known_heads.clear()

    def take(self, record: logging.LogRecord) -> None:
        """Journal a record of the standard library, and give it the attributes that formats may ask for.

        One that comes a second time was handed from logger to logger, or from process to process, and is left alone.
        Never raises, but for what is the host's.
        """
        fate = Fate()
        try:
            self._take(record, fate)
        except BaseException as problem:
            self._settle(problem, fate, partial(self._take_plainly, record))

    def _take(self, record: logging.LogRecord, fate: Fate) -> None:
        if "otelServiceName" in record.__dict__ and self._has_seen(record):
            fate.is_settled = True
            return
        trace_id, span_id, ids, scope = ids_in(None)
        if not trace_id and (span := span_named_in(record)) is not None:
            trace_id, span_id, ids, scope = ids_in(span)
        fields = fields_of(record)
        record.__dict__.update(
            otelTraceID=trace_id or "0",
            otelSpanID=span_id or "0",
            otelTraceSampled=bool(ids and ids[1] & _SAMPLED),
            otelServiceName=self._mark,
            otelSyncID=scope.attributes.get(SYNC_ID, "0"),
        )
        if _looking.get():
            self._append(
                logger_of(record), self._head(record.levelno, _plain_event_of(record)), {}, ids, scope, None, fate
            )
            return
        try:
            _looking.set(True)
            self._take_closely(record, fields, ids, scope, trace_id, fate)
            _looking.set(False)
        except BaseException:
            _looking.set(False)
            raise

    def _take_plainly(self, record: logging.LogRecord, fate: Fate) -> None:
        """Journal a record that could not be taken as it should be."""
        _, _, ids, scope = ids_in(None)
        head = self._head(record.levelno, event_of(record))
        self._append(logger_of(record), head, fields_of(record), ids, scope, error_of(record), fate)

    def _has_seen(self, record: logging.LogRecord) -> bool:
        service = record.__dict__.get("otelServiceName")
        if type(service) is not str:
            return False
        is_from_elsewhere = record.process is not None and record.process != os.getpid()
        return service is self._mark or (is_from_elsewhere and service == self._mark)

    def _take_closely(
        self,
        record: logging.LogRecord,
        fields: Mapping[str, Any],
        ids: bytes,
        scope: SyncScope,
        trace_id: str,
        fate: Fate,
    ) -> None:
        level, message = record.levelno, record.msg
        said = rendered.get()
        if said is not None and said.text is message:
            rendered.set(None)
            if said.is_journalled:
                fate.is_settled = True
                return
            fields = dict(said.fields)
            head = self._head(level, str(fields.pop("event", "")))
        elif not record.args and type(message) is str and len(message) <= _SHORT:
            head = self._known_head(level, message)
        else:
            head = self._head(level, event_of(record))
        if not _ECHOES.isdisjoint(fields):
            fields = _without_echoes(record, fields, trace_id)
        self._append(logger_of(record), head, fields, ids, scope, error_of(record), fate)

    def _head(self, level: int, event: str) -> bytes:
        """Return the bytes that a record of this level and event begins with."""
        return otlp_head(level, self.redactor.redact(event))

    def _known_head(self, level: int, event: str) -> bytes:
        """The same for a short event, which may come again."""
        head = self._known_heads.get((level, event))
        if head is None:
            if len(self._known_heads) >= _MANY:
                self._known_heads.clear()
            head = self._known_heads[level, event] = self._head(level, event)
        return head

    def _append(
        self,
        logger: str,
        head: bytes,
        fields: Mapping[str, Any],
        ids: bytes,
        scope: SyncScope,
        error: ExcInfo | None,
        fate: Fate,
    ) -> None:
        provider = self._provider
        if provider is None:
            return
        now = fate.now = fate.now or time.time_ns()
        parts = [_pack_times(0x09, now, 0x59, now), head, ids]
        if len(fields) > MOST_ITEMS:
            fields = self._bounded(fields)
        if fields or error is not None:
            fields = complete(fields, error, EVENT_ID if _HAS_ID in head else "", scope)
        if scope.keys.isdisjoint(fields):
            parts.append(scope.log_bytes)
        else:
            fields = {**scope.attributes, **fields}
        if fields:
            self._encoder.extend(parts, fields)
        record = (LOG, self._ref(logger), in_scope_logs(b"".join(parts)))
        if fate.error is None or not provider.journal.has_taken(record, fate.error):
            provider.journal.append(*record)
        fate.is_settled = True


def _without_echoes(record: logging.LogRecord, fields: Mapping[str, Any], trace_id: str) -> Mapping[str, Any]:
    """The fields without those that the record has anyway, and structlog has put into ``extra``, ours among them."""
    echoes = {"logger": record.name, "level": record.levelname.lower()}
    left = {key: value for key, value in fields.items() if key not in echoes or value != echoes[key]}
    if trace_id and fields.get("trace_id") == trace_id:
        return {key: value for key, value in left.items() if key not in _IDS}
    return left


def _plain_event_of(record: logging.LogRecord) -> str:
    """The message, without a call of anything that the program has written."""
    arguments = record.args if type(record.args) is tuple else (record.args or None,)
    if _PLAIN_TYPES.issuperset(map(type, (record.msg, *arguments))):
        return event_of(record)
    return record.msg if type(record.msg) is str else type(record.msg).__name__
