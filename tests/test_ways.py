"""The way in force: by the journal where there can be one and it is wanted, and what is said where there is none."""

from __future__ import annotations

import inspect
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import both_ways
import pytest
from both_ways import JOURNAL, STANDARD, WAYS, program
from opentelemetry import trace
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from otlp_server import Answer, otlp_server
from plain_servers import closed_port, http, speaking

import otelsync
import otelsync.testing
from otelsync.configuration import way
from otelsync.settings import Settings

needs_mount = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")

SHORT = """
import otelsync
otelsync.configure(log_format="json")
with otelsync.pipeline("short") as run:
    otelsync.get_logger("app").info("said")
print(otelsync.flush(60), otelsync.shutdown(60))
"""


@contextmanager
def mounted(path: Path, options: str) -> Iterator[None]:
    """A file system in memory."""
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def why(home: Path, **options: Any) -> str:
    """Why there is no journal below `home`."""
    return way.why_not_by_journal(Settings.from_environment({}, home=home, service_name="sync", **options))


class TestTheWay:
    def test_is_the_journals_where_files_can_be_made(self, tmp_path: Path) -> None:
        """In a directory that is there, and in one that is not; nothing is left behind by the look."""
        assert why(tmp_path / "home") == ""
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "home" / "journals" / "sync").mkdir(parents=True)
        assert why(tmp_path / "home") == ""
        assert list((tmp_path / "home" / "journals" / "sync").iterdir()) == []

    def test_is_the_standard_one_where_none_can_be_made(self, tmp_path: Path) -> None:
        """Below a file, and below /proc, where not even root makes one."""
        (tmp_path / "file").touch()
        assert why(tmp_path / "file" / "home").endswith("journals/sync cannot be written (Not a directory)")
        assert why(Path("/proc/home")).startswith("/proc/home/journals/sync cannot be written")

    @needs_mount
    def test_is_the_standard_one_on_a_read_only_root(self, tmp_path: Path) -> None:
        """A file system that is mounted read-only, whatever the user may do."""
        with mounted(tmp_path / "home", "ro,size=64k"):
            assert "Read-only file system" in why(tmp_path / "home")

    @needs_mount
    def test_is_the_journals_on_a_full_disk(self, tmp_path: Path) -> None:
        """That passes: the journal tries again, and counts what it drops."""
        with mounted(tmp_path / "home", "size=4k,nr_inodes=1"):
            assert why(tmp_path / "home") == ""

    def test_is_as_somebody_wishes(self, tmp_path: Path) -> None:
        """`off` and `on` are heeded whatever can be written."""
        assert why(tmp_path, journalling="off") == "OTELSYNC_JOURNAL is off"
        assert why(Path("/proc/home"), journalling="on") == ""

    def test_is_the_standard_one_elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """On macOS, and where Python lacks what a journal is made of; asked for there, a journal is an error."""
        monkeypatch.setattr(sys, "platform", "darwin")
        assert why(tmp_path) == "journals are for Linux, and this is darwin"
        assert why(tmp_path, journalling="on") == ""
        monkeypatch.setattr(sys, "platform", "win32")
        monkeypatch.setitem(sys.modules, "fcntl", None)
        monkeypatch.delattr(os, "fork")
        assert why(tmp_path) == "this system (win32) has no fcntl, os.fork"
        with pytest.raises(otelsync.ConfigurationError, match="leave it at auto"):
            why(tmp_path, journalling="on")


def test_an_unwritable_home(tmp_path: Path) -> None:
    """Everything arrives all the same, and a warning says once what is lost, with the directory."""
    (tmp_path / "file").touch()
    taken = both_ways.run(tmp_path / "file", "auto", *program(SHORT))
    assert [span.name for span in taken.spans] == ["sync.pipeline short"]
    (said,) = [log for log in taken.logs if log.level == "WARNING"]
    assert said.event.startswith(f"there is no journal, as {tmp_path}/file/journals/sync cannot be written")
    assert taken.stdout.splitlines()[-1] == "True True"


def test_neither_an_endpoint_nor_a_journal(tmp_path: Path) -> None:
    """Nothing is exported, log records are rendered with ids, and one warning says so."""
    (tmp_path / "file").touch()
    ours = both_ways.environment(tmp_path / "file", "auto", None, OTELSYNC_STORE="auto")
    done = subprocess.run([*program(SHORT)], env=ours, capture_output=True, text=True, check=True)
    *lines, last = done.stdout.splitlines()
    records = [json.loads(line) for line in lines]
    assert (last, done.stderr) == ("True True", "")
    (warning,) = [record["event"] for record in records if record["level"] == "warning"]
    assert "no OTLP endpoint is set: spans and log records are sent nowhere" in warning
    (said,) = [record for record in records if record["event"] == "said"]
    assert (len(said["trace_id"]), len(said["span_id"])) == (32, 16)
    assert said["sync_id"].endswith(said["trace_id"][:8].upper())


class TestLosses:
    """Records that cannot be sent are counted, and nobody waits for them longer than wanted."""

    OUTAGE = """
import otelsync
otelsync.configure(log_format="json", shutdown_timeout=0.5)
with otelsync.pipeline("short") as run:
    pass
"""

    @pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
    def test_nobody_listens(self, tmp_path: Path, protocol: str) -> None:
        """flush() and shutdown() say False, and a warning how many were lost."""
        where = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{closed_port()}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5",
        }
        taken = both_ways.run(tmp_path, STANDARD, *program(SHORT), **where)
        *lines, last = taken.stdout.splitlines()
        assert (last, taken.returncode) == ("False False", 0)
        assert (
            json.loads(lines[-1])["event"] == "1 spans and 4 log records were lost, as they could not be sent in time"
        )

    def test_an_endpoint_that_hangs(self, tmp_path: Path) -> None:
        """The end of the program waits as long as it is told to, and says what was lost."""
        with otlp_server() as server:
            server.always = Answer(hang=True)
            taken = both_ways.run_at(
                server, tmp_path, STANDARD, *program(self.OUTAGE), OTEL_EXPORTER_OTLP_TIMEOUT="300"
            )
            assert "1 spans and 3 log records were lost" in taken.stdout
            assert (taken.returncode, taken.stderr) == (0, "")

    def test_a_forked_child_answers_for_its_own_records(self, tmp_path: Path) -> None:
        """Not for what its parent has lost, whether that was told already or not; and no loss of its own is hidden."""
        code = """
import os, otelsync
otelsync.configure(log_format="json", log_level="ERROR")
def work(count):
    for _ in range(count):
        with otelsync.stage("work"):
            pass
def child(*counts):
    if os.fork() == 0:
        for count in counts:
            work(count)
            print(otelsync.flush(60), flush=True)
        print(otelsync.shutdown(60), flush=True)
        os._exit(0)
    os.wait()
work(3)
child(0)
print(otelsync.flush(60), flush=True)
child(0)
child(1, 0, 1)
"""
        taken = both_ways.run(
            tmp_path,
            STANDARD,
            *program(code),
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{closed_port()}",
            OTEL_EXPORTER_OTLP_TIMEOUT="1",
        )
        said = [line for line in taken.stdout.splitlines() if line in ("True", "False")]
        assert said == [*("True", "True"), "False", *("True", "True"), *("False", "True", "False", "False")]

    def test_the_sdk_can_be_told_how_long_to_wait(self) -> None:
        """Its processors end within a time by a private way, which every version has that is supported."""
        processor = BatchSpanProcessor(InMemorySpanExporter())
        inner = vars(processor)["_batch_processor"]
        assert "timeout_millis" in inspect.signature(inner.shutdown).parameters
        inner.shutdown(timeout_millis=60_000)

    def test_more_than_can_wait(self, tmp_path: Path) -> None:
        """What does not fit into the SDK's queues is counted as lost; all of it fits by default."""
        many = (
            "import otelsync\notelsync.configure()\nfor n in range(3000):\n    with otelsync.item('order', n): pass\n"
        )
        with otlp_server() as server:
            taken = both_ways.run_at(server, tmp_path, STANDARD, *program(many))
            assert (len(taken.spans), "were lost" in taken.stdout) == (3000, False)
            bounds = {"OTEL_BSP_MAX_QUEUE_SIZE": "10", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10"}
            taken = both_ways.run_at(server, tmp_path, STANDARD, *program(many), **bounds)
            lost = 6000 - len(taken.spans)
            assert (lost > 0) == (f"{lost} spans and 0 log records were lost" in taken.stdout)


HTTP = """
import sys
import otelsync
otelsync.configure(log_format="json")
otelsync.instrument("requests")
import requests
with otelsync.pipeline("p"), otelsync.repo("acme/api"), otelsync.api_call("list"):
    requests.get(sys.argv[1] + "/repos/acme/api/pulls", timeout=60)
    requests.get(sys.argv[1] + "/repos/acme/api/pulls?access_token=hunter2hunter2", timeout=60)
otelsync.flush(60)
requests.get(sys.argv[1] + "/later", timeout=60)
"""
CALLS = """
sync.pipeline p                            [success]
  sync.repo acme/api                       [success]
    sync.api list                          [success]
      GET /repos/{owner}/{repo}/pulls      remaining=5
        * sync.rate_limit.low
      GET /repos/{owner}/{repo}/pulls      remaining=5
        * sync.rate_limit.low
GET /later                                 remaining=5
"""


@pytest.mark.parametrize("name", WAYS)
def test_calls_of_an_api(tmp_path: Path, name: str) -> None:
    """HTTP calls, limits of each token and their events are the same; what exporters send is not traced."""
    limits = {"X_RateLimit_Limit": "100", "X_RateLimit_Remaining": "5", "X_RateLimit_Reset": "9999999999"}
    with speaking(http(200, b"[]", **limits)) as port:
        url = f"http://127.0.0.1:{port}"
        taken = both_ways.run(tmp_path, name, *program(HTTP), url)
    assert (taken.returncode, taken.stderr) == (0, "")
    otelsync.testing.assert_span_tree(taken.spans, CALLS, attributes=["sync.rate_limit.remaining"], events=True)
    limit = [(log.event, log.attributes["remaining"]) for log in taken.logs if log.event.startswith("sync.rate_limit")]
    assert limit[0] == ("sync.rate_limit.low", 5)
    assert "hunter2hunter2" not in repr(taken)


class TestInOneProcess:
    def test_a_foreign_provider_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where a provider is set already it stays, with a warning; log records go out with its ids."""
        theirs = sdk.TracerProvider(shutdown_on_exit=False)
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", theirs)
        output = io.BytesIO()
        with otlp_server() as server:
            otelsync.configure(home=tmp_path, journalling="off", endpoint=server.url, log_stream=output)
            with otelsync.pipeline("p") as run:
                logging.getLogger("app").warning("said")
            assert otelsync.shutdown(60)
            assert trace.get_tracer_provider() is theirs
            assert b"a TracerProvider is already set as OpenTelemetry's tracer provider and stays" in output.getvalue()
            (said,) = [log for log in both_ways.logs_of(server) if log.event == "said"]
            assert (said.trace_id, said.attributes["sync.id"]) == (run.trace_id, run.sync_id)
            assert server.spans == []

    def test_ways_follow_each_other(self, tmp_path: Path) -> None:
        """After shutdown() the other way can be configured, and a tracer of the journal's way records again."""
        names = []
        with otlp_server() as server:
            for name in (JOURNAL, STANDARD, JOURNAL, STANDARD):
                options: dict[str, Any] = {"home": tmp_path, "endpoint": server.url, "log_stream": io.BytesIO()}
                otelsync.configure(**options, journalling=name, store="off")
                with otelsync.pipeline(f"by {name}"), trace.get_tracer("library").start_as_current_span("inside"):
                    names += [f"sync.pipeline by {name}", "inside"]
                assert otelsync.shutdown(60)
                assert trace._TRACER_PROVIDER is None
            assert sorted(span.name for span in server.spans) == sorted(names)
        assert logging.getLogger("urllib3.connectionpool").filters == []

    def test_a_test_is_recorded_whatever_the_environment_says(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """otelsync.testing needs a journal, and has one."""
        monkeypatch.setenv("OTELSYNC_JOURNAL", "off")
        with otelsync.testing.record(tmp_path) as recorded, otelsync.pipeline("p"):
            pass
        assert [span.name for span in recorded.spans] == ["sync.pipeline p"]

    def test_the_journals_way_loads_none_of_it(self, tmp_path: Path) -> None:
        """Neither otelsync nor a configured journal imports the SDK's exporters."""
        code = (
            f"import sys, otelsync; otelsync.configure(home={str(tmp_path)!r}, endpoint='http://127.0.0.1:9')\n"
            "ours = ('opentelemetry.exporter', 'otelsync.standard')\n"
            "print([name for name in sys.modules if name.startswith(ours)])\n"
            "otelsync.shutdown(0)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "[]\n"


@pytest.mark.parametrize("who", ["thread", "process", "off"])
def test_the_end_of_a_program(tmp_path: Path, who: str) -> None:
    """What is left is sent then, whoever would ship a journal."""
    program_of = "import otelsync\notelsync.configure()\nwith otelsync.pipeline('p'): pass"
    with otlp_server() as server:
        variables = both_ways.environment(tmp_path, STANDARD, server, OTELSYNC_SHIP=who)
        del variables["OTELSYNC_SHUTDOWN_TIMEOUT"]
        subprocess.run(program(program_of), env=variables, check=True, capture_output=True)
        assert [span.name for span in server.spans] == ["sync.pipeline p"]


class TestTheDoctor:
    def said(self, home: Path, way: str, **variables: str) -> tuple[int, dict[str, dict[str, str]]]:
        with otlp_server() as server:
            done = subprocess.run(
                [sys.executable, "-m", "otelsync.cli", "doctor", "--json"],
                env=both_ways.environment(home, way, server, **variables),
                capture_output=True,
                text=True,
                check=False,
            )
        return done.returncode, {each["code"]: each for each in json.loads(done.stdout)["findings"]}

    def test_says_that_it_is_the_journals(self, tmp_path: Path) -> None:
        """With the directory."""
        code, found = self.said(tmp_path, "auto")
        assert (code, found["journal"]["message"]) == (0, f"by the journal in {tmp_path}/journals/sync")

    def test_says_that_it_is_the_standard_one(self, tmp_path: Path) -> None:
        """As it is wished, that is in order; the probe goes by the SDK's exporters, and nothing is made."""
        code, found = self.said(tmp_path / "home", "off")
        assert (code, found["standard"]["status"], found["delivered"]["status"]) == (0, "ok", "ok")
        assert found["standard"]["message"].startswith("there is no journal, as OTELSYNC_JOURNAL is off")
        assert not (tmp_path / "home").exists()

    def test_says_why(self, tmp_path: Path) -> None:
        """What cannot be written is a problem, and the probe arrives all the same."""
        (tmp_path / "file").touch()
        code, found = self.said(tmp_path / "file", "auto")
        assert (code, found["unwritable"]["status"], found["delivered"]["status"]) == (1, "problem", "ok")
        assert "OTELSYNC_JOURNAL=off" in found["standard"]["fix"]

    def test_says_that_nothing_is_sent(self, tmp_path: Path) -> None:
        """Without a journal and without an endpoint."""
        code, found = self.said(tmp_path, "off", OTEL_EXPORTER_OTLP_ENDPOINT="")
        assert (code, found["standard"]["status"]) == (1, "problem")
        assert "set OTEL_EXPORTER_OTLP_ENDPOINT" in found["standard"]["fix"]
