"""What users test their own sync jobs with: a recording of their test's own, trees held against literals, fixtures."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import documents
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from otlp_server import OtlpServer
from plain_servers import http, speaking
from stored import batch, log, span, store

import otelsync
from otelsync import testing
from otelsync.errors import ConfigurationError
from otelsync.in_force import settings as configured
from otelsync.journal.header import JournalError
from otelsync.logs.events import Catalogue
from otelsync.logs.installed import active
from otelsync.testing import Kind, Log, Recorded, Span, assert_span_tree, span_tree, undeclared_events

pytest_plugins = ["pytester"]

tracer = trace.get_tracer("a.module")
"""As programs have it: asked for once, when they are imported."""

ONE_PAGE = """
sync.pipeline github.onboarding  [partial]
  sync.repo acme/api             [partial]
    sync.api list_pull_requests  [partial] page=1
      sync.pr                    x100 (2 failed)
"""
WITHIN = 30.0


def onboard(repo: str = "acme/api") -> None:
    """A sync of a hundred pull requests, of which two fail."""
    with (
        otelsync.pipeline("github.onboarding"),
        otelsync.repo(repo),
        otelsync.api_call("list_pull_requests", page=1) as call,
    ):
        for number in range(100):
            with otelsync.pull_request(number) as pr:
                pr.set(action="created")
                if number in (7, 42):
                    pr.fail("its author is unknown")
        call.set(status=200)


def made(name: str, own: int, parent: int = 0, start: int = 0, end: int | None = 1, **more: object) -> Span:
    """A span of the trace 1."""
    attributes = {key.replace("__", "."): value for key, value in more.items()}
    ids = f"{1:032x}", f"{own:016x}", f"{parent:016x}" if parent else ""
    return Span(name, *ids, start, end, status="ERROR" if attributes.pop("failed", 0) else "", attributes=attributes)


# Drawing and comparing


def test_a_trace_is_drawn_as_an_indented_tree(tmp_path: Path) -> None:
    """Names, outcomes and the attributes that are asked for; siblings without children are one line."""
    with testing.record(tmp_path) as recorded:
        onboard()
        assert f"\n{recorded.tree(attributes=['sync.api.page'])}\n" == ONE_PAGE


def test_groups_batches_and_items_of_any_kind_are_drawn_alike(tmp_path: Path) -> None:
    """Customers as repos, orders as pull requests; and a stage that waits says so."""
    with testing.record(tmp_path) as recorded:
        with otelsync.pipeline("orders"), otelsync.group("customer", "GREYSON"):
            with otelsync.stage("lock", kind="waiting"):
                pass
            with otelsync.batch("create_items", number=1, size=3):
                for key in range(3):
                    with otelsync.item("order", key) as order:
                        order.set(action="created")
        testing.assert_span_tree(
            recorded,
            """
            sync.pipeline orders           [success]
              sync.customer GREYSON        [success]
                sync.stage lock            [success] waiting
                sync.batch create_items    [success] number=1
                  sync.order               x3
            """,
            attributes=["sync.batch.number"],
        )


def test_what_an_attribute_is_called_can_be_said() -> None:
    """A mapping gives each attribute a name, or none."""
    spans = [made("GET", 1, http__response__status_code=200, url__path="/repos")]
    shown = {"http.response.status_code": "", "url.path": "at"}
    assert span_tree(spans, attributes=shown) == "GET  200 at=/repos"


def test_moments_are_numbered_on_request() -> None:
    """Instead of times, which differ, a tree shows in which order spans began and ended."""
    spans = [made("sync", 1, start=0, end=90), made("a", 2, 1, 10, 40), made("b", 3, 1, 20, 30)]
    spans.append(made("c", 4, 1, 25, None))
    assert span_tree(spans, times=True) == "sync  t=1..7\n  a   t=2..6\n  b   t=3..5\n  c   open t=4.."


def test_siblings_can_be_drawn_in_an_order_that_no_race_decides() -> None:
    """Without an order, siblings stand by what is shown of them and of those below, whichever began first."""

    def spans(first: int, second: int) -> Iterable[Span]:
        yield made("run", 1, start=0)
        yield made("task", first, 1, first, repo="b")
        yield made("page", 10, first, 11)
        yield made("task", second, 1, second, repo="a")
        yield made("page", 12, second, 13)

    trees = {span_tree(spans(2, 3), attributes=["repo"], in_order=False) for _ in "xy"}
    trees |= {span_tree(spans(3, 2), attributes=["repo"], in_order=False)}
    assert trees == {"run\n  task    repo=a\n    page\n  task    repo=b\n    page"}


def test_what_has_not_ended_is_marked_and_counted() -> None:
    """A span that is open says so, and so does a line that sums up spans."""
    spans = [made("sync", 1, end=None), *(made("pr", n, 1, n, None if n == 4 else 9, failed=n == 3) for n in (2, 3, 4))]
    assert span_tree(spans) == "sync  open\n  pr  x3 (1 failed, 1 open)"


def test_a_name_cannot_forge_a_line() -> None:
    """Line breaks and terminal escapes in names and values are shown as escapes."""
    spans = [made("a\n  b", 1, title="\x1b[31mred")]
    assert span_tree(spans, attributes=["title"]) == r"a\n  b  title=\x1b[31mred"


def test_a_parent_of_another_place_and_links_are_shown() -> None:
    """A parent that was not recorded is shown by its id, a link by the name of where it leads."""
    linked = Span("later", "1" * 32, "5" * 16, "9" * 16, 2, 3, Kind.CONSUMER, links=[f"{1:016x}"])
    assert span_tree([made("sync", 1), linked]) == f"sync\nlater  <- {'9' * 16} -> sync"


def test_thousands_of_siblings_can_be_drawn() -> None:
    """Drawing takes time in proportion to the spans, however many names siblings have."""
    spans = [made("root", 1), *(made(f"page {n}", n, 1, n) for n in range(2, 20_000))]
    assert span_tree(spans).count("\n") == 19_998


def test_a_literal_may_be_indented_and_aligned_as_its_author_likes(tmp_path: Path) -> None:
    """Neither the indentation as a whole nor its width nor the columns matter."""
    with testing.record(tmp_path) as recorded:
        onboard()
        assert_span_tree(
            recorded,
            """
            sync.pipeline github.onboarding    [partial]
                sync.repo acme/api  [partial]
                    sync.api list_pull_requests  [partial]
                        sync.pr      x100 (2 failed)
            """,
        )


def test_a_difference_shows_the_whole_trace_and_what_is_other() -> None:
    """The message is a tree in which the lines that differ are marked, and no others."""
    spans = [made("sync", 1), made("page one", 2, 1), made("pr", 3, 2)]
    with pytest.raises(AssertionError) as caught:
        assert_span_tree(spans, "sync\n  page 1\n    pr\n")
    assert str(caught.value) == (
        "the trace looks different (- expected, + recorded):\n\n  sync\n-   page 1\n+   page one\n      pr"
    )


def test_a_trace_that_was_not_recorded_is_named_as_such() -> None:
    """Where nothing was recorded, the message says so."""
    with pytest.raises(AssertionError, match="no span was recorded; expected:\n\nsync"):
        assert_span_tree([], "sync")


def test_a_literal_need_not_know_the_order_of_siblings() -> None:
    """Without an order, that of the literal does not matter either."""
    spans = [made("run", 1), made("b", 2, 1, 2), made("a", 3, 1, 3)]
    assert_span_tree(spans, "run\n  a\n  b", in_order=False)
    assert_span_tree(spans, "run\n  b\n  a", in_order=False)
    with pytest.raises(AssertionError):
        assert_span_tree(spans, "run\n  a\n  b")


# Asking


def test_a_span_is_found_by_name_and_attributes(tmp_path: Path) -> None:
    """It is the only one that answers; all that answer can be had as well."""
    with testing.record(tmp_path) as recorded:
        onboard()
        assert recorded.find("sync.pr", {"vcs.change.id": "42"}).failed
        assert len(recorded.find_all("sync.pr")) == 100
        assert recorded.find("sync.repo acme/api").kind is Kind.INTERNAL


def test_what_is_not_found_says_what_there_is(tmp_path: Path) -> None:
    """None, or too many: the message shows the attributes in question of what was recorded."""
    with testing.record(tmp_path) as recorded:
        for page in (1, 2):
            with otelsync.api_call("list", page=page):
                pass
        there = "recorded so far:\n\nsync.api list  [success] page=1\nsync.api list  [success] page=2"
        with pytest.raises(AssertionError) as caught:
            recorded.find("sync.api list", {"sync.api.page": 3})
        assert str(caught.value) == f"no spans are 'sync.api list' with {{'sync.api.page': 3}}; {there}"
        with pytest.raises(AssertionError, match=r"2 spans are 'sync.api list'; recorded so far:"):
            recorded.find("sync.api list")


def test_events_are_the_names_of_log_records_in_order(tmp_path: Path) -> None:
    """The names alone make a literal; the records have the rest."""
    with testing.record(tmp_path) as recorded:
        with otelsync.pipeline("github.onboarding"), otelsync.pull_request(7):
            otelsync.get_logger("app").info("pull_request.saved", number=7)
        assert recorded.events == ["sync.pipeline.started", "pull_request.saved", "sync.pipeline.completed"]
        (saved,) = [record for record in recorded.logs if record.event == "pull_request.saved"]
        assert (saved.level, saved.logger, saved.attributes["number"]) == ("INFO", "app", 7)
        assert saved.span_id == recorded.find("sync.pr").span_id


def test_a_condition_is_waited_for(tmp_path: Path) -> None:
    """It holds as soon as another thread has made it so; an assertion in it that fails means not yet."""
    with testing.record(tmp_path) as recorded:
        asked = threading.Event()

        def work() -> None:
            asked.wait(WITHIN)
            with otelsync.stage("late"):
                pass

        def late_has_ended(recorded: Recorded) -> bool:
            try:
                return recorded.find("sync.stage late").ended
            finally:
                asked.set()

        thread = threading.Thread(target=work)
        thread.start()
        assert recorded.wait_for(late_has_ended, within=WITHIN) is True
        thread.join()


def test_a_condition_that_never_holds_shows_what_was_recorded(tmp_path: Path) -> None:
    """At the deadline the message has the tree, and the assertion of the condition as its cause."""
    with testing.record(tmp_path) as recorded, otelsync.pipeline("github.onboarding"):
        with pytest.raises(AssertionError) as caught:
            recorded.wait_for(lambda recorded: recorded.find("other"), within=0)
        assert str(caught.value) == (
            "it did not come true within 0 s; recorded:\n\nsync.pipeline github.onboarding  open"
        )
        assert "no spans are 'other'" in str(caught.value.__cause__)


def test_a_home_is_read_from_its_journals_and_its_store(tmp_path: Path) -> None:
    """What was shipped is in the store, what was not in the journals; what is in both is there once."""
    with testing.record(tmp_path) as here, otelsync.pipeline("here"):
        (begun,) = here.spans
    ended = span("ended by a shipper", int(begun.span_id, 16), trace=begun.trace_id, sync=None)
    store(tmp_path / "store.db", batch(span("stored", 9, sync=None), ended, logs=[log("said")]))
    recorded = Recorded(tmp_path)
    assert sorted(span.name for span in recorded.spans) == ["stored", "sync.pipeline here"]
    assert "said" in recorded.events
    assert recorded.find("stored").service == "github-sync"
    assert recorded.find("stored").scope == "otelsync"


def test_a_damaged_journal_is_no_empty_one(tmp_path: Path) -> None:
    """A test does not pass over records that cannot be read."""
    with testing.record(tmp_path) as recorded, otelsync.pipeline("here"):
        pass
    (journal,) = tmp_path.glob("journals/test/*.journal")
    raw = bytearray(journal.read_bytes())
    raw[700] ^= 255
    journal.write_bytes(raw)
    with pytest.raises(JournalError, match="is damaged at"):
        _ = recorded.spans


# Recording


def test_ids_are_the_same_every_time(tmp_path: Path) -> None:
    """Spans are numbered; trace ids and sync ids begin with a number as well."""
    found = []
    for number in (1, 2):
        with testing.record(tmp_path / str(number)) as recorded:
            with otelsync.pipeline("a"), otelsync.repo("acme/api"):
                pass
            with otelsync.pipeline("b") as second:
                pass
            found.append([(span.trace_id[:8], span.span_id) for span in recorded.spans])
            assert second.sync_id.endswith("-SYNC-00000002")
    assert (
        found[0]
        == found[1]
        == [
            ("00000001", "0000000000000001"),
            ("00000001", "0000000000000002"),
            ("00000002", "0000000000000003"),
        ]
    )


def test_ids_are_random_again_afterwards(tmp_path: Path) -> None:
    """What is recorded later, or in a process that a test forks, repeats nothing."""
    with testing.record(tmp_path / "test"):
        child = os.fork()
        if child == 0:
            with otelsync.stage("child"):
                os._exit(0)
        os.waitpid(child, 0)
        with otelsync.stage("parent"):
            pass
    first, second = Recorded(tmp_path / "test").spans
    assert first.span_id != second.span_id
    otelsync.configure(home=tmp_path / "later", ship="off", log_stream=io.BytesIO())
    with otelsync.stage("later"):
        pass
    assert int(Recorded(tmp_path / "later").find("sync.stage later").span_id, 16) > 1000


def test_what_the_host_has_configured_is_put_back(tmp_path: Path) -> None:
    """otelsync itself, configured before: it goes on afterwards as if nothing had been, and saw nothing of the test."""
    output = io.BytesIO()
    otelsync.configure(service_name="host", home=tmp_path / "host", ship="off", log_stream=output, log_format="json")
    with tracer.start_as_current_span("before"):
        pass
    before = configured(), trace.get_tracer_provider(), active(), list(logging.getLogger().handlers)
    with testing.record(tmp_path / "test") as recorded, tracer.start_as_current_span("during"):
        logging.getLogger("app").warning("during")
    after = configured(), trace.get_tracer_provider(), active(), list(logging.getLogger().handlers)
    assert after[:3] == before[:3]
    assert [type(handler) for handler in after[3]] == [type(handler) for handler in before[3]]
    with tracer.start_as_current_span("after"):
        logging.getLogger("app").warning("after")
    assert [span.name for span in recorded.spans] == ["during"]
    assert [span.name for span in Recorded(tmp_path / "host").spans] == ["before", "after"]
    assert [json.loads(line)["event"] for line in output.getvalue().splitlines()] == ["after"]


def test_a_span_around_the_test_is_no_part_of_its_trace(tmp_path: Path) -> None:
    """What is current before is not the parent of what the test does, and is current again afterwards."""
    otelsync.configure(home=tmp_path / "host", ship="off", log_stream=io.BytesIO())
    with otelsync.stage("around") as around:
        with testing.record(tmp_path / "test") as recorded, otelsync.stage("inside"):
            pass
        assert trace.get_current_span() is around.span
    assert recorded.tree() == "sync.stage inside  [success]"


def test_a_foreign_provider_is_set_aside(tmp_path: Path) -> None:
    """Where the host uses OpenTelemetry's own provider, stages are recorded all the same, and it is there again."""
    provider = TracerProvider()
    trace.set_tracer_provider(provider)
    try:
        with testing.record(tmp_path) as recorded:
            onboard()
        assert len(recorded.spans) == 103
        assert trace.get_tracer_provider() is provider
    finally:
        provider.shutdown()
        trace._TRACER_PROVIDER = None
        trace._TRACER_PROVIDER_SET_ONCE = type(trace._TRACER_PROVIDER_SET_ONCE)()


def test_a_tracer_that_a_module_holds_records_in_every_test(tmp_path: Path) -> None:
    """Asked for once, at import, it records in the first test as in the second."""
    for number in (1, 2):
        with testing.record(tmp_path / str(number)) as recorded, tracer.start_as_current_span(f"in test {number}"):
            pass
        assert recorded.tree() == f"in test {number}"


def test_a_library_that_is_instrumented_once_records_in_every_test(tmp_path: Path) -> None:
    """What ``instrument()`` has switched on stays on, and its spans come along with each test."""
    import requests

    with speaking(http(200)) as port:
        otelsync.instrument("requests")
        try:
            for number in (1, 2):
                with testing.record(tmp_path / str(number)) as recorded, otelsync.stage("here"):
                    requests.get(f"http://localhost:{port}/", timeout=WITHIN)
                assert recorded.tree() == "sync.stage here  [success]\n  GET /"
        finally:
            otelsync.uninstrument("requests")


def test_the_program_may_configure_otelsync_itself(tmp_path: Path) -> None:
    """Its service, its secrets and its logging count; its endpoint and its shutdown do no harm."""
    output = io.BytesIO()
    with OtlpServer() as server, testing.record(tmp_path) as recorded:
        otelsync.configure(service_name="github-sync", endpoint=server.url, redact_keys=["customer"], log_stream=output)
        with otelsync.pipeline("github.onboarding", customer="Initech"):
            pass
        otelsync.shutdown()
        assert server.received == []
        pipeline = recorded.find("sync.pipeline github.onboarding")
        assert (pipeline.service, pipeline.attributes["customer"]) == ("github-sync", "[redacted]")
        assert recorded.events == ["sync.pipeline.started", "sync.pipeline.completed"]
        assert b'"service":"github-sync"' in output.getvalue()


def test_a_second_program_in_the_same_test_records_too(tmp_path: Path) -> None:
    """After the program's own shutdown, its next configure() leads to the same place."""
    with testing.record(tmp_path) as recorded:
        for name in ("first", "second"):
            otelsync.configure(service_name="github-sync", log_stream=io.BytesIO())
            with otelsync.pipeline(name):
                pass
            otelsync.shutdown()
        assert recorded.tree() == "sync.pipeline first   [success]\nsync.pipeline second  [success]"


def test_variables_lead_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an endpoint nor a sampler nor a switch of the environment has a say; afterwards they are there again."""
    foreign = {
        "OTEL_SDK_DISABLED": "true",
        "OTEL_TRACES_SAMPLER": "always_off",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.invalid:4318",
        "OTELSYNC_JOURNAL_DIR": str(tmp_path / "elsewhere"),
        "OTELSYNC_HOME": str(tmp_path / "home"),
    }
    for name, value in foreign.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    with testing.record(tmp_path / "test") as recorded:
        onboard()
    assert dict(os.environ) == before
    assert len(recorded.spans) == 103
    assert not (tmp_path / "elsewhere").exists()


def test_an_option_that_cannot_work_changes_nothing(tmp_path: Path) -> None:
    """It is named as configure() names it, and what was before is there again."""
    before = dict(os.environ)
    with pytest.raises(ConfigurationError, match="log_level='LOUD'"), testing.record(tmp_path, log_level="LOUD"):
        pass
    assert configured() is None
    assert dict(os.environ) == before


def test_a_program_that_is_started_is_recorded_too(tmp_path: Path) -> None:
    """It finds the home in its environment; what a killed one leaves is closed by ``otelsync run``."""
    program = "import otelsync, os, sys, click\notelsync.configure()\nwith otelsync.pipeline('there'): {}"
    with testing.record(tmp_path) as recorded, otelsync.pipeline("here"):
        subprocess.run([sys.executable, "-c", program.format("pass")], check=True, stdout=subprocess.DEVNULL)
        run = [sys.executable, "-m", "otelsync.cli", "run", sys.executable, "-c", program.format("os._exit(3)")]
        assert subprocess.run(run, check=False, capture_output=True).returncode == 3
        assert_span_tree(
            recorded,
            """
            sync.pipeline here   open
            sync.pipeline there  [success]
            sync.pipeline there  [interrupted]
            """,
            within=WITHIN,
        )


# Declared events


def test_an_event_without_an_entry_in_a_catalogue_is_named(tmp_path: Path) -> None:
    """otelsync's own and the application's are declared; messages need no declaration."""
    catalogue = Catalogue("t7", source=__name__)
    catalogue.event(1, "catalogued.here", level="info", says="It is in a catalogue.")
    with testing.record(tmp_path) as recorded, otelsync.pipeline("github.onboarding"):
        log = otelsync.get_logger("app")
        log.info("catalogued.here")
        log.info("catalogued.nowhere")
        log.info("Said in passing")
    assert undeclared_events(recorded.logs) == ["catalogued.nowhere"]


def test_an_event_that_was_known_where_it_was_logged_is_declared() -> None:
    """Another process may have catalogues that are not loaded here: its records carry ids."""
    there = Log("INFO", "app", "known.there", "", "", 0, {"id": "zz-001"}, {})
    other = Log("INFO", "app", "known.nowhere", "", "", 0, {"id": 4711}, {})
    assert undeclared_events([there, other]) == ["known.nowhere"]


# The plugin


def run(pytester: pytest.Pytester, **expected: int) -> str:
    """Run the tests that were made, with no plugin but otelsync's, and hold how they went; what pytest wrote."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        result = pytester.runpytest_subprocess("-W", "error", "-p", "otelsync", "-p", "no:cacheprovider")
    result.assert_outcomes(**expected)
    return str(result.stdout)


def outcomes(pytester: pytest.Pytester, source: str, **expected: int) -> str:
    """The same for a single file."""
    pytester.makepyfile(source)
    return run(pytester, **expected)


def test_a_suite_that_asks_for_nothing_does_not_load_otelsync(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plugin alone imports neither otelsync nor OpenTelemetry, and leaves the environment as it is."""
    for name in ("OTELSYNC_REPORTS", "OTELSYNC_SHUTDOWN_TIMEOUT"):
        monkeypatch.delenv(name)
    outcomes(
        pytester,
        """
        import os, sys

        def test_nothing_is_loaded(request):
            assert request.config.pluginmanager.hasplugin("otelsync")
            assert not {"otelsync", "opentelemetry", "structlog"} & set(sys.modules)
            assert not [name for name in os.environ if name.startswith("OTELSYNC")]
        """,
        passed=1,
    )


def test_the_fixture_records_each_test_by_itself(pytester: pytest.Pytester) -> None:
    """Every test has a recording of its own, with the same ids, and nothing is left behind."""
    outcomes(
        pytester,
        """
        import os
        import pytest, otelsync
        from otelsync.in_force import settings as configured
        from otelsync.testing import assert_span_tree

        @pytest.mark.parametrize("repo", ["acme/api", "acme/web"])
        def test_sync(recorded, repo):
            with otelsync.repo(repo):
                pass
            assert_span_tree(recorded, f"sync.repo {repo}  [success]")
            assert recorded.spans[0].span_id == "0000000000000001"

        def test_without():
            assert configured() is None
            assert "OTELSYNC_HOME" not in os.environ
        """,
        passed=3,
    )


def test_the_fixture_leaves_output_and_caplog_alone(pytester: pytest.Pytester) -> None:
    """What the test prints is what it prints, and caplog sees records of the standard library."""
    outcomes(
        pytester,
        """
        import logging
        import otelsync

        def test_output(recorded, capfd, caplog):
            with otelsync.pipeline("github.onboarding"):
                logging.getLogger("app").warning("low on quota")
                print("done")
            assert capfd.readouterr() == ("done\\n", "")
            assert ("app", logging.WARNING, "low on quota") in caplog.record_tuples
            assert "low on quota" in recorded.events
        """,
        passed=1,
    )


def test_a_test_that_fails_shows_its_trace(pytester: pytest.Pytester) -> None:
    """The report has a section with the tree; its traceback ends in the test, not in otelsync."""
    written = outcomes(
        pytester,
        """
        import otelsync
        from otelsync.testing import assert_span_tree

        def test_sync(recorded):
            with otelsync.pipeline("github.onboarding"):
                pass
            assert_span_tree(recorded, "sync.pipeline github.offboarding  [success]")
        """,
        failed=1,
    )
    assert "E       - sync.pipeline github.offboarding  [success]" in written
    assert "\nsync.pipeline github.onboarding  [success]\n" in written.partition("Recorded in ")[2]
    assert "drawing.py" not in written


def test_the_fixture_for_events_fails_on_one_that_is_not_declared(pytester: pytest.Pytester) -> None:
    """The test itself passes, and its end is an error that names the event."""
    written = outcomes(
        pytester,
        """
        import otelsync
        import pytest

        pytestmark = pytest.mark.usefixtures("no_undeclared_events")

        def test_declared():
            with otelsync.pipeline("github.onboarding"):
                pass

        def test_undeclared():
            otelsync.get_logger("app").info("pull_request.vanished")
        """,
        passed=2,
        errors=1,
    )
    assert "events that no catalogue declares: pull_request.vanished" in written


@pytest.mark.slow
def test_the_examples_of_the_documentation_pass(pytester: pytest.Pytester) -> None:
    """The files that docs/testing.md shows, with a sync job and a task in a real worker, are a suite that passes."""
    blocks = list(documents.blocks(documents.ROOT / "docs" / "testing.md", "py"))
    files = {block.text.partition("\n")[0].removeprefix("# "): block.text for block in blocks}
    assert {"test_onboarding.py", "test_tasks.py"} <= files.keys()
    for name, text in files.items():
        (pytester.path / name).write_text(text, encoding="utf-8")
    run(pytester, passed=sum(text.count("\ndef test_") for text in files.values()))
