"""Fan-outs: which repos of a trace go out in traces of their own, and how those are linked with the pipeline's.

Decided once, when a repo begins, by the shipper's own pass over the journals, which no endpoint holds up. Spans and log
records name their repo, so whoever comes later, for whichever sink, needs nothing but the decision.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

from otelsync.journal.batch import Batch, Group
from otelsync.otlp.decoding import lean_logs, untagged
from otelsync.otlp.encoding import field as encoded_field
from otelsync.shipping.folding.budget import SPENT, Budget
from otelsync.vocabulary import NAMED_REPO_BYTES, SYNC_LINK

REPO: Final = NAMED_REPO_BYTES
"""The beginning of the names of repos' spans."""
MOST_TRACES: Final = 64
"""Traces with repos that are remembered."""
REPOS: Final = 200
"""Each repo is reckoned with this part of the budget at least: many may begin before the first of them has spans."""

_REPO_KEY: Final = b"\x0a\x09sync.repo\x12"
"""The beginning of the KeyValue message whose key is ``sync.repo``."""


class FanOuts:
    """The decisions, by trace."""

    def __init__(self) -> None:
        self.traces: OrderedDict[bytes, set[str]] = OrderedDict()
        """The repos that stay, each as a digest of its name: a name may be as long as it likes."""
        self.full: set[bytes] = set()
        """The traces of which all other repos have traces of their own."""

    def add(self, trace_id: bytes, inside: set[str], *, is_full: bool = False) -> None:
        """Take over what was decided before."""
        self.traces[trace_id] = inside
        if is_full:
            self.full.add(trace_id)
        while len(self.traces) > MOST_TRACES:
            self.full.discard(self.traces.popitem(last=False)[0])

    def begin(self, trace_id: bytes, attributes: Sequence[bytes], budget: Budget) -> None:
        """Decide about a repo that begins, by what of its trace's budget is used."""
        repo = repo_of(attributes)
        if repo is None:
            return
        if trace_id not in self.traces:
            self.add(trace_id, set())
        self.traces.move_to_end(trace_id)
        inside, key = self.traces[trace_id], _digest(repo)
        if trace_id in self.full or key in inside:
            return
        if max(budget.used, len(inside) / REPOS) >= SPENT:
            self.full.add(trace_id)
        else:
            inside.add(key)

    def home(self, trace_id: bytes, attributes: Sequence[bytes]) -> bytes:
        """The id of the trace in which a span or log record with these attributes goes out."""
        if trace_id in self.full:
            repo = repo_of(attributes)
            if repo is not None and _digest(repo) not in self.traces[trace_id]:
                return own_trace(trace_id, repo)
        return trace_id


def repo_of(attributes: Sequence[bytes]) -> bytes | None:
    """The repo that a span or log record says it is of, as the encoded value; None if it is of none."""
    for pair in attributes:
        if pair.startswith(_REPO_KEY):
            return pair[len(_REPO_KEY) :]
    return None


def own_trace(trace_id: bytes, repo: bytes) -> bytes:
    """The id of a repo's own trace: the same wherever and whenever it is asked for."""
    return blake2b(trace_id + repo, digest_size=16, person=b"otelsync repo").digest()


def moved(body: bytes, trace_id: bytes) -> bytes:
    """A span, as the journal holds it, in another trace."""
    at = len(body) - len(untagged(body))
    if body[at : at + 2] == b"\x0a\x10":  # how the writer begins every span
        return body[: at + 2] + trace_id + body[at + 18 :]
    spans = ScopeSpans.FromString(body)
    spans.spans[0].trace_id = trace_id
    return spans.SerializeToString()


def divided(body: bytes, trace_id: bytes) -> tuple[bytes, bytes]:
    """A repo's span as the root of a trace of its own, and its stand-in in the pipeline's, linked with each other."""
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
    stand_in.links.append(_link(trace_id, root.span_id, "repo"))
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


def _digest(repo: bytes) -> str:
    return blake2b(repo, digest_size=8).hexdigest()


def _link(trace_id: bytes, span_id: bytes, stage: str) -> Span.Link:
    about = KeyValue(key=SYNC_LINK, value=AnyValue(string_value=stage))
    return Span.Link(trace_id=trace_id, span_id=span_id, attributes=[about])
