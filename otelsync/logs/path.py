"""One log path: a record from structlog or from the standard library is built, redacted, rendered and journalled once.

Records inside a span carry its ids. Standard output gets JSON, or coloured text on a terminal; the journal gets an OTLP
log record.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from struct import Struct
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import orjson
from opentelemetry.trace import Span

from otelsync.bounds import LONGEST_TEXT, MOST_ITEMS
from otelsync.hooks.host_errors import hand_back, has_entered
from otelsync.journal.format import ENCODE_ERROR, LOG
from otelsync.journal.native import native
from otelsync.levels import INFO, level_name
from otelsync.logs import own_events  # noqa: F401  # it declares what otelsync itself logs
from otelsync.logs.claims import name_a_group
from otelsync.logs.failure_text import failure_text
from otelsync.logs.fate import Fate
from otelsync.logs.fields import ExcInfo, as_rendered, complete, dumped, plain
from otelsync.logs.head import Head
from otelsync.logs.logger_version import version_of
from otelsync.logs.output import Output, Stream, complain, timestamp
from otelsync.logs.record_bytes import encoded_ids_in, in_scope_logs, otlp_head
from otelsync.logs.value_limit import encoder_of_logs
from otelsync.logs.verbosity import Levels
from otelsync.otlp.encoding import is_little
from otelsync.recording.runtime_context import CURRENT
from otelsync.recording.scope import EMPTY, LOG_TAG, SyncScope
from otelsync.redaction import Redactor
from otelsync.text.presentable import text_of
from otelsync.vocabulary import EVENT_ID

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from otelsync.logs.destination import Destination

_pack_times: Final = Struct("<BQBQ").pack
_SPAN_ID: Final = b'","span_id":"'
_MICROSECONDS: Final = tuple(b"%03d" % n for n in range(1000))


class LogPath:
    """The way of every record.

    Args:
        service: The service's name, in every record.
        level: The least level that is shown, for all records or by their names.
        output: Writes a finished record: JSON or text, with its line end.
        redactor: Takes secrets out.
        journal_level: The least level that is journalled, where that is another than the one that is shown.
    """

    renders = True
    """True if it shows records; if not, the program does."""
    level: int
    """The least level that goes anywhere."""
    level_changed: Callable[[int], object] | None = None
    """Is told of each change of that level."""
    context_variables: Mapping[str, object] = MappingProxyType({})
    """structlog's own registry of them, whose fields each record gets; empty as long as nobody binds any."""

    def __init__(
        self, *, service: str, level: int | Levels, output: Output, redactor: Redactor, journal_level: int | None = None
    ) -> None:
        self.service = service
        self._given = level if isinstance(level, Levels) else Levels(level)
        self._asked: Mapping[str, int] = {}
        self._journal_level = journal_level
        self.output = output
        self.redactor = redactor
        self._encoder, self._is_little = encoder_of_logs(LOG_TAG, redactor, as_rendered)
        self._provider: Destination | None = None
        self._resource: Resource | None = None
        self._refs: dict[str, int] = {}
        self._heads: dict[tuple[int, str, object], Head] = {}
        self._millisecond = (-1, b"")
        """The last millisecond, and what its lines begin with; one tuple, so that threads see both or neither."""
        self._fd = output.descriptor
        self._moves = output.is_standard
        is_plain = redactor.is_standard and self._is_little is is_little
        self._write_log = native.write_log if native and is_plain else None
        self._known = self._encoder.known
        self._use_levels()

    def set_level(self, level: int) -> None:
        """Change the least level that is shown; those by name stay."""
        self._given = Levels(level, self._given.others)
        self._use_levels()

    def set_level_of(self, logger: str, level: int) -> None:
        """Change the least level that is shown of one logger, and of those whose names begin so."""
        if logger == "root":
            self.set_level(level)
        else:
            self._given = Levels(self._given.least, {**self._given.others, logger: level})
            self._use_levels()

    def ask_for(self, levels: Mapping[str, int]) -> None:
        """Let levels by name go before those that were given at first; with none, those hold again."""
        self._asked = dict(levels)
        self._use_levels()
        said = ",".join(f"{name}={level_name(number)}" for name, number in levels.items())
        self.emit(INFO, "otelsync", "otelsync.verbosity.changed", {"levels": said})

    def _use_levels(self) -> None:
        self._levels = self._given.changed(self._asked)
        self._lets_all = not self._levels.others and self._journal_level is None
        """True if what passes `level` is shown: whoever calls has looked."""
        lowest = self._levels.lowest
        self.level = lowest if self._journal_level is None else min(lowest, self._journal_level)
        self._heads.clear()
        if self.level_changed is not None:
            self.level_changed(self.level)

    def forget_events(self) -> None:
        """Look up anew what is known of each event."""
        self._heads.clear()

    def is_shown(self, level: int, logger: str, event: str) -> bool:
        """Return whether a record is shown, if `level` has been passed."""
        return self._lets_all or level >= self._levels.of(logger, event)

    def journal_to(self, provider: Destination | None) -> None:
        """Journal every record from now on, under the provider's resource; None: render only."""
        self._refs.clear()
        self._heads.clear()
        self._provider = provider

    def write_to(self, stream: Stream) -> None:
        """Write to `stream` from now on, instead of to standard output; one that the program has named stays."""
        if self._moves:
            self.output = self.output.on(stream)
            self._fd = self.output.descriptor

    def emit(
        self,
        level: int,
        logger: str,
        event: object,
        fields: Mapping[str, Any],
        span: Span | None = None,
        error: ExcInfo | None = None,
    ) -> None:
        """Build, render and journal one record. Never raises, but for what is the host's."""
        now, fate = 0, None
        try:
            now = time.time_ns()
            if type(event) is not str:
                event = text_of(event)
            if len(event) > LONGEST_TEXT:  # it is not even hashed: that takes a second a gigabyte
                event = self.redactor.redact(event)
            if self.context_variables and (bound := sys.modules["structlog.contextvars"].get_contextvars()):
                fields = {**bound, **fields}
            head = self._heads.get((level, logger, event))
            if (
                self._write_log is not None
                and head is not None
                and error is None
                and not head.is_failure
                and not (head.id and EVENT_ID in fields)
                and self._write_natively(head, span, fields, now)
            ):
                return
            if head is None:
                head = self._new_head(level, logger, event)
                if head is None:
                    return
            fate = Fate(None, now)
            self._write(head, fields, span, error, fate)
        except BaseException as problem:
            given = (level, logger, event, fields, span, error)
            self._settle(problem, fate or Fate(None, now), partial(self._write_anew, *given))

    def keep(self, level: int, logger: str, event: str, fields: Mapping[str, Any], span: Span | None = None) -> None:
        """Journal one record whatever the levels say, and show it if they let it through. Never raises."""
        is_journalled = self._journal_level is not None and level >= self._journal_level
        if level >= self.level and (is_journalled or self.is_shown(level, logger, event)):
            self.emit(level, logger, event, fields, span)
        else:
            self.journal(level, logger, event, fields, span)

    def journal(
        self,
        level: int,
        logger: str,
        event: object,
        fields: Mapping[str, Any],
        span: Span | None = None,
        error: ExcInfo | None = None,
    ) -> None:
        """Journal one record whatever the levels say, and show nothing. Never raises, but for what is the host's."""
        if self._provider is None:
            return
        fate = Fate()
        try:
            self._write_hidden(level, logger, event, fields, span, error, fate)
        except BaseException as problem:
            given = (level, logger, event, fields, span, error)
            self._settle(problem, fate, partial(self._write_hidden, *given))

    def _settle(self, problem: BaseException, fate: Fate, again: Callable[[Fate], None]) -> None:
        """Journal a record though something was raised on the way, or count it as dropped; hand back the host's.

        Args:
            problem: What was raised.
            fate: What had become of the record by then.
            again: Does all of it once more.
        """
        provider = self._provider
        if provider is not None and not (fate.is_settled or has_entered(problem, provider.journal.append)):
            second = Fate(problem, fate.now)
            try:
                again(second)
            except BaseException as another:
                if not (second.is_settled or has_entered(another, provider.journal.append)):
                    provider.journal.drop(ENCODE_ERROR, LOG)
                    complain("a log record was lost", another)
                hand_back(another)
        hand_back(problem)

    def _write_anew(
        self,
        level: int,
        logger: str,
        event: object,
        fields: Mapping[str, Any],
        span: Span | None,
        error: ExcInfo | None,
        fate: Fate,
    ) -> None:
        head = self._new_head(level, logger, text_of(event))
        if head is not None:
            self._write(head, fields, span, error, fate)

    def _write_hidden(
        self,
        level: int,
        logger: str,
        event: object,
        fields: Mapping[str, Any],
        span: Span | None,
        error: ExcInfo | None,
        fate: Fate,
    ) -> None:
        text = self.redactor.redact(event if type(event) is str else text_of(event))
        hidden = Head(level, logger, text, self.service, self._ref(logger), is_shown=False)
        self._write(hidden, fields, span, error, fate)

    def _write_natively(self, head: Head, span: Span | None, fields: Mapping[str, Any], now: int) -> bool:
        """Let the C extension do it all, for a record inside a span of ours; False if it declines: nothing is written.

        It writes JSON to a descriptor, or to the journal alone.
        """
        current: Any = CURRENT.get() if span is None else span
        trace = getattr(current, "trace", None)  # one of our spans has it, and nothing else that is current
        if trace is None:
            return False
        fd = None
        if head.is_shown:
            fd = self._fd if self._fd >= 0 else self.output.shared_descriptor()
            if fd < 0 or not is_little(fields):
                return False
        scope, provider = current.scope or EMPTY, self._provider
        if provider is not None and (provider.encoders.append_span is None or provider.resource is not self._resource):
            return False
        try:
            rendered = b"" if fd is None else orjson.dumps(fields, plain, orjson.OPT_APPEND_NEWLINE)
        except (TypeError, ValueError, RecursionError) as error:
            hand_back(error)
            return False
        rest = self._write_log(  # type: ignore[misc]  # the caller has looked
            provider.journal if provider is not None else None,
            self._known,
            True,
            head.ref,
            fd,
            now,
            head.json,
            head.otlp,
            trace.hex_bytes,
            trace.log_head,
            current.id_bytes,
            scope.json_bytes,
            scope.log_bytes,
            scope.reserved,
            fields,
            rendered,
        )
        if rest is False and not name_a_group(fields):  # else the C extension would take them the next time
            self._encoder.learn(fields)
        elif rest is not True:
            self.output.write_line(rest)
        return rest is not False

    def _write(
        self,
        head: Head,
        fields: Mapping[str, Any],
        span: Span | None,
        error: ExcInfo | None,
        fate: Fate,
    ) -> None:
        """Journal and render a record, step by step."""
        now = fate.now = fate.now or time.time_ns()
        trace_id, span_id, ids, scope = encoded_ids_in(span)
        if len(fields) > MOST_ITEMS:
            fields = self._bounded(fields)
        is_apart = scope.reserved.isdisjoint(fields) and not name_a_group(fields)
        is_plain = error is None and is_apart and not (head.id and EVENT_ID in fields)
        if not is_plain:
            fields = complete(fields, error, head.id, scope)
        fields = self._journal(head, fields, scope, ids, fate)
        if not head.is_shown or fate.was_there:
            return
        if self.output.is_text:
            record = {"timestamp": timestamp(now), **head.record}
            if trace_id:
                record |= {"trace_id": trace_id.decode(), "span_id": span_id.decode()}
            self.output.write({**record, **scope.rendered, **fields})
            return
        if not is_plain and not scope.rendered.keys().isdisjoint(fields):
            scope, fields = EMPTY, {**scope.rendered, **fields}
        self.output.write_line(self._line(head, trace_id, span_id, scope, fields, now))

    def _bounded(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """The first of very many fields, without secrets; what says that there is an exception stays."""
        asked = {name: fields[name] for name in ("exc_info", "stack_info") if name in fields}
        if not asked:
            return self._encoder.clean(fields)
        return {**self._encoder.clean({name: each for name, each in fields.items() if name not in asked}), **asked}

    def _line(
        self, head: Head, trace_id: bytes, span_id: bytes, scope: SyncScope, fields: Mapping[str, Any], now: int
    ) -> bytes:
        """Render a line of JSON: what does not change from record to record is copied."""
        millisecond, line_start = self._millisecond
        if millisecond != now // 1_000_000:
            line_start = self._new_millisecond(now // 1_000_000)
        microseconds, carried = _MICROSECONDS[now // 1000 % 1000], scope.json_bytes
        carried, rest = (carried, dumped(fields)[1:]) if fields else (carried[:-1], b"}\n")
        if trace_id:
            return b"".join((line_start, microseconds, head.json, trace_id, _SPAN_ID, span_id, carried, rest))
        return b"".join((line_start, microseconds, head.json_outside, carried[1:], rest))

    def _new_millisecond(self, millisecond: int) -> bytes:
        """Render what the lines of one millisecond begin with."""
        second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(millisecond // 1000))
        line_start = f'{{"timestamp":"{second}.{millisecond % 1000:03d}'.encode()
        self._millisecond = (millisecond, line_start)
        return line_start

    def _journal(
        self, head: Head, fields: Mapping[str, Any], scope: SyncScope, ids: bytes, fate: Fate
    ) -> Mapping[str, Any]:
        """Journal the record; returns the fields free of secrets."""
        encoder = self._encoder
        redactions = encoder.redactions
        encoded: list[bytes] = []
        is_clean = not self._is_little(fields)
        if is_clean:
            fields = encoder.clean(fields)
        is_apart = scope.keys.isdisjoint(fields)
        carried, own = (scope.log_bytes, fields) if is_apart else (b"", {**scope.attributes, **fields})
        if is_clean:
            encoder.extend_with_clean(encoded, own)
        else:
            encoder.extend(encoded, own)
            if encoder.redactions != redactions:
                fields = {key: self.redactor.redact_value(key, value) for key, value in fields.items()}
        provider = self._provider
        if provider is not None:
            if provider.resource is not self._resource:
                self._heads.clear()
                head = self._new_head(head.level, head.logger, head.event) or head
            try:
                now, begins = fate.now, head.otlp
                if head.is_failure:
                    said = self.redactor.redact(failure_text(head.event, fields, scope.attributes))
                    begins = otlp_head(head.level, head.event, said)
                body = b"".join((_pack_times(0x09, now, 0x59, now), begins, ids, carried, *encoded))
                record = (LOG, head.ref, in_scope_logs(body))
                fate.was_there = fate.error is not None and provider.journal.has_taken(record, fate.error)
                if not fate.was_there:
                    provider.journal.append(*record)
                fate.is_settled = True
            except Exception as problem:
                hand_back(problem)
                if not has_entered(problem, provider.journal.append):
                    provider.journal.drop(ENCODE_ERROR, LOG)
                    complain("a log record was lost", problem)
                fate.is_settled = True
        return fields

    def _new_head(self, level: int, logger: str, event: str) -> Head | None:
        """Make the head of records of this level, logger and event; kept unless the event held a secret or is long.

        None: they go nowhere.
        """
        is_shown = self.is_shown(level, logger, event)
        if not is_shown and (self._journal_level is None or level < self._journal_level):
            return None
        clean = self.redactor.redact(event)
        ref = self._ref(logger) if self._provider is not None else 0
        head = Head(level, logger, clean, self.service, ref, is_shown=is_shown)
        if clean is event and len(event) <= 128:
            if len(self._heads) >= 1024:
                self._heads.clear()
            self._heads[level, logger, event] = head
        return head

    def _ref(self, logger: str) -> int:
        """The journal's number of a logger's scope."""
        provider = self._provider
        assert provider is not None
        if provider.resource is not self._resource:
            self._refs.clear()
            self._resource = provider.resource
        if logger not in self._refs:
            from opentelemetry.sdk.util.instrumentation import InstrumentationScope

            if len(self._refs) >= 1024:  # loggers named after data: the rest share a scope
                logger = "root"
            named = InstrumentationScope(logger, version_of(logger, provider.resource.attributes))
            self._refs[logger] = provider.define_scope(provider.resource, named)
        return self._refs[logger]
