"""Every option: its default, its environment variable, its check.

``make docs`` makes the table of the documentation from it. The OpenTelemetry SDK's own variables
(``OTEL_TRACES_SAMPLER``, ``OTEL_RESOURCE_ATTRIBUTES``, span limits, propagators) work as they do there, and all of
``OTEL_EXPORTER_OTLP_*`` is read by :mod:`otelsync.otlp.options`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from otelsync.errors import ConfigurationError
from otelsync.settings import checks
from otelsync.settings.defaults import default_home, default_service, path_part
from otelsync.vocabulary import SERVICE_NAME

PATIENCE: Final = 5.0
"""Seconds that an end may wait unless told otherwise."""
REPORTS: Final = Path("reports/sync")
"""Directory for reports unless told otherwise, below the current directory."""


def _option(
    default: Any,
    variables: str,
    check: Callable[[object], Any],
    says: str,
    *,
    form: str | None = None,
    shown: str | None = None,
) -> Any:
    """Declare an option. A default is written as a user writes it, or is a function that makes it.

    `form` goes before the docstring of `check`, which says what values there are, and `shown` before the default.
    """
    if shown is None:
        shown = "" if default in (None, (), dict) else str(default)
    form = form or check.__doc__ or ""
    metadata = {"variables": variables.split(), "check": check, "says": says, "form": form, "shown": shown}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=check(default) if isinstance(default, str) else default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Options of otelsync, checked.

    Made by :meth:`from_environment`; the constructor checks nothing.
    """

    service_name: str = _option(
        default_service,
        "OTEL_SERVICE_NAME SERVICE_NAME",
        checks.name,
        "The service's name, in every record; also `service.name` in `OTEL_RESOURCE_ATTRIBUTES`.",
        shown="the program's name",
    )
    log_level: int = _option("INFO", "LOG_LEVEL", checks.level, "The least level of records.")
    log_levels: Mapping[str, int] = _option(
        dict,
        "OTELSYNC_LOG_LEVELS",
        checks.levels,
        "Other least levels, by the beginning of a logger's or an event's name; `otelsync verbosity` changes them while"
        " a program runs.",
    )
    debug_logs: str = _option(
        "off",
        "OTELSYNC_DEBUG_LOGS",
        checks.one_of("off", "failed", "all"),
        "`failed`, `all`: records from DEBUG on are journalled, whatever is shown. By OTLP go all, or with `failed`"
        " those from INFO on and those of stages that failed or were slow. The local store keeps all.",
    )
    log_format: str = _option(
        "auto",
        "LOG_FORMAT",
        checks.one_of("auto", "json", "console"),
        "How records are rendered; `auto` is `console` on a terminal, else `json`.",
    )
    logging: str = _option(
        "take",
        "OTELSYNC_LOGGING",
        checks.one_of("take", "keep"),
        "`take`: otelsync renders all records. `keep`: the program's own logging stays, and its records are journalled;"
        " the default under `otelsync run`.",
    )
    endpoint: str | None = _option(
        None,
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        checks.endpoint,
        "Where to send spans and records by OTLP. All of `OTEL_EXPORTER_OTLP_*` works as OpenTelemetry specifies.",
        shown="none: nothing is sent",
    )
    home: Path = _option(
        default_home,
        "OTELSYNC_HOME",
        checks.path,
        "Where the journals and the local store are.",
        shown="`$XDG_STATE_HOME/otelsync`, else `~/.local/state/otelsync`",
    )
    journalling: str = _option(
        "auto",
        "OTELSYNC_JOURNAL",
        checks.one_of("auto", "on", "off"),
        "`on`: everything goes by the journal. `off`: by the exporters of OpenTelemetry's SDK, with less (see [the"
        " standard way](concepts.md#the-standard-way)). `auto`: by the journal where there can be one.",
    )
    journal_dir: Path | None = _option(
        None, "OTELSYNC_JOURNAL_DIR", checks.path, "The journal's directory.", shown="`<home>/journals/<service name>`"
    )
    journal_spool: Path | None = _option(
        None,
        "OTELSYNC_JOURNAL_SPOOL",
        checks.path,
        "Where processes of other users record that may not write root's journal; `otelsync run` sets it.",
    )
    journal_max_bytes: int = _option(
        "256MiB",
        "OTELSYNC_JOURNAL_MAX_BYTES",
        checks.size,
        "What one process may have waiting to be shipped; what goes beyond is dropped and counted.",
    )
    journal_dir_max_bytes: int = _option(
        "1GiB", "OTELSYNC_JOURNAL_DIR_MAX_BYTES", checks.size, "The same for all processes of a journal directory."
    )
    refused_keep: float = _option(
        "24",
        "OTELSYNC_REFUSED_KEEP",
        checks.decimal(0, 87_600, "hours"),
        "How long records wait in the journal for an endpoint that takes nothing as it is set up (401, 403, 404, ...);"
        " what is older is dropped and counted.",
    )
    store: str = _option(
        "auto",
        "OTELSYNC_STORE",
        checks.one_of("auto", "on", "off"),
        "Whether runs are kept in the local store; `auto` keeps them where nothing is sent by OTLP.",
    )
    store_path: Path | None = _option(
        None, "OTELSYNC_STORE_PATH", checks.path, "The local store, a SQLite file.", shown="`<home>/store.db`"
    )
    store_max_bytes: int = _option(
        "2GiB", "OTELSYNC_STORE_MAX_BYTES", checks.size, "How large the store may grow before its oldest runs go."
    )
    store_max_days: float = _option(
        "30", "OTELSYNC_STORE_MAX_DAYS", checks.decimal(0.001, 36_500, "days"), "How long a run is kept."
    )
    reports: str = _option(
        "auto",
        "OTELSYNC_REPORTS",
        checks.one_of("auto", "off"),
        "`auto`: whoever ships into the local store writes the report of each run at its end.",
    )
    reports_dir: Path = _option(
        REPORTS, "OTELSYNC_REPORTS_DIR", checks.path, "Where the reports' folders go.", shown=f"`{REPORTS}`"
    )
    reports_keep: int = _option(
        100,
        "OTELSYNC_REPORTS_KEEP",
        checks.whole(0, 1_000_000),
        "How many reports stay there when another is written at the end of a run; 0 keeps all.",
    )
    ship: str = _option(
        "process",
        "OTELSYNC_SHIP",
        checks.one_of("process", "thread", "off"),
        "Who ships the journal: a process beside the program, a thread of it, or somebody else (`otelsync ship`).",
    )
    shutdown_timeout: float | None = _option(
        None,
        "OTELSYNC_SHUTDOWN_TIMEOUT",
        checks.decimal(0, 86_400, "seconds"),
        "How long the end of the program, or of `otelsync run` after its program, may wait for the shipper and for"
        " reports. What is left is shipped later, and a report is finished by itself.",
        shown="5; 0 at the end of a program whose shipper outlives it",
    )
    fold: bool = _option(
        "on",
        "OTELSYNC_FOLD",
        checks.switch,
        "Fold ordinary pull requests into their call on the way to OTLP, and give repos traces of their own where a"
        " trace would be too large. The local store always keeps everything.",
    )
    trace_max_spans: int = _option(
        5_000, "OTELSYNC_TRACE_MAX_SPANS", checks.whole(100, 1_000_000), "How many spans of a trace are sent by OTLP."
    )
    span_names: str = _option(
        "kinds",
        "OTELSYNC_SPAN_NAMES",
        checks.one_of("kinds", "items"),
        "What spans of items are called on the way to OTLP: `kinds`, such as `sync.pr`; `items`, such as"
        " `sync.pr #4711`, where no Collector does it: see [names of spans](concepts.md#names-of-spans).",
    )
    trace_url: str | None = _option(
        None,
        "OTELSYNC_TRACE_URL",
        checks.trace_url,
        "The address of a trace in your tracing backend, with `{trace_id}` in it, and `{span_id}` or `{sync_id}` where"
        " they help. It stands in error records on the console, in `otelsync show` and in reports.",
        form="such as `http://localhost:16686/trace/{trace_id}?uiFind={span_id}`",
        shown="none",
    )
    redact_keys: tuple[str, ...] = _option(
        (), "OTELSYNC_REDACT_KEYS", checks.words, "Further names of fields that are secrets."
    )
    redact_patterns: tuple[str, ...] = _option(
        (), "OTELSYNC_REDACT_PATTERNS", checks.patterns, "Further regular expressions of secrets."
    )
    trace_hosts: tuple[str, ...] = _option(
        (),
        "OTELSYNC_TRACE_HOSTS",
        checks.hosts,
        "Hosts that get trace headers and baggage, beside loopback; `*.example.com` is all below one, `*` is all.",
    )
    metrics_port: int | None = _option(
        None,
        "OTELSYNC_METRICS_PORT",
        checks.whole(0, 65_535),
        "Where whoever ships serves metrics for Prometheus; 0 takes any port that is free.",
        shown="none: not served",
    )
    metrics_host: str = _option(
        "127.0.0.1",
        "OTELSYNC_METRICS_HOST",
        checks.name,
        "The address to serve them on; `0.0.0.0` lets in everybody.",
        form="address",
    )
    rate_limit_low: float = _option(
        0.1,
        "OTELSYNC_RATE_LIMIT_LOW",
        checks.decimal(0, 0.99, "parts of the limit"),
        "At which part of a rate limit it is low, and a warning is logged.",
        form="0 to below 1",
    )
    disabled: bool = _option(
        "false", "OTEL_SDK_DISABLED", checks.switch, "Record nothing; logging stays.", form="true, false"
    )
    journal_logs: bool = _option(
        "otlp",
        "OTEL_LOGS_EXPORTER",
        lambda value: value if isinstance(value, bool) else str(value).strip().lower() != "none",
        "`none` renders log records and does not journal them.",
        form="otlp, none",
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Read every option from its argument, else from its variables, else take its default.

        Raises:
            ConfigurationError: A value cannot work, or an option does not exist.
        """
        environment = os.environ if environment is None else environment
        known = {option.name for option in fields(cls)}
        for name, value in overrides.items():
            if name not in known:
                raise ConfigurationError(name, value, f"there is no such option; there are {', '.join(sorted(known))}")
        values = {}
        for option in fields(cls):
            given = _given(option, environment, overrides)
            if given is not None:
                try:
                    values[option.name] = option.metadata["check"](given[1])
                except ValueError as error:
                    raise ConfigurationError(*given, str(error)) from None
        return cls(**values)

    @property
    def journal(self) -> Path:
        """The journal's directory."""
        return self.journal_dir or self.journals / path_part(self.service_name)

    @property
    def place(self) -> str:
        """The directory that tells this place of recording from others on the host."""
        return str((self.journal_dir or self.journals).absolute())

    @property
    def patience(self) -> float:
        """Seconds for what is left at the end."""
        return PATIENCE if self.shutdown_timeout is None else self.shutdown_timeout

    @property
    def journals(self) -> Path:
        """Directory of the journals of all services, unless they have one of their own."""
        return self.home / "journals"

    def journal_directories(self) -> list[Path]:
        """The journal directory that was named, or else those of all services; as far as they are there."""
        if self.journal_dir is not None:
            return [self.journal_dir] if self.journal_dir.is_dir() else []
        try:
            return sorted(path for path in self.journals.iterdir() if path.is_dir())
        except OSError:
            return []

    @property
    def store_file(self) -> Path:
        """The local store."""
        return self.store_path or self.home / "store.db"


def names_service(environment: Mapping[str, str]) -> bool:
    """Return whether an environment says what the service is called."""
    (option,) = [option for option in fields(Settings) if option.name == "service_name"]
    return _given(option, environment, {}) is not None


def _given(
    option: Field[Any], environment: Mapping[str, str], overrides: Mapping[str, Any]
) -> tuple[str, object] | None:
    """Return where an option's value comes from, and that value; None if nobody gave one."""
    if overrides.get(option.name) is not None:
        return option.name, overrides[option.name]
    for variable in option.metadata["variables"]:
        if environment.get(variable):
            return variable, environment[variable]
    if option.name == "service_name":
        for pair in environment.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
            key, _, value = pair.partition("=")
            if key.strip() == SERVICE_NAME and value.strip():
                return "OTEL_RESOURCE_ATTRIBUTES", unquote(value.strip())
    return None


def markdown() -> str:
    """Return the page of the documentation with the table of all options, in Markdown."""
    lines = [
        "# Settings",
        "",
        "Made by `make docs` from `otelsync/settings/options.py`. Each is an argument of `otelsync.configure()` or an",
        "environment variable; the argument wins. A wrong value fails in `configure()` and names the fix.",
        "",
        "| argument | variable | values | default | |",
        "|---|---|---|---|---|",
    ]
    for option in fields(Settings):
        about = option.metadata
        variables = ", ".join(f"`{variable}`" for variable in about["variables"])
        lines.append(f"| `{option.name}` | {variables} | {about['form']} | {about['shown']} | {about['says']} |")
    return "\n".join(
        [*lines, "", "`OTELSYNC_PURE_PYTHON=1`, read at import, leaves the C extension of the recording path unused."]
    )
