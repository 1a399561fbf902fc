"""Every option: its default, its environment variable, its check.

``make docs`` makes the table of the documentation from it. The OpenTelemetry SDK's own variables
(``OTEL_TRACES_SAMPLER``, ``OTEL_RESOURCE_ATTRIBUTES``, span limits, propagators) work as they do there, and all of
``OTEL_EXPORTER_OTLP_*`` is read by :mod:`otelsync.otlp.options`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from otelsync.errors import ConfigurationError
from otelsync.levels import level_of, parse
from otelsync.vocabulary import SERVICE_NAME

MIB: Final = 1024 * 1024
REPORTS: Final = Path("reports/sync")
"""Where reports go unless told otherwise, below the current directory."""
_TRUE: Final = frozenset(("1", "true", "yes", "on"))
_FALSE: Final = frozenset(("0", "false", "no", "off"))


def _default_service() -> str:
    """The service's name where nobody gave one: what the program was started as."""
    stem = Path(sys.argv[0]).stem if sys.argv and sys.argv[0] not in ("", "-c", "-m") else ""
    if stem == "__main__":
        stem = Path(sys.argv[0]).parent.name
    return stem or "unknown_service"


def _default_home() -> Path:
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    try:
        # a relative one is to be ignored: XDG Base Directory Specification
        return (state if state.is_absolute() else Path.home() / ".local" / "state") / "otelsync"
    except RuntimeError:
        raise ConfigurationError("OTELSYNC_HOME", "", "this user has no home; set it to a directory") from None


def _level(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    return level_of(str(value))


def _levels(value: object) -> dict[str, int]:
    if isinstance(value, Mapping):
        return parse(f"{name}={level}" for name, level in value.items())
    return parse(pair for pair in str(value).split(",") if pair.strip())


def _one_of(*allowed: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        text = str(value).strip().lower()
        if text not in allowed:
            raise ValueError(f"use {', '.join(allowed[:-1])} or {allowed[-1]}")
        return text

    check.__doc__ = " | ".join(allowed)
    return check


def _switch(value: object) -> bool:
    """True | false"""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise ValueError("use true or false")
    return text in _TRUE


def _seconds(value: object) -> float:
    try:
        number = float(str(value))
    except ValueError:
        raise ValueError("use a number of seconds, such as 5 or 0.5") from None
    if not 0 <= number <= 86_400:
        raise ValueError("use a number of seconds from 0 to 86400")
    return number


_UNITS: Final = {"": 1, "b": 1, "k": 1024, "kib": 1024, "m": MIB, "mib": MIB, "g": 1024 * MIB, "gib": 1024 * MIB}


def _bytes(value: object) -> int:
    found = re.fullmatch(r"(\d+)\s*([a-z]*)", str(value).strip().lower())
    if found is None or found[2] not in _UNITS:
        raise ValueError("use a number of bytes, such as 268435456 or 256MiB")
    number = int(found[1]) * _UNITS[found[2]]
    if number < 64 * 1024:
        raise ValueError("use at least 64KiB")
    return number


def _count(value: object) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = 0
    if not 100 <= number <= 1_000_000:
        raise ValueError("use a whole number from 100 to 1000000")
    return number


def _few(value: object) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = -1
    if not 0 <= number <= 100:
        raise ValueError("use a whole number from 0 to 100")
    return number


def _seconds_or_auto(value: object) -> float | None:
    if value is None or str(value).strip().lower() == "auto":
        return None
    try:
        return _seconds(value)
    except ValueError as error:
        raise ValueError(f"{error}, or auto") from None


def _whole(value: object, least: int, most: int) -> int:
    text = str(value).strip()
    if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
        raise ValueError(f"use a whole number from {least} to {most}")
    return int(text)


def _port(value: object) -> int:
    return _whole(value, 0, 65_535)


def _many(value: object) -> int:
    return _whole(value, 1, 100_000)


def _most_kept(value: object) -> int:
    return _whole(value, 0, 1_000_000)


def _days(value: object) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = -1
    if not 0 < number <= 36_500:
        raise ValueError("use a number of days above 0, at most 36500")
    return number


def _name(value: object) -> str:
    text = str(value).strip()
    if not text:
        raise ValueError("use a name that is not empty")
    return text


def _path(value: object) -> Path:
    text = str(value)
    if not text or "\0" in text:
        raise ValueError("use the path of a directory or file")
    try:
        return Path(text).expanduser().absolute()  # the program may change its working directory
    except RuntimeError:
        raise ValueError("there is no such user; use the path of a directory or file") from None


def _words(value: object) -> tuple[str, ...]:
    if isinstance(value, (list, tuple, set, frozenset)):
        return tuple(str(word) for word in value)
    return tuple(word.strip() for word in str(value).split(",") if word.strip())


def _hosts(value: object) -> tuple[str, ...]:
    hosts = _words(value)
    for host in hosts:
        if not re.fullmatch(r"(?ia)\*|(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?|[0-9a-f]*:[0-9a-f:]+", host):
            raise ValueError(f"{host!r} is no host; use names such as api.example.com or *.example.com, without a port")
    return hosts


def _part(value: object) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = -1
    if not 0 <= number < 1:
        raise ValueError("use a part of the limit, from 0 to below 1, such as 0.1 for a tenth")
    return number


def _patterns(value: object) -> tuple[str, ...]:
    patterns = (
        tuple(str(pattern) for pattern in value)
        if isinstance(value, (list, tuple, set, frozenset))
        else tuple(line.strip() for line in str(value).splitlines() if line.strip())
    )
    for pattern in patterns:
        try:
            matches_nothing = re.compile(pattern).search("")
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
        if matches_nothing:
            raise ValueError(f"{pattern!r} matches the empty text, and so everything; use one that does not")
    return patterns


def _endpoint(value: object) -> str:
    """What the protocol makes of it is looked at where the protocol is known: grpc takes a bare host and port."""
    text = str(value).strip()
    if not text or any(character.isspace() for character in text):
        raise ValueError("use the URL of an OTLP receiver, such as http://localhost:4318")
    return text


def _option(
    default: Any, variables: str, check: Callable[[object], Any], says: str, form: str, shown: str | None = None
) -> Any:
    metadata = {
        "variables": variables.split(),
        "check": check,
        "says": says,
        "form": form,
        "shown": shown if shown is not None else "" if default in (None, ()) else str(default),
    }
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What otelsync was told, checked.

    Made by :meth:`from_environment`; the constructor checks nothing.
    """

    service_name: str = _option(
        _default_service,
        "OTEL_SERVICE_NAME SERVICE_NAME",
        _name,
        "The service's name, in every record; also `service.name` in `OTEL_RESOURCE_ATTRIBUTES`.",
        "text",
        "the program's name",
    )
    log_level: int = _option(
        20, "LOG_LEVEL", _level, "The least level of records.", "DEBUG, INFO, WARNING, ERROR, CRITICAL", "INFO"
    )
    log_levels: Mapping[str, int] = _option(
        dict,
        "OTELSYNC_LOG_LEVELS",
        _levels,
        "Other least levels, by the beginning of a logger's or an event's name; `otelsync verbosity` changes them while"
        " a program runs.",
        "such as `sync.pr=WARNING,github_sync.client=DEBUG`",
        "",
    )
    debug_logs: str = _option(
        "off",
        "OTELSYNC_DEBUG_LOGS",
        _one_of("off", "failed", "all"),
        "`failed`, `all`: records from DEBUG on are journalled, whatever is shown. By OTLP go all, or with `failed`"
        " those from INFO on and those of stages that failed or were slow. The local store keeps all.",
        "off, failed, all",
    )
    log_format: str = _option(
        "auto",
        "LOG_FORMAT",
        _one_of("auto", "json", "console"),
        "How records are rendered; `auto` is `console` on a terminal, else `json`.",
        "auto, json, console",
    )
    logging: str = _option(
        "take",
        "OTELSYNC_LOGGING",
        _one_of("take", "keep"),
        "`take`: otelsync renders all records. `keep`: the program's own logging stays, and its records are journalled;"
        " the default under `otelsync run`.",
        "take, keep",
    )
    log_ids: bool = _option(
        True,
        "OTELSYNC_LOG_IDS",
        _switch,
        "With `logging=keep`: put trace ids into what the program renders itself, where that is possible.",
        "true, false",
        "true",
    )
    endpoint: str | None = _option(
        None,
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        _endpoint,
        "Where to send spans and records by OTLP. All of `OTEL_EXPORTER_OTLP_*` works as OpenTelemetry specifies.",
        "URL",
        "none: nothing is sent",
    )
    home: Path = _option(
        _default_home,
        "OTELSYNC_HOME",
        _path,
        "Where the journals and the local store are.",
        "path",
        "`$XDG_STATE_HOME/otelsync`, else `~/.local/state/otelsync`",
    )
    journal_dir: Path | None = _option(
        None, "OTELSYNC_JOURNAL_DIR", _path, "The journal's directory.", "path", "`<home>/journals/<service name>`"
    )
    journal_max_bytes: int = _option(
        256 * MIB,
        "OTELSYNC_JOURNAL_MAX_BYTES",
        _bytes,
        "What one process may have waiting to be shipped; what goes beyond is dropped and counted.",
        "bytes, KiB, MiB, GiB",
        "256MiB",
    )
    journal_dir_max_bytes: int = _option(
        1024 * MIB,
        "OTELSYNC_JOURNAL_DIR_MAX_BYTES",
        _bytes,
        "The same for all processes of a journal directory.",
        "bytes, KiB, MiB, GiB",
        "1GiB",
    )
    store: str = _option(
        "auto",
        "OTELSYNC_STORE",
        _one_of("auto", "on", "off"),
        "Whether runs are kept in the local store; `auto` keeps them where nothing is sent by OTLP.",
        "auto, on, off",
    )
    store_path: Path | None = _option(
        None, "OTELSYNC_STORE_PATH", _path, "The local store, a SQLite file.", "path", "`<home>/store.db`"
    )
    store_max_bytes: int = _option(
        2048 * MIB,
        "OTELSYNC_STORE_MAX_BYTES",
        _bytes,
        "How large the store may grow before its oldest runs go.",
        "bytes, KiB, MiB, GiB",
        "2GiB",
    )
    store_max_days: float = _option(30.0, "OTELSYNC_STORE_MAX_DAYS", _days, "How long a run is kept.", "days", "30")
    reports: str = _option(
        "auto",
        "OTELSYNC_REPORTS",
        _one_of("auto", "on", "off"),
        "Whether whoever ships writes the report of each run at its end, from the local store; `on` warns where there"
        " is none.",
        "auto, on, off",
    )
    reports_dir: Path = _option(
        REPORTS, "OTELSYNC_REPORTS_DIR", _path, "Where the reports' folders go.", "path", f"`{REPORTS}`"
    )
    reports_keep: int = _option(
        100,
        "OTELSYNC_REPORTS_KEEP",
        _most_kept,
        "How many reports stay there when another is written at the end of a run; 0 keeps all.",
        "0 to 1000000",
    )
    ship: str = _option(
        "thread",
        "OTELSYNC_SHIP",
        _one_of("thread", "off"),
        "Who ships the journal: a thread of this process, or somebody else (`otelsync ship`).",
        "thread, off",
    )
    ship_interval: float = _option(
        1.0, "OTELSYNC_SHIP_INTERVAL", _seconds, "How often the shipper looks, at the most.", "seconds", "1"
    )
    shutdown_timeout: float = _option(
        5.0,
        "OTELSYNC_SHUTDOWN_TIMEOUT",
        _seconds,
        "How long the end of the process may wait for the shipper and for reports. What is left stays in the journal,"
        " and a report is finished by itself.",
        "seconds",
        "5",
    )
    drain_timeout: float = _option(
        10.0,
        "OTELSYNC_DRAIN_TIMEOUT",
        _seconds,
        "How long `otelsync run` goes on shipping, and waits for reports, after its program has ended. What is left"
        " stays in the journal, and a report is finished by itself.",
        "seconds",
        "10",
    )
    fold: bool = _option(
        True,
        "OTELSYNC_FOLD",
        _switch,
        "Fold ordinary pull requests into their call on the way to OTLP, and give repos traces of their own where a"
        " trace would be too large. The local store always keeps everything.",
        "on, off",
        "on",
    )
    fold_keep_slowest: int = _option(
        3, "OTELSYNC_FOLD_KEEP_SLOWEST", _few, "How many ordinary pull requests of each call are kept.", "0 to 100"
    )
    fold_slow: float | None = _option(
        None,
        "OTELSYNC_FOLD_SLOW",
        _seconds_or_auto,
        "From when on a pull request is slow, and kept; `auto`: 5 times the median of its trace, and at least 0.1 s.",
        "seconds, auto",
        "auto",
    )
    trace_max_spans: int = _option(
        5_000, "OTELSYNC_TRACE_MAX_SPANS", _count, "How many spans of a trace are sent by OTLP.", "100 to 1000000"
    )
    trace_max_bytes: int = _option(
        5_000_000,
        "OTELSYNC_TRACE_MAX_BYTES",
        _bytes,
        "The same in bytes. Tempo takes 5,000,000 by default.",
        "bytes, KiB, MiB, GiB",
    )
    redact_keys: tuple[str, ...] = _option(
        (), "OTELSYNC_REDACT_KEYS", _words, "Further names of fields that are secrets.", "names, by comma", ""
    )
    redact_patterns: tuple[str, ...] = _option(
        (),
        "OTELSYNC_REDACT_PATTERNS",
        _patterns,
        "Further regular expressions of secrets.",
        "one a line",
        "",
    )
    trace_hosts: tuple[str, ...] = _option(
        (),
        "OTELSYNC_TRACE_HOSTS",
        _hosts,
        "Hosts that get trace headers and baggage, beside loopback; `*.example.com` is all below one, `*` is all.",
        "names, by comma",
        "",
    )
    metrics_port: int | None = _option(
        None,
        "OTELSYNC_METRICS_PORT",
        _port,
        "Where whoever ships serves metrics for Prometheus; 0 takes any port that is free.",
        "0 to 65535",
        "none: not served",
    )
    metrics_host: str = _option(
        "127.0.0.1",
        "OTELSYNC_METRICS_HOST",
        _name,
        "The address to serve them on; `0.0.0.0` lets in everybody.",
        "address",
    )
    metrics_max_values: int = _option(
        1000,
        "OTELSYNC_METRICS_MAX_VALUES",
        _many,
        "How many repos, pipelines, operations, ... are told apart in metrics; the rest is `other`.",
        "1 to 100000",
    )
    rate_limit_low: float = _option(
        0.1,
        "OTELSYNC_RATE_LIMIT_LOW",
        _part,
        "At which part of a rate limit it is low, and a warning is logged.",
        "0 to below 1",
    )
    disabled: bool = _option(
        False, "OTEL_SDK_DISABLED", _switch, "Record nothing; logging stays.", "true, false", "false"
    )
    journal_logs: bool = _option(
        True,
        "OTEL_LOGS_EXPORTER",
        lambda value: value if isinstance(value, bool) else str(value).strip().lower() != "none",
        "`none` renders log records and does not journal them.",
        "otlp, none",
        "otlp",
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
            for source, value in _candidates(option.name, option.metadata["variables"], environment, overrides):
                try:
                    values[option.name] = option.metadata["check"](value)
                except ValueError as error:
                    raise ConfigurationError(source, value, str(error)) from None
                break
        return cls(**values)

    @property
    def journal(self) -> Path:
        """The journal's directory."""
        return self.journal_dir or self.journals / slug(self.service_name)

    @property
    def journals(self) -> Path:
        """Where the journals of all services are, unless they have a directory of their own."""
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
    """Whether an environment says what the service is called."""
    (variables,) = [option.metadata["variables"] for option in fields(Settings) if option.name == "service_name"]
    return bool(_candidates("service_name", variables, environment, {}))


def _candidates(
    name: str, variables: list[str], environment: Mapping[str, str], overrides: Mapping[str, Any]
) -> list[tuple[str, object]]:
    """Where an option's value may come from, first things first."""
    found: list[tuple[str, object]] = []
    if overrides.get(name) is not None:
        found.append((name, overrides[name]))
    found += [(variable, environment[variable]) for variable in variables if environment.get(variable, "") != ""]
    if name == "service_name":
        for pair in environment.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
            key, _, value = pair.partition("=")
            if key.strip() == SERVICE_NAME and value.strip():
                found.append(("OTEL_RESOURCE_ATTRIBUTES", unquote(value.strip())))
    return found


def slug(name: str) -> str:
    """A name as part of a path: never empty, hidden, above or outside.

    >>> slug("../etc/passwd")
    'etc-passwd'
    """
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:80] or "unnamed"


def markdown() -> str:
    """The table of all options, for the documentation."""
    lines = [
        "# Settings",
        "",
        "Made by `make docs` from `otelsync/settings.py`. Each is an argument of `otelsync.configure()` or an",
        "environment variable; the argument wins. A wrong value fails in `configure()` and names the mend.",
        "",
        "| argument | variable | values | default | |",
        "|---|---|---|---|---|",
    ]
    for option in fields(Settings):
        about = option.metadata
        variables = ", ".join(f"`{variable}`" for variable in about["variables"])
        lines.append(f"| `{option.name}` | {variables} | {about['form']} | {about['shown']} | {about['says']} |")
    lines += [
        "",
        "`OTELSYNC_PURE_PYTHON=1`, read at import, leaves the C extension of the recording path unused.",
    ]
    return "\n".join(lines)
