"""Fan-outs: which groups of a trace go out in traces of their own, and how those are linked with the pipeline's.

A group is a repo, a customer, or of whatever kind a sync has; of groups inside others only the outermost is divided
off. Decided once, when a group begins, by the shipper's own pass over the journals, which no endpoint holds up. Spans
and log records name their groups, so whoever comes later, for whichever sink, needs nothing but the decision.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

from otelsync.digests import blake2b
from otelsync.journal.batch import Batch, Group
from otelsync.otlp.decoding import LeanSpan, lean_logs, untagged
from otelsync.otlp.encoding import field as encoded_field
from otelsync.shipping.folding.budget import SPENT, Budget
from otelsync.vocabulary import SYNC_LINK, SYNC_REPO, is_group, part_of

MOST_TRACES: Final = 64
"""Traces with groups that are remembered."""
MOST_KINDS: Final = 64
"""Kinds of groups that are."""
GROUPS: Final = 200
"""Each group is reckoned with this part of the budget at least: many may begin before the first of them has spans."""

_REPO_KEY: Final = SYNC_REPO.encode()


class FanOuts:
    """The decisions, by trace."""

    def __init__(self) -> None:
        self.traces: OrderedDict[bytes, set[str]] = OrderedDict()
        """The groups that stay, each as a digest of its name: a name may be as long as it likes."""
        self.full: set[bytes] = set()
        """The traces of which all other groups have traces of their own."""
        self.kinds: dict[bytes, None] = {_REPO_KEY: None}
        """Keys of the attributes that name groups, as far as one has begun: a caller may bind others like them."""

    def add(self, trace_id: bytes, inside: set[str], *, is_full: bool = False) -> None:
        """Take over what was decided before."""
        self.traces[trace_id] = inside
        if is_full:
            self.full.add(trace_id)
        while len(self.traces) > MOST_TRACES:
            self.full.discard(self.traces.popitem(last=False)[0])

    def begin(self, span: LeanSpan, budget: Budget) -> None:
        """Decide about a group that begins, by what of its trace's budget is used."""
        trace_id = span.trace_id
        if len(self.kinds) < MOST_KINDS:
            self.kinds.setdefault(_key_of(span))
        key, group = self._outermost(span.attributes)
        if key != _key_of(span):
            return
        if trace_id not in self.traces:
            self.add(trace_id, set())
        self.traces.move_to_end(trace_id)
        inside, digest = self.traces[trace_id], _digest(group)
        if trace_id in self.full or digest in inside:
            return
        if max(budget.used, len(inside) / GROUPS) >= SPENT:
            self.full.add(trace_id)
        else:
            inside.add(digest)

    def home(self, trace_id: bytes, attributes: Sequence[bytes]) -> bytes:
        """The id of the trace in which a span or log record with these attributes goes out."""
        if trace_id in self.full:
            _, group = self._outermost(attributes)
            if group and _digest(group) not in self.traces[trace_id]:
                return own_trace(trace_id, group)
        return trace_id

    def is_outermost(self, span: LeanSpan) -> bool:
        """Return whether a span is a group's that is in no other group."""
        return is_group(span.name) and self._outermost(span.attributes)[0] == _key_of(span)

    def _outermost(self, attributes: Sequence[bytes]) -> tuple[bytes, bytes]:
        """Return the key of the attribute that names the outermost group, and bytes that no other group has."""
        for pair in attributes:
            key = pair[2 : 2 + pair[1]] if len(pair) > 2 else b""
            if key in self.kinds:
                return key, pair[len(key) + 3 :] if key == _REPO_KEY else pair
        return b"", b""


def _key_of(span: LeanSpan) -> bytes:
    """Return the key of the attribute with a group's name, which is also the first word of its span's."""
    return span.name.partition(b" ")[0]


def own_trace(trace_id: bytes, group: bytes) -> bytes:
    """The id of a group's own trace: the same wherever and whenever it is asked for."""
    return blake2b(trace_id + group, digest_size=16, person=b"otelsync repo").digest()


def moved(body: bytes, trace_id: bytes) -> bytes:
    """A span, as the journal holds it, in another trace."""
    at = len(body) - len(untagged(body))
    if body[at : at + 2] == b"\x0a\x10":  # how the writer begins every span
        return body[: at + 2] + trace_id + body[at + 18 :]
    spans = ScopeSpans.FromString(body)
    spans.spans[0].trace_id = trace_id
    return spans.SerializeToString()


def divided(body: bytes, trace_id: bytes) -> tuple[bytes, bytes]:
    """A group's span as the root of a trace of its own, and its stand-in in the pipeline's, linked with each other."""
    try:
        root = ScopeSpans.FromString(body).spans[0]
    except DecodeError:  # text that is not UTF-8: it goes without links
        return moved(body, trace_id), body
    stand_in = Span()
    stand_in.CopyFrom(root)
    root.trace_id = trace_id
    root.parent_span_id = b""
    root.links.append(_link(stand_in.trace_id, stand_in.parent_span_id, "pipeline"))
    stand_in.ClearField("events")
    stand_in.ClearField("links")
    stand_in.links.append(_link(trace_id, root.span_id, part_of(root.name)[1]))
    return encoded_field(0x12, root.SerializeToString()), encoded_field(0x12, stand_in.SerializeToString())


def logs_at_home(batches: Sequence[Batch], fan_outs: FanOuts) -> list[Batch]:
    """Log records with the ids of the traces in which their spans go out."""
    return [
        Batch(batch.journal, batch.start, batch.end, [_group_at_home(group, fan_outs) for group in batch.groups])
        for batch in batches
    ]


def _group_at_home(group: Group, fan_outs: FanOuts) -> Group:
    logs = list(group.logs)
    for number, log in enumerate(lean_logs(logs)):
        if log is not None and log.trace_id in fan_outs.full:
            home = fan_outs.home(log.trace_id, log.attributes)
            if home != log.trace_id:
                logs[number] = _moved_log(logs[number], home)
    return Group(group.resource, group.scope, logs=logs)


def _moved_log(body: bytes, trace_id: bytes) -> bytes:
    try:
        logs = ScopeLogs.FromString(body)
    except DecodeError:
        return body
    logs.log_records[0].trace_id = trace_id
    return logs.SerializeToString()


def _digest(group: bytes) -> str:
    return blake2b(group, digest_size=8).hexdigest()


def _link(trace_id: bytes, span_id: bytes, stage: str) -> Span.Link:
    about = KeyValue(key=SYNC_LINK, value=AnyValue(string_value=stage))
    return Span.Link(trace_id=trace_id, span_id=span_id, attributes=[about])
