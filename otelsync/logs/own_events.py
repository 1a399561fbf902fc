"""The events that otelsync itself logs, in a catalogue for each source file.

``otelsync events --check`` holds the source to this list, and the list to the source.
"""

from __future__ import annotations

from typing import Final

from otelsync.logs.events import Catalogue

_COUNTS: Final = ("fetched", "created", "updated", "unchanged", "skipped", "failed")
_ENDED: Final = ("outcome", "duration_ms", *_COUNTS, "error", ...)
"""Fields of a stage's end; a caller can count under names of its own."""

# Stages

_stages = Catalogue("st", source="otelsync.stages.kinds", retired=(13, 14, 15))
_stages.event(1, "sync.pipeline.started", level="info", fields=("pipeline", ...), says="A run of a sync begins.")
_stages.event(2, "sync.pipeline.phase_changed", level="info", fields=("phase",), says="The run is in another phase.")
_stages.event(
    3, "sync.pipeline.completed", level="info", fields=_ENDED, says="The run has ended, at least in part well."
)
_stages.event(4, "sync.pipeline.failed", level="error", fields=_ENDED, says="The run has failed.")
_stages.event(5, "sync.repo.started", level="info", fields=(...,), says="A repository's share of the run begins.")
_stages.event(6, "sync.repo.completed", level="info", fields=_ENDED, says="The repository is done, at least in part.")
_stages.event(7, "sync.repo.failed", level="error", fields=_ENDED, says="The repository could not be done.")
_stages.event(8, "sync.api.request", level="debug", fields=("operation", ...), says="A call of an API begins.")
_stages.event(
    9,
    "sync.api.completed",
    level="debug",
    fields=("operation", *_ENDED),
    says="The call has ended, with all that was done with what it brought.",
)
_stages.event(10, "sync.api.failed", level="error", fields=("operation", *_ENDED), says="The call has failed.")
_PR: Final = ("number", "action", "outcome", "duration_ms")
_stages.event(
    11,
    "sync.pr.processed",
    level="debug",
    fields=(*_PR, ...),
    says="A pull request is done; `action` says what became of it.",
)
_stages.event(
    12, "sync.pr.failed", level="error", fields=(*_PR, "error", ...), says="A pull request could not be done."
)

_progress = Catalogue("pg", source="otelsync.stages.progress", retired=(5, 6))
_PROGRESS: Final = (
    *("done", "total", "percent", "eta_low_seconds", "eta_high_seconds", "waits_ahead_seconds"),
    *_COUNTS,
    ...,
)
_progress.event(
    1, "sync.repo.progress", level="info", fields=_PROGRESS, says="How far a repository is; said now and then."
)
_progress.event(
    2, "sync.pipeline.progress", level="info", fields=_PROGRESS, says="How far the run is, in what it tracks."
)
_progress.event(
    3, "sync.stage.progress", level="info", fields=_PROGRESS, says="How far another stage is, such as batches."
)
_progress.event(4, "sync.api.progress", level="info", fields=_PROGRESS, says="How far a call is with what it brought.")

# Calls and limits

_rate_limits = Catalogue("rl", source="otelsync.stages.rate_limits")
_LIMIT: Final = ("host", "resource", "remaining", "limit", "reset_seconds", "token_fingerprint")
_rate_limits.event(
    1,
    "sync.rate_limit.observed",
    level="info",
    fields=_LIMIT,
    says="A limit is seen for the first time, has another size or window, or a tenth of it less is left.",
)
_rate_limits.event(2, "sync.rate_limit.low", level="warning", fields=_LIMIT, says="A limit is nearly used up.")
_rate_limits.event(3, "sync.rate_limit.exhausted", level="warning", fields=_LIMIT, says="A limit is used up.")
_rate_limits.event(
    4, "sync.rate_limit.waiting", level="info", fields=("kind", "planned_seconds"), says="A limit is waited for."
)
_rate_limits.event(
    5, "sync.retry.waiting", level="debug", fields=("reason", "planned_seconds"), says="The next try is waited for."
)

_calls = Catalogue("hc", source="otelsync.integrations.http.calls")
_calls.event(
    1,
    "sync.api.retry",
    level="info",
    fields=("reason", "attempt", "status", "error_type", "wait_seconds", ...),
    says="A request came to nothing and is sent again.",
)

_probe = Catalogue("dp", source="otelsync.doctor.probe")
_probe.event(
    1, "otelsync.probe", level="info", fields=("otelsync.probe",), says="`otelsync doctor` sends it, to see it arrive."
)

_logs = Catalogue("lg", source="otelsync.logs.path")
_logs.event(
    1, "otelsync.verbosity.changed", level="info", fields=("levels",), says="Other levels hold; none: those of before."
)
