"""The events that the application logs."""

from __future__ import annotations

import otelsync

_catalogue = otelsync.Catalogue("gs", source=__name__)

PUT_BACK = _catalogue.event(
    1,
    "sync.repository.put_back",
    level="info",
    fields=("repository", "seconds", "reason"),
    says="The task of a repository waits in the broker.",
)
BUSY = _catalogue.event(
    2, "sync.repository.busy", level="info", fields=("repository",), says="Another task syncs it just now."
)
PHASE = _catalogue.event(
    3, "onboarding.phase", level="info", fields=("team", "phase"), says="An onboarding has got so far."
)
LLM_BATCH_QUEUED = _catalogue.event(
    20, "llm.batch.queued", level="warning", fields=("batch", "size", "reason"), says="A batch waits for a later task."
)
LLM_BATCH_COMPLETED = _catalogue.event(
    21,
    "llm.batch.completed",
    level="info",
    fields=("batch", "size", "answered", "input_tokens", "output_tokens", "dollars"),
    says="The model has answered a batch.",
)
LLM_BATCH_FAILED = _catalogue.event(
    22, "llm.batch.failed", level="error", fields=("batch", "size", "reason"), says="The model will not answer a batch."
)
PARTIAL_DATA = _catalogue.event(
    4,
    "github.partial_data",
    level="info",
    fields=("problems",),
    says="A query could have only a part of what it asked for.",
)
