"""The private names of other packages that otelsync reaches, who may reach them, and which versions have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Private:
    """A private name of another package."""

    distribution: str
    place: str
    """The module, and the class in it."""
    name: str
    used_in: str
    """The one module of otelsync that may reach it."""
    since: str = ""
    """The first version that has it; empty: all that pyproject.toml takes."""
    until: str = ""
    """The first version that has it no longer."""


_API: Final = ("opentelemetry-api", "hooks/opentelemetry_api.py")
_SDK: Final = ("opentelemetry-sdk", "recording/sdk_tracers.py")
_CELERY: Final = ("celery", "integrations/celery/celery_names.py")

PRIVATE: Final = (
    Private(_API[0], "opentelemetry.trace", "_TRACER_PROVIDER", _API[1]),
    Private(_API[0], "opentelemetry.trace", "_TRACER_PROVIDER_SET_ONCE", _API[1]),
    Private(_API[0], "opentelemetry.context", "_RUNTIME_CONTEXT", _API[1]),
    Private(_API[0], "opentelemetry.context", "_RuntimeContext", _API[1]),
    Private(_API[0], "opentelemetry.context", "_SUPPRESS_INSTRUMENTATION_KEY", _API[1]),
    Private(_SDK[0], "opentelemetry.sdk.trace:Tracer", "_is_enabled", _SDK[1]),
    Private(_SDK[0], "opentelemetry.sdk.trace:SpanProcessor", "_on_ending", _SDK[1]),
    Private(_SDK[0], "opentelemetry.sdk.trace:TracerProvider", "_set_tracer_configurator", _SDK[1]),
    Private(_SDK[0], "opentelemetry.sdk.trace:TracerProvider", "_handle_fork", _SDK[1], since="1.44"),
    Private(_SDK[0], "opentelemetry.sdk.trace:TracerProvider()", "_tracers", _SDK[1], since="1.41"),
    Private(_SDK[0], "opentelemetry.sdk.trace:TracerProvider()", "_tracers_lock", _SDK[1], since="1.41"),
    Private(_CELERY[0], "celery._state", "_apps", _CELERY[1]),
    Private(_CELERY[0], "celery.app:Celery()", "_tasks", _CELERY[1]),
    Private(_CELERY[0], "celery.app.log:Logging", "_setup", _CELERY[1]),
    Private(_CELERY[0], "celery.worker.request:Request", "_announce_revoked", _CELERY[1]),
    Private(_CELERY[0], "celery.worker.request:Request", "_already_revoked", _CELERY[1]),
    Private(_CELERY[0], "celery.worker.request:Request", "_already_cancelled", _CELERY[1]),
    Private(_CELERY[0], "celery.worker.request:Request", "_retry_worker_lost", _CELERY[1], since="5.7"),
    Private(_CELERY[0], "celery.backends.redis:RedisBackend", "_create_client", _CELERY[1]),
    Private("billiard", "billiard.common", "_should_have_exited", _CELERY[1]),
    Private("structlog", "structlog:BoundLoggerBase", "_process_event", "logs/observation.py"),
    Private("structlog", "structlog.contextvars", "_CONTEXT_VARS", "logs/takeover.py"),
    Private("requests", "requests:Response()", "_content", "integrations/requests.py"),
    Private("requests", "requests:Response()", "_next", "integrations/requests.py"),
    Private("PyGithub", "github:Github().requester", "_Requester__prefix", "integrations/pygithub.py"),
    *(
        Private("opentelemetry-instrumentation", "opentelemetry.instrumentation._semconv", name, used_in)
        for used_in in ("integrations/http/upstream.py",)
        for name in (
            "_OpenTelemetrySemanticConventionStability",
            "_OpenTelemetryStabilitySignalType",
            "_StabilityMode",
        )
    ),
)
