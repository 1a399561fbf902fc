"""otelsync's own catalogues, one a source file: the events of a sync, and what otelsync says of itself.

Events have a name and fields. Messages are lines for whoever runs a program, written by the standard library's logging
and known by their format. ``otelsync events --check`` holds the source to this list, and it to the source.
"""

from __future__ import annotations

from typing import Final

from otelsync.logs.events import Catalogue

_COUNTS: Final = ("fetched", "created", "updated", "unchanged", "skipped", "failed")
_ENDED: Final = ("outcome", "duration_ms", *_COUNTS, "error", ...)
"""What the end of a stage says; a caller can count under names of its own."""

# Stages

_stages = Catalogue("st", source="otelsync.stages.stage")
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
_stages.event(
    11,
    "sync.pr.processed",
    level="debug",
    fields=("number", "action", "outcome", "duration_ms", ...),
    says="A pull request is done; `action` says what became of it.",
)
_stages.event(
    12,
    "sync.pr.failed",
    level="error",
    fields=("number", "action", "outcome", "duration_ms", "error", ...),
    says="A pull request could not be done.",
)
_stages.event(13, "count(%s=%r): not a whole number, so it is not counted", level="warning", says="Mend the caller.")
_stages.event(
    14,
    "pipeline %r: what was counted after dispatch() is lost; count before it",
    level="warning",
    says="The tasks count for themselves, and the pipeline up to dispatch().",
)
_stages.event(
    15,
    "pipeline %r goes on, though %s left its block",
    level="warning",
    says="It was dispatched, so its tasks decide how it ends.",
)

_progress = Catalogue("pg", source="otelsync.stages.progress")
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
_progress.event(5, "progress could not be told", level="debug", says="The work itself goes on.")
_progress.event(
    6, "total=%r: not a whole number, so the total counts as not known", level="warning", says="Mend the caller."
)

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

# What otelsync says of itself

_logs = Catalogue("lg", source="otelsync.logs.path")
_logs.event(
    1, "otelsync.verbosity.changed", level="info", fields=("levels",), says="Other levels hold; none: those of before."
)
_verbosity = Catalogue("vb", source="otelsync.logs.verbosity")
_verbosity.event(1, "%s is left alone: %s", level="warning", says="The file of `otelsync verbosity` cannot be read.")

_configuration = Catalogue("cf", source="otelsync.configuration")
_configuration.event(
    1,
    "otelsync is already configured; this call of configure() changes nothing",
    level="debug",
    says="The first call counts.",
)
_configuration.event(
    2,
    "otelsync run ships what this program records, and not to %s: set OTEL_EXPORTER_OTLP_ENDPOINT for it",
    level="warning",
    says="The endpoint that the program asks for is not the one of `otelsync run`.",
)
_configuration.event(
    3,
    "a %s is already set as OpenTelemetry's tracer provider and stays: spans go where it sends them and are "
    "not journalled; log records are, with its ids. Call otelsync.configure() first to have both.",
    level="warning",
    says="Another library has set up OpenTelemetry before.",
)
_configuration.event(
    4,
    "%d spans and %d log records were lost, as %s cannot be written",
    level="warning",
    says="No journal file could be made, so no ledger knows of them.",
)
_configuration.event(5, "shutdown at exit failed", level="debug", says="What is left stays in the journal.")
_configuration.event(
    6,
    "no reports are made, as runs are not kept in the local store: set OTELSYNC_STORE=on",
    level="warning",
    says="OTELSYNC_REPORTS=on asks for them, and they are made from the local store.",
)

_bootstrap = Catalogue("bs", source="otelsync.run.bootstrap")
_bootstrap.event(
    1, "otelsync cannot instrument this program", level="warning", says="It runs as it would without otelsync."
)
_bootstrap.event(
    2,
    "otelsync records nothing of this program: %s",
    level="warning",
    says="A setting cannot work, or a file is amiss.",
)

_installed = Catalogue("in", source="otelsync.run.installed")
_installed.event(
    1, "the instrumentation %s cannot be used", level="warning", says="What its package says of it cannot be read."
)
_installed.event(
    2, "%s is not recorded: %s", level="warning", says="The installed version is none that its instrumentation is for."
)
_installed.event(3, "%s is not there to be recorded: %s", level="debug", says="It is not installed.")
_installed.event(
    4, "%s is not recorded: its instrumentation cannot be loaded", level="warning", says="Its import has failed."
)
_installed.event(5, "the entry point %s of %s has failed", level="warning", says="The program goes on without it.")

_instrumentation = Catalogue("is", source="otelsync.integrations.instrumentation")
_instrumentation.event(
    1, "%s is not recorded: its instrumentation has failed", level="warning", says="The library works as before."
)

_harmless = Catalogue("ha", source="otelsync.hooks.harmless")
_harmless.event(
    1,
    "%s failed; the call that it was part of goes on",
    level="debug",
    says="Something of ours failed, and the host's call did not.",
)
_when_imported = Catalogue("wi", source="otelsync.hooks.when_imported")
_when_imported.event(
    1, "what was to follow the import of %s failed", level="debug", says="The library works, and is not recorded."
)
_attendance = Catalogue("at", source="otelsync.run.attendance")
_attendance.event(1, "the run could not be closed in order", level="debug", says="Its records stay in the journal.")

_trace_headers = Catalogue("th", source="otelsync.integrations.http.trace_headers")
_trace_headers.event(
    1,
    "the host of %r cannot be told, so it gets no trace headers",
    level="debug",
    says="A span says of its host what cannot be read.",
)
_observation = Catalogue("so", source="otelsync.logs.structlog_observation")
_observation.event(
    1, "an event of structlog could not be journalled", level="debug", says="The program's own output has it."
)

# Recording

_span = Catalogue("sp", source="otelsync.recording.span")
_span.event(1, "Setting attribute on ended span.", level="warning", says="As the OpenTelemetry SDK says it.")
_span.event(2, "Tried calling %s on an ended span.", level="warning", says="As the OpenTelemetry SDK says it.")
_span.event(3, "Calling end() on an ended span.", level="warning", says="As the OpenTelemetry SDK says it.")
_span.event(
    4,
    "Description %s ignored. Use either `Status` or `(StatusCode, Description)`",
    level="warning",
    says="As the OpenTelemetry SDK says it.",
)
_span.event(
    5,
    "the start of span %r could not be journalled: %s",
    level="debug",
    says="Should the process die, nobody closes the span.",
)
_span.event(6, "span %r could not be encoded and is counted as dropped: %s", level="debug", says="The ledger names it.")
_provider = Catalogue("pv", source="otelsync.recording.provider")
_provider.event(
    1,
    "the verdict on span %016x could not be journalled: %s",
    level="debug",
    says="The span of a process that is killed will say no more than that it was interrupted.",
)
_otlp = Catalogue("ot", source="otelsync.otlp.encoding")
_otlp.event(1, "attribute %s left out: %s", level="debug", says="Its value has no form in OTLP.")
_journal = Catalogue("jn", source="otelsync.journal.writer")
_journal.event(
    1, "recording: %s", level="warning", says="The disk, a bound or somebody else is in the way; losses are counted."
)

# Shipping

_backlog = Catalogue("bl", source="otelsync.shipping.backlog")
_backlog.event(1, "shipping: %s", level="warning", says="A file of the journal directory is not as it should be.")
_outlet = Catalogue("ou", source="otelsync.shipping.outlet")
_outlet.event(1, "%s to %s: works again after %.0f s", level="warning", says="What was left behind is sent now.")
_outlet.event(
    2,
    "%s to %s: %d rejected for good (%s); further ones for this reason are only counted",
    level="warning",
    says="The endpoint has taken the request, and refused records in it.",
)
_outlet.event(
    3,
    "%s to %s: %s; the records stay in the journal and are sent later",
    level="warning",
    says="The endpoint cannot be reached, or asks for patience.",
)
_outlet.event(4, "%s: unexpected", level="debug", says="An error of ours; the records are sent later.")
_outlet.event(5, "the local store could not be closed: %s", level="warning", says="What it has taken is in it.")
_shaping = Catalogue("sh", source="otelsync.shipping.folding.shaping")
_shaping.event(
    1, "what was recorded could not be folded, and is sent as it is", level="error", says="An error of ours."
)
_shaping.event(
    2,
    "which repos are to have traces of their own could not be decided",
    level="error",
    says="An error of ours; they stay in their pipeline's trace.",
)
_debug_logs = Catalogue("db", source="otelsync.shipping.folding.debug_logs")
_debug_logs.event(
    1, "which DEBUG records to send could not be decided, and all are sent", level="error", says="An error of ours."
)
_shipper = Catalogue("sr", source="otelsync.shipping.shipper")
_shipper.event(1, "the shipper goes on after an unexpected error", level="error", says="An error of ours.")
_thread = Catalogue("tr", source="otelsync.shipping.shipper_thread")
_thread.event(
    1,
    "cannot start the shipper: %s; the records stay in the journal",
    level="warning",
    says="There is no thread to be had.",
)
_thread.event(
    2,
    "the shipper ends after an unexpected error; the records stay in the journal",
    level="error",
    says="An error of ours; `otelsync ship` ships them.",
)
_thread.event(3, "the shipper cannot begin yet: %s", level="warning", says="It tries again.")
_store = Catalogue("lo", source="otelsync.store.writing")
_store.event(1, "%s records of %s could not be decoded", level="warning", says="They are not in the local store.")
_store.event(2, "%s; it was moved to %s and a new store begun", level="warning", says="The local store was damaged.")
_store.event(3, "cannot delete old runs: %s", level="warning", says="The local store grows beyond its bound.")
_run_reports = Catalogue("rr", source="otelsync.reports.automatic")
_run_reports.event(
    1,
    "a report could not be made: %s; `otelsync report` makes it by hand, OTELSYNC_REPORTS_DIR names another"
    " place for all of them, and with OTELSYNC_REPORTS=off there are none",
    level="warning",
    says="The run itself is in the local store. Of further ones that fail nothing is said.",
)
_run_reports.event(
    2,
    "%d runs wait for their reports; of older ones none is made but by `otelsync report`",
    level="warning",
    says="Runs end faster than reports are made.",
)
_metric_export = Catalogue("me", source="otelsync.shipping.metrics.export")
_metric_export.event(
    1, "metrics are not sent any more, after an unexpected error", level="error", says="An error of ours."
)
_metric_export.event(
    2,
    "metrics to %s: it takes none (%s), so no more are sent; OTEL_METRICS_EXPORTER=none sends none at all",
    level="info",
    says="Many endpoints take spans and records alone.",
)
_metric_export.event(
    3, "metrics to %s: %s; the next ones say the same and more", level="warning", says="Nothing of them is lost by it."
)
_metrics_outlet = Catalogue("mo", source="otelsync.shipping.metrics.outlet")
_metrics_outlet.event(1, "records of %s could not be counted", level="debug", says="They are shipped all the same.")
_metrics_outlet.event(2, "the ledger could not be counted", level="debug", says="Its metrics are those of before.")
_metrics_server = Catalogue("ms", source="otelsync.shipping.metrics.server")
_metrics_server.event(1, "metrics on %s", level="info", says="That is where Prometheus finds them.")
_metrics_server.event(2, "no metrics on %s: %s%s", level="warning", says="The port cannot be listened on.")
_metrics_server.event(3, "a request for metrics came to nothing", level="debug", says="The next one may not.")

# Celery

_celery = "otelsync.integrations.celery"
_canvas = Catalogue("cc", source=f"{_celery}.canvas")
_canvas.event(1, "a chord's headers will not be linked", level="debug", says="The chord itself works.")
_dispatch = Catalogue("cd", source=f"{_celery}.dispatch")
_dispatch.event(1, "a dispatched pipeline could not be ended", level="debug", says="Its span stays open.")
_dispatch.event(
    2,
    "a dispatched pipeline cannot be ended here: what is known of it cannot be read, or recorded",
    level="warning",
    says="Its span stays open.",
)
_endings = Catalogue("ce", source=f"{_celery}.endings")
_endings.event(1, "how a task ended was not recorded", level="debug", says="The task itself has ended.")
_publishing = Catalogue("cp", source=f"{_celery}.publishing")
_publishing.event(1, "a publish of %r will not be traced", level="debug", says="The publish itself goes on.")
_publishing.event(2, "the failure of a publish was not recorded", level="debug", says="The caller has its exception.")
_publishing.event(3, "the span of a publish did not end", level="debug", says="The publish itself has ended.")
_publishing.event(
    4, "a message of %r goes without our header", level="debug", says="What it starts is a trace of its own."
)
_running = Catalogue("cr", source=f"{_celery}.running")
_running.event(1, "a run of %r will not be traced", level="debug", says="The task itself runs.")
_running.event(2, "a run span did not end", level="debug", says="The task itself has ended.")
_tally = Catalogue("ct", source=f"{_celery}.tally_store")
_tally.event(
    1,
    "the tally of a dispatched pipeline cannot be kept: %s: %s",
    level="warning",
    says="The result backend has no place for it, so the pipeline has no end.",
)
