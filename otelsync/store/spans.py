"""Spans as the store holds them: read one by one, told in a few words, and printed with OTLP/JSON's names."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any, Final, cast

from otelsync import vocabulary
from otelsync.store.schema import STATUS_ERROR
from otelsync.text.plurals import label
from otelsync.text.printable import printable
from otelsync.text.quantities import duration
from otelsync.vocabulary import API, BATCH, GROUP, STAGE, part_of

_NOTABLE_WAIT: Final = 0.1
"""Seconds in a queue that are worth a word."""
_LONGEST_WAIT: Final = 1e9
_LABELLED: Final = frozenset((STAGE, API, BATCH))
"""Sorts of spans that a name alone does not tell apart."""
_MOST_OWN: Final = 3
"""A caller's attributes that are shown of each."""
COLUMNS: Final = (
    "trace_id, span_id, parent_span_id, name, kind, start_ns, end_ns, status, status_message, attributes, events,"
    " links, trace_state, leaf"
)


@dataclass  # not frozen: that makes a million of them twice as slow
class StoredSpan:
    """A row of the table `spans`."""

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    kind: int
    start_ns: int
    end_ns: int | None
    status: int
    status_message: str | None
    attributes_json: str
    events_json: str | None
    links_json: str | None
    trace_state: str | None
    leaf: int = 0

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """By name."""
        return cast("dict[str, Any]", json.loads(self.attributes_json))

    @property
    def failed(self) -> bool:
        """True if its status is an error."""
        return self.status == STATUS_ERROR

    @property
    def running(self) -> bool:
        """True if it has begun and not ended, as far as is known."""
        return self.end_ns is None

    @property
    def outcome(self) -> str:
        """``sync.outcome``, else what the status says, as of most items. Printable."""
        outcome = printable(self.attributes.get(vocabulary.SYNC_OUTCOME, ""), 12)
        if outcome in (vocabulary.SUCCESS, vocabulary.FAILURE) and vocabulary.part_of(self.name)[0] == vocabulary.ITEM:
            outcome = ""
        return "running" if self.running else outcome or ("failed" if self.failed else "")

    @property
    def detail(self) -> str:
        """Details that tell it from others of its kind: id, page, action, ... Printable."""
        waits = self.attributes.get(vocabulary.SYNC_STAGE_KIND) == vocabulary.WAITING
        return " ".join([*details(self.attributes), *(["waiting"] if waits else [])])

    def label(self, around: Mapping[str, object]) -> str:
        """The first attributes that a caller gave it, unless what is `around` it has them too. Printable."""
        return own_label(self.name, self.attributes, around)

    @property
    def group(self) -> str:
        """The innermost group that it is, or is in: a repo's name, ``customer GREYSON``. Printable; empty for none."""
        sort, kind = part_of(self.name)
        groups = ((kind, self.name.partition(" ")[2]),) if sort == GROUP else vocabulary.groups_of(self.attributes)
        return group_text(*groups[-1]) if groups else ""

    @property
    def attempt(self) -> str:
        """Of the run of a task: which attempt it is, how long it was in the queue, why it was put back. Printable."""
        return ", ".join(_attempt(self.attributes))

    @property
    def mark(self) -> str:
        """The first part of `detail`; empty if there is none. Printable."""
        return next(details(self.attributes), "")

    @property
    def error(self) -> str:
        """Its error, in a line. Printable."""
        kind = self.attributes.get(vocabulary.ERROR_TYPE, "")
        message = self.status_message or ""
        if not message:
            return printable(kind or "failed", 400)
        if kind and not message.startswith(str(kind)):
            message = f"{kind}: {message}"
        return printable(message, 400)

    def duration_ns(self, until: int) -> int:
        """Nanoseconds from start to end, or to `until` while it runs."""
        return max((until if self.end_ns is None else self.end_ns) - self.start_ns, 0)


def group_text(kind: str, name: str) -> str:
    """``customer GREYSON``; a repo's name alone, which says what it is. Printable."""
    return printable(name, 40) if kind == "repo" else f"{label(kind)} {printable(name, 40)}"


def own_label(name: str, attributes: Mapping[str, object], around: Mapping[str, object]) -> str:
    """Return the first attributes that a caller gave a stage, call or batch, in a few words, as they were set.

    Args:
        name: The span's name.
        attributes: The span's, in the order of setting.
        around: Attributes of the stage around. What both have was bound further out, and tells nobody apart.
    """
    if part_of(name)[0] not in _LABELLED:
        return ""
    own = ((key, value) for key, value in attributes.items() if "." not in key and _is_plain(value))
    told = (f"{printable(key, 24)}={printable(value, 24)}" for key, value in own if around.get(key) != value)
    return " ".join(islice(told, _MOST_OWN))


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float) and value != ""


def corrected(span: StoredSpan, outcomes: Mapping[str, str]) -> StoredSpan:
    """Return a span with its outcome by the run's account, where its process could not know it."""
    outcome = outcomes.get(span.span_id)
    if outcome is None:
        return span
    status = STATUS_ERROR if outcome in (vocabulary.FAILURE, vocabulary.INTERRUPTED) else span.status
    attributes = span.attributes | {vocabulary.SYNC_OUTCOME: outcome}
    message = span.status_message or ("all its parts failed" if outcome == vocabulary.FAILURE else None)
    return replace(span, status=status, status_message=message, attributes_json=json.dumps(attributes))


def read(store: sqlite3.Connection, rest: str, parameters: Sequence[object] = ()) -> Iterator[StoredSpan]:
    """The spans of a query, of which `rest` is what follows ``SELECT ... FROM spans``."""
    return (StoredSpan(*row) for row in store.execute(f"SELECT {COLUMNS} FROM spans {rest}", parameters))


def otlp_json(span: StoredSpan) -> dict[str, Any]:
    """A span with the field names of OTLP/JSON, and its attributes as a plain object.

    Times are decimal strings of unix nanoseconds. ``endTimeUnixNano`` is ``"0"`` while the span runs, and
    ``parentSpanId`` is ``""`` where there is none, as in OTLP. Events and links are there if there are any.
    """
    fields: dict[str, Any] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "parentSpanId": span.parent_span_id,
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.end_ns or 0),
        "status": {"code": span.status} | ({"message": span.status_message} if span.status_message else {}),
        "attributes": span.attributes,
    }
    if span.trace_state:
        fields["traceState"] = span.trace_state
    if span.events_json:
        fields["events"] = json.loads(span.events_json)
    if span.links_json:
        fields["links"] = json.loads(span.links_json)
    return fields


def otlp_texts(
    store: sqlite3.Connection, rest: str, parameters: Sequence[object], outcomes: Mapping[str, str]
) -> Iterator[str]:
    """The spans of a query as JSON, each what `otlp_json` says; ten times as fast, for those who want all of them.

    `outcomes`: as of `corrected`.
    """
    for row in store.execute(f"SELECT {COLUMNS} FROM spans {rest}", parameters):
        trace_id, span_id, parent, name, kind, start, end, status, message, attributes, *others, _ = row
        if span_id in outcomes or message or any(others) or not attributes.isascii() or "\x7f" in attributes:
            yield json_line(otlp_json(corrected(StoredSpan(*row), outcomes)))
        else:
            yield (
                f'{{"traceId":"{trace_id}","spanId":"{span_id}","parentSpanId":"{parent}","name":{json_line(name)},'
                f'"kind":{kind},"startTimeUnixNano":"{start}","endTimeUnixNano":"{end or 0}",'
                f'"status":{{"code":{status}}},"attributes":{attributes}}}'
            )


def json_array(texts: Iterable[str]) -> Iterator[str]:
    """A JSON array in pieces, one item a line."""
    opening = "[\n"
    for text in texts:
        yield opening + text
        opening = ",\n"
    yield "[]\n" if opening == "[\n" else "\n]\n"


def json_line(item: object) -> str:
    """Compact JSON of printable ASCII."""
    return json.dumps(item, separators=(",", ":")).replace("\x7f", "\\u007f")


def details(attributes: Mapping[str, object]) -> Iterator[str]:
    """Yield details that tell spans of a kind from each other: id, page, action, ... Printable."""
    number = attributes.get(vocabulary.VCS_CHANGE_ID)
    if number is not None:
        yield "#" + printable(number, 20)
    key = attributes.get(vocabulary.SYNC_ITEM_ID)
    if key not in (None, ""):
        yield printable(key, 40)
    for key, before in _LABELS:
        value = attributes.get(key)
        if value not in (None, "", "failed"):  # that something failed is said once, as its outcome
            yield before + printable(value, 40)


def _attempt(attributes: dict[str, Any]) -> Iterator[str]:
    """Of the run of a task: which attempt it is, how long it was due and waited for a worker, why it was put back."""
    attempt = attributes.get(vocabulary.SYNC_ATTEMPT)
    if isinstance(attempt, int) and attempt > 1:
        yield f"attempt {attempt}"
    if attributes.get(vocabulary.SYNC_REDELIVERED) is True:
        yield "redelivered"
    waited = attributes.get(vocabulary.SYNC_QUEUE_WAIT_SECONDS)
    if isinstance(waited, int | float) and _NOTABLE_WAIT <= waited < _LONGEST_WAIT:
        yield f"queued {duration(int(waited * 1e9))}"
    reason = attributes.get(vocabulary.CELERY_RETRY_REASON)
    if isinstance(reason, str) and reason:
        yield f"because {printable(reason, 60)}"


_LABELS: Final = (
    (vocabulary.SYNC_API_PAGE, "page="),
    (vocabulary.SYNC_BATCH_NUMBER, "number="),
    (vocabulary.SYNC_BATCH_SIZE, "size="),
    (vocabulary.HTTP_RESPONSE_STATUS_CODE, ""),
    ("http.status_code", ""),
    (vocabulary.SYNC_ACTION, ""),
    (vocabulary.SYNC_SKIP_REASON, "because "),
)
