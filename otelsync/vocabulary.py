"""Every name that telemetry of a sync carries: span names, attribute keys, outcomes, actions and kinds, each once.

A constant of an attribute key or a span name is that name in capitals. Log events stand in their catalogue
(:mod:`otelsync.logs.own_events`), metrics in theirs (:mod:`otelsync.shipping.metrics.catalogue`), and what only one
integration says stands there.
"""

from __future__ import annotations

from typing import Final

# What becomes of an item, and of a stage

ACTIONS: Final = ("created", "updated", "unchanged", "skipped", "failed")
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
SYNC_RATE_LIMIT_WAIT: Final = "sync.rate_limit.wait"
SYNC_RETRY_WAIT: Final = "sync.retry.wait"

# The beginning of names that go on with a name of their own, and names as they lie in encoded spans

NAMED_PIPELINE: Final = f"{SYNC_PIPELINE} "
NAMED_REPO: Final = f"{SYNC_REPO} "
NAMED_API: Final = f"{SYNC_API} "
NAMED_STAGE: Final = f"{SYNC_STAGE} "
NAMED_PIPELINE_BYTES: Final = NAMED_PIPELINE.encode()
NAMED_REPO_BYTES: Final = NAMED_REPO.encode()
NAMED_API_BYTES: Final = NAMED_API.encode()
SYNC_PR_BYTES: Final = SYNC_PR.encode()

# Attributes of runs and stages

SYNC_ID: Final = "sync.id"
SYNC_PHASE: Final = "sync.phase"
SYNC_OUTCOME: Final = "sync.outcome"
SYNC_STAGE_KIND: Final = "sync.stage.kind"
SYNC_ATTEMPT: Final = "sync.attempt"
ERROR_TYPE: Final = "error.type"

# Attributes of items and their counts

SYNC_ACTION: Final = "sync.action"
SYNC_SKIP_REASON: Final = "sync.skip.reason"
SYNC_ITEMS_: Final = "sync.items."
"""The beginning of counts: an action, ``fetched``, or a name of the caller's follows."""
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
SYNC_API_KIND: Final = "sync.api.kind"
SYNC_API_PAGE: Final = "sync.api.page"
SYNC_RETRY_REASON: Final = "sync.retry.reason"
SYNC_RETRY_PLANNED_SECONDS: Final = "sync.retry.planned_seconds"
SYNC_RATE_LIMIT_KIND: Final = "sync.rate_limit.kind"
SYNC_RATE_LIMIT_LIMIT: Final = "sync.rate_limit.limit"
SYNC_RATE_LIMIT_PLANNED_SECONDS: Final = "sync.rate_limit.planned_seconds"
SYNC_RATE_LIMIT_REMAINING: Final = "sync.rate_limit.remaining"
SYNC_RATE_LIMIT_RESET: Final = "sync.rate_limit.reset"
SYNC_RATE_LIMIT_RESOURCE: Final = "sync.rate_limit.resource"
SYNC_RATE_LIMIT_RETRY_AFTER_SECONDS: Final = "sync.rate_limit.retry_after_seconds"
SYNC_RATE_LIMIT_TOKEN: Final = "sync.rate_limit.token"
SYNC_RATE_LIMIT_USED: Final = "sync.rate_limit.used"
SYNC_RATE_LIMIT_WAITED_SECONDS: Final = "sync.rate_limit.waited_seconds"
HTTP_REQUEST_METHOD: Final = "http.request.method"
HTTP_REQUEST_RESEND_COUNT: Final = "http.request.resend_count"
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
SERVER_ADDRESS: Final = "server.address"
URL_FULL: Final = "url.full"
URL_TEMPLATE: Final = "url.template"

# Attributes of tasks

CELERY_TASK_NAME: Final = "celery.task_name"
CELERY_RETRY_REASON: Final = "celery.retry.reason"
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

SYNC_PR_FOLDED: Final = "sync.pr.folded"
SYNC_ITEMS_FOLDED: Final = "sync.items.folded"
SYNC_SPANS_FOLDED: Final = "sync.spans.folded"
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
