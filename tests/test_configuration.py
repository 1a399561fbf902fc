"""configure() and shutdown(): once a process, and undone without a trace."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import opentelemetry.context as context_api
import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk import trace as sdk
from recorded import Recorded
from trace_tree import draw, spans_in_store

import otelsync
from otelsync.in_force import settings as configured


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a Python of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_second_call_changes_nothing(record: Callable[..., Recorded], tmp_path: Path) -> None:
    """A second configure() leaves everything as it is, whatever its options are."""
    recorded = record(service_name="first")
    provider = trace.get_tracer_provider()
    otelsync.configure(service_name="second", home=tmp_path / "second")
    assert trace.get_tracer_provider() is provider
    assert configured() is recorded.settings
    (line,) = recorded.lines
    assert line["service"] == "first"
    assert not (tmp_path / "second").exists()


def test_shutdown_leaves_the_original_behind(record: Callable[..., Recorded]) -> None:
    """After shutdown() provider, context, structlog and root logger are what they were, and it can be called again."""
    runtime, config = context_api._RUNTIME_CONTEXT, structlog.is_configured()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    record()
    assert context_api._RUNTIME_CONTEXT is not runtime
    assert otelsync.shutdown()
    assert otelsync.shutdown()
    assert context_api._RUNTIME_CONTEXT is runtime
    assert trace._TRACER_PROVIDER is None
    assert structlog.is_configured() is config
    assert (root.handlers, root.level) == (handlers, level)
    assert configured() is None


def test_configure_again_records_again(record: Callable[..., Recorded], tmp_path: Path) -> None:
    """After shutdown() a further configure() records anew, stages and tracers of others included."""
    first = record()
    early = trace.get_tracer("early")
    with otelsync.stage("one"), early.start_as_current_span("early"):
        otelsync.get_logger().info("one")
    otelsync.shutdown()
    second = Recorded(tmp_path / "again", service_name="second")
    with otelsync.stage("two"), trace.get_tracer("late").start_as_current_span("late"):
        otelsync.get_logger().info("two")
    assert first.tree() == "\nsync.stage one  [success]\n  early"
    assert second.tree() == "\nsync.stage two  [success]\n  late"
    assert [line["event"] for line in first.lines] == [line.event for line in first.logs] == ["one"]
    assert [line["event"] for line in second.lines] == [line.event for line in second.logs] == ["two"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LOG_LEVEL", "LOUD"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many"),
        ("OTELSYNC_REDACT_PATTERNS", "("),
    ],
)
def test_a_wrong_option_fails_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str
) -> None:
    """configure() raises for a value that cannot work, names it, and leaves everything as it was."""
    runtime, handlers = context_api._RUNTIME_CONTEXT, list(logging.getLogger().handlers)
    monkeypatch.setenv(variable, value)
    with pytest.raises(otelsync.ConfigurationError) as caught:
        otelsync.configure(home=tmp_path)
    assert variable in str(caught.value)
    assert repr(value) in str(caught.value)
    assert configured() is None
    assert trace._TRACER_PROVIDER is None
    assert context_api._RUNTIME_CONTEXT is runtime
    assert logging.getLogger().handlers == handlers
    assert list(tmp_path.iterdir()) == []
    monkeypatch.delenv(variable)
    otelsync.configure(home=tmp_path, ship="off", log_stream=io.BytesIO())
    assert configured() is not None


def test_disabled_records_nothing_and_logs_on(record: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch) -> None:
    """With OTEL_SDK_DISABLED nothing is traced or journalled; log records are rendered as ever."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    recorded = record()
    with otelsync.pipeline("p") as run:
        otelsync.get_logger().info("said")
    assert run.sync_id == ""
    assert "trace_id" not in recorded.line("said")
    assert otelsync.flush()
    assert otelsync.shutdown()
    assert not recorded.home.exists()


def test_a_foreign_provider_stays(record: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a provider is set already it stays, with a warning; logs are journalled with its ids."""
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    theirs = sdk.TracerProvider(shutdown_on_exit=False)
    theirs.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", theirs)
    recorded = record()
    with otelsync.pipeline("p", team_id=7) as run, otelsync.repo("acme/api"):
        otelsync.get_logger("app").info("said")
        with otelsync.pull_request(1) as pr:
            pr.set(action="created")
    otelsync.shutdown()
    assert trace.get_tracer_provider() is theirs
    warning = recorded.lines[0]
    assert warning["level"] == "warning"
    assert "TracerProvider is already set" in warning["event"]
    assert recorded.spans == []
    pr_span, repo_span, root = exporter.get_finished_spans()
    assert [span.name for span in (root, repo_span, pr_span)] == ["sync.pipeline p", "sync.repo acme/api", "sync.pr"]
    assert pr_span.parent == repo_span.context
    for span in (root, repo_span, pr_span):
        assert span.attributes is not None
        assert span.attributes["sync.id"] == run.sync_id
    assert root.attributes is not None
    assert root.attributes["sync.items.created"] == 1
    (said,) = [line for line in recorded.logs if line.event == "said"]
    assert (said.trace_id, said.attributes["sync.id"]) == (run.trace_id, run.sync_id)
    assert recorded.line("said")["span_id"] == said.span_id


def test_a_thread_ships_to_the_store(record: Callable[..., Recorded]) -> None:
    """By default a thread of the process brings runs into the local store, and flush() waits for it."""
    recorded = record(ship="thread")
    with otelsync.pipeline("p"), otelsync.repo("acme/api"):
        pass
    assert otelsync.flush(20)
    assert draw(spans_in_store(recorded.settings.store_file)) == (
        "sync.pipeline p       [success]\n  sync.repo acme/api  [success]"
    )
    assert otelsync.shutdown(20)
    assert not [thread for thread in threading.enumerate() if thread.name == "otelsync-shipper"]


def test_flush_without_anything_to_ship_is_true(record: Callable[..., Recorded]) -> None:
    """flush() and shutdown() are true where nothing is to be shipped."""
    assert otelsync.flush()
    record()
    assert otelsync.flush()
    assert otelsync.shutdown()


def test_setup_logging_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """setup_logging() renders records and records nothing; shutdown() undoes it."""
    handlers = list(logging.getLogger().handlers)
    otelsync.setup_logging("svc", "json", log_level="INFO")
    otelsync.get_logger("app").info("said", field=1)
    logging.getLogger("old").warning("said %s", "too")
    otelsync.get_logger("app").debug("not said")
    assert configured() is None
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["service"], first["logger"], first["event"], first["field"]) == ("svc", "app", "said", 1)
    assert (second["logger"], second["event"]) == ("old", "said too")
    otelsync.shutdown()
    assert logging.getLogger().handlers == handlers
    with pytest.raises(otelsync.ConfigurationError, match="log_format='xml' cannot work"):
        otelsync.setup_logging("svc", "xml")


def test_setup_logging_after_configure_goes_on_journalling(
    recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program's own call of setup_logging() changes how records are rendered, not that they are journalled."""
    otelsync.setup_logging("other", "json")
    otelsync.get_logger().info("said")
    assert json.loads(capsys.readouterr().out)["service"] == "other"
    assert [line.event for line in recorded.logs] == ["said"]


def test_closed_standard_output_is_no_error(record: Callable[..., Recorded]) -> None:
    """A log stream that is closed, when configured or later, harms nobody; records are still journalled."""
    stream = io.StringIO()
    stream.close()
    recorded = record(log_stream=stream, log_format="auto")
    otelsync.get_logger().info("said")
    assert [line.event for line in recorded.logs] == ["said"]


def test_the_resource_names_the_service(record: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans and logs carry the service and what OTEL_RESOURCE_ATTRIBUTES adds."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.name=not-this")
    recorded = record(service_name="svc")
    with otelsync.stage("s"):
        otelsync.get_logger().info("said")
    for resource in (recorded.spans[0].resource, recorded.logs[0].resource):
        assert resource["service.name"] == "svc"
        assert resource["deployment.environment.name"] == "test"


def test_import_is_light() -> None:
    """``import otelsync`` and a stage without configuration load no library that only some users need."""
    heavy = ("celery", "requests", "rich", "sqlalchemy", "grpc", "flask", "django", "fastapi", "starlette", "httpx")
    code = f"import sys, otelsync; otelsync.stage; print([name for name in {heavy!r} if name in sys.modules], end='')"
    done = python(code)
    assert (done.stdout, done.stderr) == ("[]", "")


def test_the_end_of_a_process_ships(tmp_path: Path) -> None:
    """A program that ends without shutdown() has its records shipped all the same, and prints nothing else."""
    code = (
        "import otelsync\n"
        "otelsync.configure(service_name='svc', log_level='ERROR')\n"
        "with otelsync.pipeline('p'): pass\n"
    )
    done = python(code, OTELSYNC_HOME=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert draw(spans_in_store(tmp_path / "store.db")) == "sync.pipeline p  [success]"


def test_a_user_without_home_is_told() -> None:
    """Where there is no home directory configure() says which variable to set."""
    code = (
        "import os, pathlib, otelsync\n"
        "def gone(): raise RuntimeError('Could not determine home directory.')\n"
        "pathlib.Path.home = gone\n"
        "try: otelsync.configure()\n"
        "except otelsync.ConfigurationError as error: print(error, end='')\n"
    )
    done = python(code)
    assert done.stdout == "OTELSYNC_HOME='' cannot work: this user has no home; set it to a directory"


def test_public_names_are_documented() -> None:
    """What is exported exists, has a docstring, and is all that the package shows beside its modules."""
    for name in otelsync.__all__:
        public = getattr(otelsync, name)
        assert name == "__version__" or public.__doc__, name
    shown = {name for name, value in vars(otelsync).items() if not name.startswith("_") and type(value) is not type(os)}
    assert shown == set(otelsync.__all__) - {"__version__"}


@pytest.mark.parametrize(
    "endpoint", ["nonsense", "collector:4318", "ftp://collector", "http://host:99999", "http://[::1", "http://a b", ""]
)
def test_an_endpoint_that_cannot_work_fails_at_once(endpoint: str, tmp_path: Path) -> None:
    """A wrong endpoint is named by configure(), with the value and the fix, and nothing has changed."""
    with pytest.raises(otelsync.ConfigurationError, match=r"endpoint|OTEL_EXPORTER_OTLP_ENDPOINT"):
        otelsync.configure(endpoint=endpoint, home=tmp_path)
    assert trace._TRACER_PROVIDER is None


def test_grpc_takes_a_bare_host_and_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With grpc an endpoint needs no scheme."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    otelsync.configure(endpoint="localhost:4317", home=tmp_path, ship="off")
    otelsync.shutdown(1)
