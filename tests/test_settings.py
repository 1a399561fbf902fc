"""Settings: every option from argument, variable or default; a wrong one fails with the fix."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelsync.errors import ConfigurationError, OtelsyncError
from otelsync.settings import Settings
from otelsync.settings.defaults import path_part
from otelsync.settings.options import markdown


def read(environment: dict[str, str] | None = None, **overrides: object) -> Settings:
    return Settings.from_environment({"OTELSYNC_HOME": "/tmp/otelsync-home"} | (environment or {}), **overrides)


def test_arguments_win_over_variables_and_these_over_defaults() -> None:
    """An option comes from its argument, else its first variable that is set, else its default."""
    assert read().log_level == 20
    assert read({"LOG_LEVEL": "debug"}).log_level == 10
    assert read({"LOG_LEVEL": "debug"}, log_level="ERROR").log_level == 40
    assert read({"LOG_LEVEL": ""}).log_level == 20
    assert read({"OTEL_SERVICE_NAME": "a", "SERVICE_NAME": "b"}).service_name == "a"
    assert read({"SERVICE_NAME": "b", "OTEL_RESOURCE_ATTRIBUTES": "x=y,service.name=c%20d"}).service_name == "b"
    assert read({"OTEL_RESOURCE_ATTRIBUTES": "x=y, service.name=c%20d"}).service_name == "c d"
    assert read({"OTELSYNC_SHIP": "off"}, ship=None).ship == "off"


WRONG = [
    ("LOG_LEVEL", "LOUD", "DEBUG"),
    ("LOG_FORMAT", "xml", "auto, json or console"),
    ("OTELSYNC_HOME", "~nobody-of-that-name/x", "no such user"),
    ("OTELSYNC_HOME", "a\0b", "path"),
    ("OTELSYNC_JOURNAL_MAX_BYTES", "much", "256MiB"),
    ("OTELSYNC_JOURNAL_MAX_BYTES", "-1", "256MiB"),
    ("OTELSYNC_JOURNAL_MAX_BYTES", "1k", "64KiB"),
    ("OTELSYNC_JOURNAL_DIR_MAX_BYTES", "1 parsec", "256MiB"),
    ("OTELSYNC_STORE", "maybe", "auto, on or off"),
    ("OTELSYNC_STORE_MAX_DAYS", "0", "from 0.001"),
    ("OTELSYNC_STORE_MAX_DAYS", "nan", "number of days"),
    ("OTELSYNC_STORE_MAX_DAYS", "inf", "to 36500"),
    ("OTELSYNC_REPORTS", "always", "auto or off"),
    ("OTELSYNC_REPORTS_DIR", "a\0b", "path"),
    ("OTELSYNC_REPORTS_KEEP", "-1", "from 0 to"),
    ("OTELSYNC_SHIP", "daemon", "process, thread or off"),
    ("OTELSYNC_SHUTDOWN_TIMEOUT", "soon", "number of seconds"),
    ("OTELSYNC_SHUTDOWN_TIMEOUT", "nan", "86400"),
    ("OTELSYNC_SHUTDOWN_TIMEOUT", "-1", "86400"),
    ("OTELSYNC_REDACT_PATTERNS", "(", "not a regular expression"),
    ("OTELSYNC_REDACT_PATTERNS", "x*", "matches the empty text"),
    ("OTELSYNC_SPAN_NAMES", "all", "kinds or items"),
    ("OTELSYNC_TRACE_URL", "localhost:16686/trace/{trace_id}", "begins with http:// or https://, such as http://"),
    ("OTELSYNC_TRACE_URL", "javascript:alert('{trace_id}')", "begins with http:// or https://"),
    ("OTELSYNC_TRACE_URL", "https:///{trace_id}", "begins with http:// or https://"),
    ("OTELSYNC_TRACE_URL", "http://jaeger/trace/", "put {trace_id} where the trace's id goes"),
    ("OTELSYNC_TRACE_URL", "http://jaeger/{trace}", "those of {trace_id}, {span_id}, {sync_id}"),
    ("OTELSYNC_TRACE_URL", "http://jaeger/{trace_id!r}", "no braces but"),
    ("OTELSYNC_TRACE_URL", "http://jaeger/{trace_id.__class__}", "no braces but"),
    ("OTELSYNC_TRACE_URL", "http://jaeger/{trace_id}}", "no braces but"),
    ("OTELSYNC_TRACE_URL", "http://jaeger/{trace_id}?a b", "without spaces"),
    ("OTELSYNC_TRACE_URL", 'http://jaeger/{trace_id}"><script>', "without spaces, quotes"),
    ("OTELSYNC_TRACE_URL", "http://ann:hunter2@jaeger/{trace_id}", "leave user name and password out"),
    ("OTEL_SDK_DISABLED", "perhaps", "true or false"),
    ("OTEL_SERVICE_NAME", "  ", "not empty"),
]


@pytest.mark.parametrize(("variable", "value", "fix"), WRONG)
def test_wrong_values_name_option_value_and_fix(variable: str, value: str, fix: str) -> None:
    """A value that cannot work fails at once, and the message says where it stands and what to set instead."""
    with pytest.raises(ConfigurationError) as caught:
        read({variable: value})
    assert (caught.value.option, caught.value.value) == (variable, value)
    assert fix in caught.value.fix
    assert str(caught.value) == f"{variable}={value!r} cannot work: {caught.value.fix}"


def test_wrong_arguments_are_named_as_they_were_given() -> None:
    """What was wrong as an argument is named as an argument; an unknown one lists those that there are."""
    with pytest.raises(ConfigurationError, match="log_level=True cannot work"):
        read(log_level=True)
    with pytest.raises(ConfigurationError, match=r"colour='red' cannot work: there is no such option.*log_level"):
        read(colour="red")


def test_the_error_is_a_value_error_that_travels() -> None:
    """A ConfigurationError is an OtelsyncError and a ValueError, and survives pickling."""
    error = pickle.loads(pickle.dumps(ConfigurationError("a", 1, "use 2")))
    assert issubclass(ConfigurationError, OtelsyncError)
    assert issubclass(ConfigurationError, ValueError)
    assert (error.option, error.value, error.fix) == ("a", 1, "use 2")


def test_values_are_understood_in_their_usual_forms() -> None:
    """Sizes take units, switches take words, lists take commas or lists, patterns a line each."""
    settings = read(
        {
            "OTELSYNC_JOURNAL_MAX_BYTES": "64 KiB",
            "OTELSYNC_STORE_MAX_BYTES": "1g",
            "OTEL_SDK_DISABLED": "TRUE",
            "OTELSYNC_REDACT_KEYS": "customer, iban ,",
            "OTELSYNC_REDACT_PATTERNS": "a\\d+\n(?i)b+\n",
            "OTEL_LOGS_EXPORTER": "None",
        },
        log_level=15,
        shutdown_timeout=0,
        store_path=Path("s.db"),
    )
    assert (settings.journal_max_bytes, settings.store_max_bytes) == (65_536, 1 << 30)
    assert settings.disabled is True
    assert settings.redact_keys == ("customer", "iban")
    assert settings.redact_patterns == ("a\\d+", "(?i)b+")
    assert settings.journal_logs is False
    assert (settings.log_level, settings.shutdown_timeout) == (15, 0)


def test_paths_do_not_move_with_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is taken from where the program was when it was configured; ``~`` is the home."""
    monkeypatch.chdir(tmp_path)
    assert read(home="state").home == tmp_path / "state"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read(journal_dir="~/journal").journal == tmp_path / "journal"


def test_the_home_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without OTELSYNC_HOME state goes below XDG_STATE_HOME if that is absolute, else below the user's home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Settings.from_environment({}).home == tmp_path / ".local" / "state" / "otelsync"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert Settings.from_environment({}).home == tmp_path / "state" / "otelsync"
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    assert Settings.from_environment({}).home == tmp_path / ".local" / "state" / "otelsync"


def test_everything_lies_below_the_home() -> None:
    """Journals are kept by service, the store beside them, unless they have places of their own."""
    settings = read(service_name="GitHub sync", home="/srv/x")
    assert settings.journal == Path("/srv/x/journals/GitHub-sync")
    assert settings.store_file == Path("/srv/x/store.db")
    assert read(store_path="/else/s.db").store_file == Path("/else/s.db")


@given(st.text(max_size=200))
def test_a_slug_is_always_a_plain_name(name: str) -> None:
    """Whatever a service is called, its directory is one visible name below the journals'."""
    part = path_part(name)
    assert part
    assert len(part) <= 80
    assert not part.startswith(".")
    assert (Path("/base") / part).parent == Path("/base")
    assert Path(part).name == part


def test_every_option_is_documented() -> None:
    """The generated table has a row with argument, variable and text for each option."""
    table = markdown()
    for option in dataclasses.fields(Settings):
        (row,) = [line for line in table.splitlines() if line.startswith(f"| `{option.name}` |")]
        assert all(f"`{variable}`" in row for variable in option.metadata["variables"])
        assert option.metadata["says"].endswith(".")
