"""The events that otelsync itself logs, in a catalogue for each source file.

``otelsync events --check`` holds the source to this list, and the list to the source. A catalogue is named by its
prefix, so that a declaration reads as the event's id.
"""

from __future__ import annotations

from typing import Final

from otelsync.logs.events import Catalogue

_COUNTS: Final = ("fetched", "created", "updated", "unchanged", "skipped", "failed")
_ENDED: Final = ("outcome", "duration_ms", *_COUNTS, "error", ...)
"""Fields of a stage's end; a caller can count under names of its own."""

# Stages

_st = Catalogue("st", source="otelsync.stages.kinds", retired=(13, 14, 15))
_st.event(1, "sync.pipeline.started", level="info", fields=("pipeline", ...), says="A run of a sync begins.")
_st.event(2, "sync.pipeline.phase_changed", level="info", fields=("phase",), says="The run is in another phase.")
_st.event(3, "sync.pipeline.completed", level="info", fields=_ENDED, says="The run has ended, at least in part well.")
_st.event(4, "sync.pipeline.failed", level="error", fields=_ENDED, says="The run has failed.")
_st.event(5, "sync.repo.started", level="info", fields=(...,), says="A repository's share of the run begins.")
_st.event(6, "sync.repo.completed", level="info", fields=_ENDED, says="The repository is done, at least in part.")
_st.event(7, "sync.repo.failed", level="error", fields=_ENDED, says="The repository could not be done.")
_st.event(8, "sync.api.request", level="debug", fields=("operation", ...), says="A call of an API begins.")
_st.event(
    9,
    "sync.api.completed",
    level="debug",
    fields=("operation", *_ENDED),
    says="The call has ended, with all that was done with what it brought.",
)
_st.event(10, "sync.api.failed", level="error", fields=("operation", *_ENDED), says="The call has failed.")

_FATE: Final = ("action", "outcome", "duration_ms")
_st.event(
    11,
    "sync.pr.processed",
    level="debug",
    fields=("number", *_FATE, ...),
    says="A pull request is done; `action` says what became of it.",
)
_st.event(
    12,
    "sync.pr.failed",
    level="error",
    fields=("number", *_FATE, "error", ...),
    says="A pull request could not be done.",
)
_GROUP: Final = ("kind", "name")
_st.event(16, "sync.group.started", level="info", fields=(*_GROUP, ...), says="A group's share of the run begins.")
_st.event(
    17, "sync.group.completed", level="info", fields=(*_GROUP, *_ENDED), says="A group is done, at least in part."
)
_st.event(18, "sync.group.failed", level="error", fields=(*_GROUP, *_ENDED), says="The group could not be done.")
_ITEM: Final = ("kind", "key", *_FATE)
_st.event(
    19,
    "sync.item.processed",
    level="debug",
    fields=(*_ITEM, ...),
    says="An item is done; `action` says what became of it.",
)
_st.event(20, "sync.item.failed", level="error", fields=(*_ITEM, "error", ...), says="An item could not be done.")
_BATCH: Final = ("name", "number", "size")
_st.event(21, "sync.batch.started", level="info", fields=(*_BATCH, ...), says="A batch begins.")
_st.event(
    22, "sync.batch.completed", level="info", fields=(*_BATCH, *_ENDED), says="A batch is done, at least in part."
)
_st.event(23, "sync.batch.failed", level="error", fields=(*_BATCH, *_ENDED), says="The batch could not be done.")

_pg = Catalogue("pg", source="otelsync.stages.progress", retired=(5, 6))
_ESTIMATE: Final = ("eta_low_seconds", "eta_high_seconds", "waits_ahead_seconds")
_PROGRESS: Final = ("done", "total", "percent", *_ESTIMATE, *_COUNTS, ...)
_pg.event(1, "sync.repo.progress", level="info", fields=_PROGRESS, says="How far a repository is; said now and then.")
_pg.event(2, "sync.pipeline.progress", level="info", fields=_PROGRESS, says="How far the run is, in what it tracks.")
_pg.event(3, "sync.stage.progress", level="info", fields=_PROGRESS, says="How far another stage is, such as batches.")
_pg.event(4, "sync.api.progress", level="info", fields=_PROGRESS, says="How far a call is with what it brought.")
_pg.event(7, "sync.group.progress", level="info", fields=_PROGRESS, says="How far a group is; said now and then.")
_pg.event(8, "sync.batch.progress", level="info", fields=_PROGRESS, says="How far a batch is, in what it tracks.")

# Calls and limits

_rl = Catalogue("rl", source="otelsync.stages.rate_limits")
_LIMIT: Final = ("host", "resource", "remaining", "limit", "reset_seconds", "token_fingerprint")
_rl.event(
    1,
    "sync.rate_limit.observed",
    level="info",
    fields=_LIMIT,
    says="A limit is seen for the first time, has another size or window, or a tenth of it less is left.",
)
_rl.event(2, "sync.rate_limit.low", level="warning", fields=_LIMIT, says="A limit is nearly used up.")
_rl.event(3, "sync.rate_limit.exhausted", level="warning", fields=_LIMIT, says="A limit is used up.")
_rl.event(4, "sync.rate_limit.waiting", level="info", fields=("kind", "planned_seconds"), says="A limit is waited for.")
_rl.event(
    5, "sync.retry.waiting", level="debug", fields=("reason", "planned_seconds"), says="The next try is waited for."
)

_hc = Catalogue("hc", source="otelsync.integrations.http.calls")
_RETRY: Final = ("reason", "attempt", "status", "error_type", "wait_seconds", ...)
_hc.event(1, "sync.api.retry", level="info", fields=_RETRY, says="A request came to nothing and is sent again.")

_nd = Catalogue("nd", source="otelsync.stages.nodes")
_FAILED: Final = ("duration_ms",)
_nd.event(1, "node_start", level="info", says="A node of a graph begins; `node` is its name.")
_nd.event(
    2,
    "node_complete",
    level="info",
    fields=("duration_ms", "state_updates"),
    says="The node has returned; `state_updates` are the keys of what it returned.",
)
_nd.event(3, "node_failed", level="error", fields=_FAILED, says="The node has raised.")
_nd.event(4, "tool_execution_start", level="info", says="A tool is called; `tool_name` is its name.")
_nd.event(
    5,
    "tool_execution_complete",
    level="info",
    fields=("duration_ms", "result_type"),
    says="The tool has returned.",
)
_nd.event(6, "tool_execution_failed", level="error", fields=_FAILED, says="The tool has raised.")

_mw = Catalogue("mw", source="otelsync.middleware.request")
_mw.event(
    1,
    "http_request",
    level="info",
    fields=("method", "path", "status_code", "duration_ms"),
    says="A request to this service has been answered; without a `status_code` it was broken off.",
)

_dp = Catalogue("dp", source="otelsync.doctor.probe")
_dp.event(
    1, "otelsync.probe", level="info", fields=("otelsync.probe",), says="`otelsync doctor` sends it, to see it arrive."
)

_lg = Catalogue("lg", source="otelsync.logs.path")
_lg.event(
    1, "otelsync.verbosity.changed", level="info", fields=("levels",), says="Other levels hold; none: those of before."
)
