"""Every name that telemetry of a sync carries: span names, attribute keys, outcomes, actions and kinds, each once.

A constant of an attribute key or a span name is that name in capitals. Log events stand in their catalogue
(:mod:`otelsync.logs.own_events`), metrics in theirs (:mod:`otelsync.shipping.metrics.catalogue`), and what only one
integration says stands there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

# What becomes of an item, and of a stage

FAILED: Final = "failed"
"""The action of an item that ended in failure."""
ACTIONS: Final = ("created", "updated", "unchanged", "skipped", FAILED)
"""Possible fates of an item; the items fetched are their sum."""

SUCCESS: Final = "success"
PARTIAL: Final = "partial"
FAILURE: Final = "failure"
CANCELLED: Final = "cancelled"
INTERRUPTED: Final = "interrupted"
RETRY: Final = "retry"
"""The outcome of an attempt that another one follows."""
RUNNING: Final = "running"
"""Of a run that has no outcome yet."""

OUTCOMES: Final = (SUCCESS, PARTIAL, FAILURE, INTERRUPTED, CANCELLED, RUNNING)
"""Outcomes that views show of a run."""

# Spans: the name, or what it begins with before a space and a name of its own

SYNC_PIPELINE: Final = "sync.pipeline"
"""Also the attribute of everything inside a run: the pipeline's name."""
SYNC_REPO: Final = "sync.repo"
"""Also the attribute of everything inside a repository's share: the repository's name."""
SYNC_API: Final = "sync.api"
SYNC_PR: Final = "sync.pr"
SYNC_STAGE: Final = "sync.stage"
SYNC_BATCH: Final = "sync.batch"
SYNC_RATE_LIMIT_WAIT: Final = "sync.rate_limit.wait"
SYNC_RETRY_WAIT: Final = "sync.retry.wait"

# The beginning of names that go on with a name of their own, and names as they lie in encoded spans

NAMED_PIPELINE: Final = f"{SYNC_PIPELINE} "
NAMED_REPO: Final = f"{SYNC_REPO} "
NAMED_API: Final = f"{SYNC_API} "
NAMED_STAGE: Final = f"{SYNC_STAGE} "
NAMED_BATCH: Final = f"{SYNC_BATCH} "
NAMED_PIPELINE_BYTES: Final = NAMED_PIPELINE.encode()
NAMED_REPO_BYTES: Final = NAMED_REPO.encode()
NAMED_API_BYTES: Final = NAMED_API.encode()
NAMED_BATCH_BYTES: Final = NAMED_BATCH.encode()
SYNC_PR_BYTES: Final = SYNC_PR.encode()

# Attributes of runs and stages

SYNC_ID: Final = "sync.id"
SYNC_PHASE: Final = "sync.phase"
SYNC_OUTCOME: Final = "sync.outcome"
SYNC_STAGE_KIND: Final = "sync.stage.kind"
SYNC_ATTEMPT: Final = "sync.attempt"
ERROR_TYPE: Final = "error.type"
CORRELATION_ID: Final = "correlation_id"
"""The id of what a request or a message began, on all spans and records inside, and its key in baggage and messages."""

SYNC_COMPLETED: Final = "sync.completed"
"""True on a stage whose end the shipper wrote, with what other processes recorded below it."""
SYNC_REQUIRED: Final = "sync.required"
"""False on a part that may fail."""
SYNC_ERROR_PASSED: Final = "sync.error.passed"
"""True on a stage that failed by an exception which arose further inside."""
SYNC_PARTS: Final = "sync.parts"
"""Number of direct parts of a stage that failed because all of them did."""
SYNC_PARTS_FAILED: Final = "sync.parts.failed"
SYNC_PART_KEY: Final = "sync.part.key"
"""Digest of what a part is, on one that failed and on one that makes a failure good."""
SYNC_RECOVERED: Final = "sync.recovered"
"""Number of failures of the same part that this one makes good."""
SYNC_GROUP_KIND: Final = "sync.group.kind"
SYNC_GROUP_NAME: Final = "sync.group.name"
SYNC_BATCH_NUMBER: Final = "sync.batch.number"
SYNC_BATCH_SIZE: Final = "sync.batch.size"

# Attributes of items and their counts

SYNC_ACTION: Final = "sync.action"
SYNC_SKIP_REASON: Final = "sync.skip.reason"
SYNC_ITEMS_: Final = "sync.items."
"""The beginning of counts: an action, ``fetched``, or a name of the caller's follows."""
SYNC_COUNTED_: Final = "sync.counted."
"""The beginning of counts that a caller made by hand on this very stage."""
SYNC_ITEM_KIND: Final = "sync.item.kind"
SYNC_ITEM_ID: Final = "sync.item.id"
SYNC_ITEM_STATE: Final = "sync.item.state"
SYNC_ITEM_TITLE: Final = "sync.item.title"
VCS_CHANGE_ID: Final = "vcs.change.id"
VCS_CHANGE_STATE: Final = "vcs.change.state"
VCS_CHANGE_TITLE: Final = "vcs.change.title"
VCS_OWNER_NAME: Final = "vcs.owner.name"
VCS_PROVIDER_NAME: Final = "vcs.provider.name"
VCS_REF_HEAD_NAME: Final = "vcs.ref.head.name"
VCS_REPOSITORY_NAME: Final = "vcs.repository.name"
VCS_REPOSITORY_URL_FULL: Final = "vcs.repository.url.full"

# Attributes of API calls, retries and rate limits

SYNC_API_ATTEMPTS: Final = "sync.api.attempts"
SYNC_API_OPERATION: Final = "sync.api.operation"
"""The API call that a request is part of, where its span does not stand below the call's."""
SYNC_API_KIND: Final = "sync.api.kind"
SYNC_API_PAGE: Final = "sync.api.page"
SYNC_RETRY_REASON: Final = "sync.retry.reason"
SYNC_RETRY_PLANNED_SECONDS: Final = "sync.retry.planned_seconds"
SYNC_RATE_LIMIT_ASSUMED: Final = "sync.rate_limit.assumed"
"""True where nobody has told when the limit is reset, and the usual wait is assumed."""
SYNC_RATE_LIMIT_HOST: Final = "sync.rate_limit.host"
SYNC_RATE_LIMIT_KIND: Final = "sync.rate_limit.kind"
SYNC_RATE_LIMIT_LIMIT: Final = "sync.rate_limit.limit"
SYNC_RATE_LIMIT_OTHERS: Final = "sync.rate_limit.others"
"""Further limits of the same response, as text (see :mod:`otelsync.text.limits`)."""
SYNC_RATE_LIMIT_PLANNED_SECONDS: Final = "sync.rate_limit.planned_seconds"
SYNC_RATE_LIMIT_REMAINING: Final = "sync.rate_limit.remaining"
SYNC_RATE_LIMIT_RESET: Final = "sync.rate_limit.reset"
SYNC_RATE_LIMIT_RESOURCE: Final = "sync.rate_limit.resource"
SYNC_RATE_LIMIT_RETRY_AFTER_SECONDS: Final = "sync.rate_limit.retry_after_seconds"
SYNC_RATE_LIMIT_TOKEN: Final = "sync.rate_limit.token_fingerprint"
SYNC_RATE_LIMIT_USED: Final = "sync.rate_limit.used"
SYNC_RATE_LIMIT_WAITED_SECONDS: Final = "sync.rate_limit.waited_seconds"
HTTP_REQUEST_METHOD: Final = "http.request.method"
HTTP_REQUEST_METHOD_ORIGINAL: Final = "http.request.method_original"
HTTP_REQUEST_RESEND_COUNT: Final = "http.request.resend_count"
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
NETWORK_PEER_ADDRESS: Final = "network.peer.address"
NETWORK_PEER_PORT: Final = "network.peer.port"
NETWORK_PROTOCOL_VERSION: Final = "network.protocol.version"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
URL_FULL: Final = "url.full"
URL_PATH: Final = "url.path"
URL_SCHEME: Final = "url.scheme"
URL_TEMPLATE: Final = "url.template"
USER_AGENT_ORIGINAL: Final = "user_agent.original"
USER_AGENT_SYNTHETIC_TYPE: Final = "user_agent.synthetic.type"

# Attributes of tasks

CELERY_TASK_NAME: Final = "celery.task_name"
CELERY_RETRY_REASON: Final = "celery.retry.reason"
MESSAGING_MESSAGE_ID: Final = "messaging.message.id"
MESSAGING_SYSTEM: Final = "messaging.system"
SYNC_QUEUE_PLANNED_DELAY_SECONDS: Final = "sync.queue.planned_delay_seconds"
SYNC_QUEUE_WAIT_SECONDS: Final = "sync.queue.wait_seconds"
SYNC_REDELIVERED: Final = "sync.redelivered"
SYNC_RUN_SECONDS: Final = "sync.run_seconds"
SYNC_TASKS_: Final = "sync.tasks."
"""The beginning of the counts of a dispatched pipeline's tasks: ``succeeded``, ``failed`` or ``cancelled`` follows."""
SYNC_TASKS_SUCCEEDED: Final = "sync.tasks.succeeded"
SYNC_TASKS_FAILED: Final = "sync.tasks.failed"
SYNC_TASKS_CANCELLED: Final = "sync.tasks.cancelled"

# Attributes of spans that stand for others

FOLDED: Final = ".folded"
"""The end of the name of a span that stands for items of a kind: ``sync.pr.folded``. It is none of these itself."""
SYNC_ITEMS_FOLDED: Final = "sync.items.folded"
SYNC_SPANS_FOLDED: Final = "sync.spans.folded"
SYNC_SPAN_ID: Final = "sync.span_id"
"""The span of a log record that names another one, as its own was folded."""
SYNC_LINK: Final = "sync.link"
SYNC_REPLACED: Final = "sync.replaced"

# Log records, resources and recorded exceptions

EVENT_ID: Final = "id"
"""The field of a record with its event's number in the catalogue."""
SERVICE_NAME: Final = "service.name"
SERVICE_NAMESPACE: Final = "service.namespace"
SERVICE_INSTANCE_ID: Final = "service.instance.id"
HOST_NAME: Final = "host.name"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"

# How readers tell parts apart: by the name of their span

PIPELINE: Final = "pipeline"
GROUP: Final = "group"
ITEM: Final = "item"
BATCH: Final = "batch"
STAGE: Final = "stage"
API: Final = "api"
WAITING: Final = "waiting"
"""Sorts of spans of a sync; the last one is also a kind of stage."""

PARTS: Final = frozenset((GROUP, ITEM, BATCH, STAGE, API))
"""Sorts that make up what encloses them."""

_FIXED: Final = {PIPELINE: PIPELINE, API: API, STAGE: STAGE, BATCH: BATCH}
_LONGEST_KIND: Final = 41
_LONGEST_HEAD: Final = 240
"""Bytes of the first word of an encoded name."""
_PART: Final = re.compile(r"sync\.([^.]+)", re.ASCII)
_NAMED_STAGE: Final = re.compile(r"sync\.[^.]+\..+", re.ASCII)
"""A stage whose name is the span's whole name, such as ``sync.api.graphql``."""
_RESERVED: Final = frozenset(
    (
        *("action", "api", "attempt", "batch", "completed", "counted", "error", "id", "items"),
        *("link", "outcome", "parts", "phase", "pipeline", "queue", "recovered"),
        *("redelivered", "replaced", "required", "retry", "run_seconds", "skip", "spans", "stage", "tasks"),
    )
)
"""Words behind ``sync.`` that mean something already."""
_OURS: Final = b"sync."
_ODD: Final = re.compile(r"[^a-z0-9_]+")


def part_of(name: str) -> tuple[str, str]:
    """Return the sort and the kind of a span, by its name; two empty texts for what is none of ours.

    >>> part_of("sync.customer GREYSON"), part_of("sync.pr"), part_of("sync.api list"), part_of("sync.retry.wait")
    (('group', 'customer'), ('item', 'pr'), ('api', 'api'), ('waiting', 'retry.wait'))
    """
    head, space, _ = name.partition(" ")
    return _part_of(head, bool(space)) if head.startswith("sync.") and len(head) < 60 else ("", "")


@lru_cache(1_024)
def _part_of(head: str, has_name: bool) -> tuple[str, str]:
    if head in (SYNC_RATE_LIMIT_WAIT, SYNC_RETRY_WAIT):
        return ("", "") if has_name else (WAITING, head.removeprefix("sync."))
    found = _PART.fullmatch(head)
    if found is None or len(found[1]) > _LONGEST_KIND:
        is_stage = not has_name and not head.endswith(FOLDED) and _NAMED_STAGE.fullmatch(head)
        return (STAGE, STAGE) if is_stage else ("", "")
    kind = found[1]
    if has_name:
        return _FIXED.get(kind, GROUP), kind
    return (ITEM, kind) if kind not in _RESERVED else ("", "")


def is_item(name: bytes) -> bool:
    """Return whether a span is an item's, by its encoded name. Quick, as most spans are."""
    return name == SYNC_PR_BYTES or (name.startswith(_OURS) and b" " not in name and _sort(name, False) == ITEM)


def is_group(name: bytes) -> bool:
    """Return whether a span is a group's, by its encoded name."""
    head, space, _ = name.partition(b" ")
    return bool(space) and head.startswith(_OURS) and _sort(head, True) == GROUP


def _sort(head: bytes, has_name: bool) -> str:
    return _known_sort(head, has_name) if len(head) < _LONGEST_HEAD else ""


@lru_cache(1_024)
def _known_sort(head: bytes, has_name: bool) -> str:
    return part_of(head.decode("utf-8", "replace") + " " * has_name)[0]


@lru_cache(1_024)
def group_kind(key: str) -> str:
    """Return the kind of group that an attribute names, which everything inside carries; empty if it names none.

    >>> group_kind("sync.customer"), group_kind("sync.outcome"), group_kind("sync.item.id"), group_kind("sync.repo_")
    ('customer', '', '', '')
    """
    kind = key.removeprefix("sync.")
    if kind.endswith("_") and kind[:-1] not in _RESERVED:  # a caller's field that was called like a group's: no kind
        return ""
    return kind if kind != key and _part_of(key, False) == (ITEM, kind) else ""


def groups_of(attributes: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """Return kind and name of each group that a span or record is in, the outermost first, as scopes write them."""
    named = ((key, value) for key, value in attributes.items() if key.startswith("sync.") and isinstance(value, str))
    return tuple((group_kind(key), value) for key, value in named if group_kind(key))


@lru_cache(1_024)
def kind_word(kind: str) -> str:
    """Return a caller's kind of group or item as one lower-case word that means nothing else in a span's name.

    >>> kind_word("Board Group"), kind_word("pipeline"), kind_word("")
    ('board_group', 'pipeline_', 'part')
    """
    word = _ODD.sub("_", kind.lower()).strip("_")[:40] or "part"
    return f"{word}_" if word in _RESERVED else word
