"""Runs in flight, as journals and the store tell of them: what is listed, what is marked, and what harms nothing."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import journal_files
import pytest
from click.testing import CliRunner
from journal_files import JournalFile
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span
from opentelemetry.trace import SpanKind
from otlp_server import eventually
from recorded import Recorded
from stored import pairs

import otelsync
from otelsync.cli import main
from otelsync.journal.format import SPAN_START
from otelsync.recording.span import RecordedSpan
from otelsync.shipping.shipper import Shipper
from otelsync.stages import stage as stages
from otelsync.stages.pipeline import Pipeline
from otelsync.stages.progress import Tracker
from otelsync.store.writing import StoreSink
from otelsync.views.in_flight import InFlight, remaining
from otelsync.views.in_flight_text import line_of, lines_of, signature
from otelsync.views.living_journals import MOST_BYTES
from otelsync.views.process_now import Progress
from otelsync.views.run_now import RUNNING, STUCK, WAITING, Remaining, RunNow, Wait

MINUTE = 60 * 1_000_000_000


class Watched:
    """A recording process, which is this one, and whoever looks at it."""

    def __init__(self, recorded: Recorded) -> None:
        self.recorded = recorded
        self.in_flight = InFlight(lambda: [recorded.journal], recorded.settings.store_file)

    def look(self, later: int = 0) -> list[RunNow]:
        """What is in flight, as it will look in so many nanoseconds."""
        return self.in_flight.look(time.time_ns() + later)

    def run(self, later: int = 0) -> RunNow:
        """The only run in flight."""
        (found,) = self.look(later)
        return found

    def fresh(self, later: int = 0) -> list[RunNow]:
        """The same, seen by somebody who has not looked before."""
        other = InFlight(lambda: [self.recorded.journal], self.recorded.settings.store_file)
        try:
            return other.look(time.time_ns() + later)
        finally:
            other.close()

    def ps(self, *arguments: str) -> str:
        """What the command prints."""
        result = CliRunner().invoke(main, ["ps", "--home", str(self.recorded.home), *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    def shipper(self) -> Shipper:
        """What brings the journal into the store."""
        return Shipper(self.recorded.journal, store=StoreSink(self.recorded.settings.store_file))


@pytest.fixture
def watched(recorded: Recorded) -> Iterator[Watched]:
    found = Watched(recorded)
    yield found
    found.in_flight.close()


def text(runs: list[RunNow]) -> str:
    now_ns = time.time_ns()
    return "\n".join("".join(piece.text for piece in line) for run in runs for line in lines_of(run, now_ns))


class TestListing:
    def test_before_anything_is_recorded(self, tmp_path: Path) -> None:
        """An empty place is no error."""
        result = CliRunner().invoke(main, ["ps", "--home", str(tmp_path)])
        assert (result.exit_code, result.stdout) == (0, "no run is in flight\n")

    def test_progress_is_seen_at_any_log_level(self, record: Callable[..., Recorded]) -> None:
        """With LOG_LEVEL=ERROR as well, of loops and of what is counted by hand."""
        watched = Watched(record(log_level="ERROR"))
        with otelsync.pipeline("p") as run:
            for name in run.track(["acme/web", "acme/api"]):
                with otelsync.repo(name) as repo:
                    tracker: Tracker[int] = repo.track(total=150)
                    tracker.advance(150)
                    if name == "acme/api":
                        with otelsync.stage("llm") as llm:
                            llm.track(total=4).advance(1)
                            shown = watched.ps()
            ended = watched.ps()
        assert "1 of 2  50.0%" in shown
        assert "0 of 150  0.0%" in shown
        assert "2 of 2  100.0%" in ended
        watched.in_flight.close()

    def test_a_run_in_flight_says_where_it_is(self, watched: Watched) -> None:
        """Its repository, the call, the last pull request, progress on each level, what is left of a limit."""
        reset = int(time.time()) + 3000
        with otelsync.pipeline("github.onboarding") as run:
            run.phase("syncing")
            for name in run.track(["acme/web", "acme/api"]):
                with otelsync.repo(name) as repo:
                    for number in repo.track([1, 2, 3], total=300):
                        with otelsync.pull_request(number, state="open") as pr:
                            pr.set(action="created")
                    with otelsync.api_call("get_repository") as call:
                        call.set(**{"sync.rate_limit.remaining": 1200, "sync.rate_limit.limit": 5000})
                        call.set(**{"sync.rate_limit.reset": reset, "sync.rate_limit.resource": "core"})
                    if name == "acme/api":
                        with otelsync.api_call("list_pull_requests", page=3):
                            found, shown = watched.run(), watched.ps()
        assert (found.sync_id, found.pipeline, found.service) == (run.sync_id, "github.onboarding", "test")
        assert (found.state, found.dispatched, found.phase) == (RUNNING, False, "syncing")
        assert found.progress is not None
        assert (found.progress.done, found.progress.total) == (1, 2)
        (place,) = found.places
        assert [stage.name for stage in place.stages] == ["sync.repo acme/api", "sync.api list_pull_requests page=3"]
        assert place.last_item is not None
        assert (place.last_item.kind, place.last_item.key) == ("pr", "3")
        (limit,) = found.limits
        assert (limit.name, limit.remaining, limit.limit) == ("core", 1200, 5000)
        lines = shown.splitlines()
        assert lines[0].startswith(
            f"{run.sync_id}  github.onboarding  running  0s  test  pid {found.pid}  phase syncing"
        )
        assert lines[1] == "  1 of 2  50.0%  created 3"
        assert lines[2] == "  acme/api  0s  3 of 300  1.0%  created 3  last #3"
        assert lines[3] == "    sync.api list_pull_requests page=3  0s"
        assert lines[4].startswith("  rate limit core: 1,200 of 5,000 left, full again at ")

    def test_a_run_that_has_ended_is_not_listed(self, watched: Watched) -> None:
        """Whoever looks again learns how it ended, and whoever looks for the first time sees nothing."""
        with otelsync.pipeline("p") as run:
            assert watched.run().sync_id == run.sync_id
            run.fail("no more")
        assert watched.look() == watched.fresh() == []
        ended = watched.in_flight.how_ended(run.sync_id)
        assert ended is not None
        assert ended.outcome == "failure"

    def test_runs_are_listed_in_the_order_of_their_beginnings(self, watched: Watched) -> None:
        """Each by itself, also those of one process."""

        def begin(name: str) -> Pipeline:
            run = otelsync.pipeline(name).__enter__()
            run.suspend()
            return run

        runs = [begin(name) for name in ("first", "second")]
        assert [run.pipeline for run in watched.look()] == ["first", "second"]
        for run in runs:
            run.span.end()
        assert watched.look() == []

    def test_a_pipeline_in_a_pipeline_is_one_run(self, watched: Watched) -> None:
        """They share a sync id, and the outer one gives its name."""
        with otelsync.pipeline("outer"), otelsync.pipeline("inner"), otelsync.repo("acme/api"):
            found = watched.run()
        assert found.pipeline == "outer"
        assert [place.groups for place in found.places] == [(("repo", "acme/api"),)]

    def test_json_says_the_same(self, watched: Watched) -> None:
        """For programs: the states, seconds and counts as they are."""
        with otelsync.pipeline("p") as run, otelsync.repo("acme/api") as repo:
            for number in repo.track([1, 2]):
                with otelsync.pull_request(number) as pr:
                    pr.set(action="updated")
            (found,) = json.loads(watched.ps("--json"))["runs"]
        assert (found["sync_id"], found["trace_id"], found["state"]) == (run.sync_id, run.trace_id, "running")
        (place,) = found["at"]
        assert (place["repo"], place["last_item"]["id"], place["waiting"]) == ("acme/api", "2", None)
        (stage,) = place["stages"]
        assert stage["progress"] == {
            "done": 2,
            "total": 2,
            "percent": 100.0,
            "eta_low_seconds": None,
            "eta_high_seconds": None,
            "counts": {"fetched": 2, "updated": 2},
        }

    def test_customers_and_orders_are_shown_by_their_kind(self, watched: Watched) -> None:
        """Groups and batches say of what kind they are, the last item too, and a stage what it was given first."""
        with otelsync.pipeline("orders"), otelsync.group("customer", "GREYSON") as customer:
            for number in customer.track([1, 2], total=40):
                with otelsync.item("order", 4710 + number) as order:
                    order.set(action="created")
            with otelsync.batch("create_items", number=3, size=25), otelsync.stage("map", name="fields", region="EU"):
                found, shown = watched.run(), watched.ps()
                (document,) = json.loads(watched.ps("--json"))["runs"]
        (place,) = found.places
        assert place.groups == (("customer", "GREYSON"),)
        lines = shown.splitlines()
        assert lines[1] == "  customer GREYSON  0s  2 of 40  5.0%  created 2  last order 4712"
        assert lines[2] == "    batch create_items number=3 size=25  0s"
        assert lines[3] == "      map name=fields region=EU  0s"
        (at,) = document["at"]
        assert (at["repo"], at["groups"]) == (None, [{"kind": "customer", "name": "GREYSON"}])
        assert (at["last_item"]["kind"], at["last_item"]["id"]) == ("order", "4712")

    def test_groups_of_one_kind_are_summed_up(self, watched: Watched) -> None:
        """Where the pipeline tracks nothing itself, the outermost groups are added up, not those inside them too."""
        with otelsync.pipeline("orders"):
            for name in ("GREYSON", "PELOTON"):
                with otelsync.group("customer", name) as customer:
                    with otelsync.group("board", "Orders") as board:
                        list(board.track(range(5), total=5))
                    list(customer.track(range(10), total=20))
            found = watched.run()
        assert found.progress is not None
        assert (found.progress.done, found.progress.total) == (20, 40)
        assert "all customers so far: 20 of 40  50.0%" in text([found])

    def test_threads_of_one_repository_are_one_place(self, watched: Watched) -> None:
        """Calls at the same time are counted, and the one that began last is shown."""
        with otelsync.pipeline("p"), otelsync.repo("acme/api"):
            first = otelsync.api_call("list_reviews").__enter__()
            first.suspend()
            with otelsync.api_call("list_files"):
                (place,) = watched.run().places
            first.span.end()
        assert place.parallel == 2
        assert place.stages[-1].name == "sync.api list_files"
        assert "1 stage more at the same time" in text([_with(watched, place)])

    def test_names_from_outside_are_made_printable(self, watched: Watched) -> None:
        """Escapes, line breaks and a megabyte of text reach no terminal."""
        hostile = "evil\x1b[2J\n\u202e/" + "x" * 1_000_000
        with otelsync.pipeline(hostile) as run, otelsync.repo(hostile) as repo, otelsync.api_call(hostile):
            run.phase(hostile)
            with otelsync.pull_request("\x1b]0;x\x07"):
                pass
            repo.count(**{hostile: 3})
            list(repo.track([1]))
            shown = watched.ps()
            (found,) = watched.look()
        assert [line for line in shown.splitlines() if not line.isprintable()] == []
        assert "evil\\x1b[2J\\n" in shown
        assert max(map(len, shown.splitlines())) <= 120
        assert line_of(found, time.time_ns()).isprintable()
        assert signature(found) == signature(found)


def _with(watched: Watched, place: Any) -> RunNow:
    """A run at that place."""
    with otelsync.pipeline("again"):
        run = watched.run()
    return RunNow(**{name: getattr(run, name) for name in RunNow.__slots__ if name != "places"}, places=(place,))


class TestStates:
    def test_no_record_for_five_minutes_is_stuck(self, watched: Watched) -> None:
        """The process lives and says nothing; any record ends it."""
        with otelsync.pipeline("p"), otelsync.repo("acme/api"), otelsync.api_call("list_pull_requests"):
            assert watched.run(4 * MINUTE).state == RUNNING
            stuck = watched.run(6 * MINUTE)
            assert (stuck.state, [place.state for place in stuck.places]) == (STUCK, [STUCK])
            assert "! no record for" in text([stuck])
            otelsync.get_logger("app").info("still.here")
            assert watched.run(4 * MINUTE).state == RUNNING

    def test_how_long_is_an_option(self, watched: Watched) -> None:
        """``--stuck-after`` is in minutes."""
        with otelsync.pipeline("p"), otelsync.repo("acme/api"):
            assert " stuck " in watched.ps("--stuck-after", "0.0000001")
            assert " running " in watched.ps("--stuck-after", "60")

    def test_waiting_for_a_rate_limit_is_not_stuck(self, watched: Watched) -> None:
        """It is said until when; only a wait that is long over is stuck."""
        with otelsync.pipeline("p"), otelsync.repo("acme/api"), otelsync.rate_limit_wait(3600, kind="primary"):
            waiting = watched.run(30 * MINUTE)
            overdue = watched.run(66 * MINUTE)
            shown = watched.ps()
        assert (waiting.state, overdue.state) == (WAITING, STUCK)
        (place,) = waiting.places
        assert place.wait is not None
        assert place.wait.until_ns is not None
        assert (place.wait.kind, place.wait.until_ns - place.wait.since_ns) == ("primary", 60 * MINUTE)
        assert [stage.name for stage in place.stages] == ["sync.repo acme/api"]
        assert "waiting for the primary rate limit until " in shown

    def test_a_retry_waits_too(self, watched: Watched) -> None:
        """It is said why, and until when."""
        with otelsync.pipeline("p"), otelsync.repo("acme/api"), otelsync.retry_wait(60, "server"):
            found = watched.run()
        assert found.state == WAITING
        assert "waiting to try again (server) until " in text([found])

    def test_a_stage_of_kind_waiting_waits(self, watched: Watched) -> None:
        """Until when nobody knows, so it is stuck when nothing was heard for as long as of anything else."""
        with otelsync.pipeline("p"), otelsync.repo("acme/api"), otelsync.stage("lock", kind="waiting", board=7):
            found, overdue = watched.run(), watched.run(6 * MINUTE)
            (document,) = json.loads(watched.ps("--json"))["runs"]
        assert (found.state, overdue.state) == (WAITING, STUCK)
        assert "waiting: lock board=7, 0s so far" in text([found])
        assert "waiting: lock board=7" in line_of(found, time.time_ns())
        waiting = document["at"][0]["waiting"]
        assert (waiting["for"], waiting["kind"], waiting["until"]) == ("stage", "lock board=7", None)

    def test_a_wait_between_repositories_is_a_place_of_its_own(self, watched: Watched) -> None:
        """Also with nothing else open below the pipeline."""
        with otelsync.pipeline("p"), otelsync.rate_limit_wait(3600, kind="secondary"):
            found = watched.run()
            assert found.state == WAITING
            assert "waiting for the secondary rate limit" in text([found])
            assert "waiting for the secondary rate limit" in line_of(found, time.time_ns())
            assert signature(found)[0] == WAITING

    def test_a_dead_process_has_no_run_in_flight(self, tmp_path: Path) -> None:
        """Its stages are open, and nobody will go on with them."""
        for alive in (True, False):
            journal = tmp_path / str(alive)
            journal.mkdir()
            _begin(JournalFile(journal, alive=alive), 1, "sync.pipeline p", "202508022027-SYNC-00010203").write()
            looking = InFlight(lambda journal=journal: [journal], tmp_path / "none")  # type: ignore[misc]
            assert [run.pid is not None for run in looking.look()] == ([True] if alive else [])
            looking.close()


class TestRemaining:
    PROGRESS = Progress("", "", "sync.repo", (), 50, 100, 50.0, 100.0, 200.0, 60.0, {}, 0)

    @pytest.mark.parametrize(
        ("seconds", "expected"), [(0, (100, 200)), (40, (60, 160)), (150, (0, 50)), (200, (0, 0)), (201, None)]
    )
    def test_it_shrinks_as_time_goes_by(self, seconds: int, expected: tuple[float, float] | None) -> None:
        """And is unknown once it takes longer than was foreseen."""
        found = remaining(self.PROGRESS, None, seconds * 10**9)
        assert found == (Remaining(*expected) if expected is not None else None)

    def test_a_wait_stands_in_for_the_waits_foreseen(self) -> None:
        """Of 100 s, 60 were waits and 10 have passed before this one, which lasts 500 s more."""
        wait = Wait("primary", 10 * 10**9, 600 * 10**9)
        assert remaining(self.PROGRESS, wait, 100 * 10**9) == Remaining(30 + 500, 130 + 500)

    def test_without_an_estimate_there_is_none(self) -> None:
        """Neither without progress."""
        assert remaining(None, None, 0) is None
        unknown = Progress("", "", "sync.repo", (), 50, None, None, None, None, 0.0, {}, 0)
        assert remaining(unknown, None, 0) is None


class TestShipping:
    def test_what_was_shipped_and_deleted_is_still_known(self, watched: Watched, recorded: Recorded) -> None:
        """The beginnings stand in the shipper's checkpoint: a first look finds the run all the same."""
        shipper = watched.shipper()
        padding = "x" * 100_000
        try:
            with otelsync.pipeline("p") as run, otelsync.repo("acme/api") as repo:
                tracker: Tracker[int] = repo.track([1, 2], total=2)
                for _ in tracker:
                    for _ in range(5):
                        otelsync.get_logger("app").info("padding", padding=padding)
                assert shipper.own()
                shipper.drain(120)
                (found,) = watched.fresh()
                assert len(list(recorded.journal.glob("*.journal"))) == 1
            assert found.sync_id == run.sync_id
            assert [place.groups for place in found.places] == [(("repo", "acme/api"),)]
        finally:
            shipper.close()

    def test_the_end_is_noticed_though_the_journal_is_gone(self, watched: Watched) -> None:
        """Whoever follows a journal has it open, and reads it to its end after it was shipped and deleted."""
        shipper = watched.shipper()
        try:
            with otelsync.pipeline("p") as run:
                assert watched.run().sync_id == run.sync_id
            otelsync.shutdown(1)
            assert shipper.own()
            assert shipper.drain(120)
            assert not list(watched.recorded.journal.glob("*.journal"))
            assert watched.look() == []
            ended = watched.in_flight.how_ended(run.sync_id)
            assert ended is not None
            assert ended.outcome == "success"
        finally:
            shipper.close()

    def test_whoever_looks_changes_nothing(self, watched: Watched) -> None:
        """No file comes, goes or changes, and no lock is left or taken."""
        shipper = watched.shipper()
        try:
            with otelsync.pipeline("p"), otelsync.repo("acme/api"):
                assert shipper.own()
                shipper.drain(0.1)
                before = _files(watched.recorded.home)
                watched.look()
                watched.ps()
                watched.ps("--json")
                assert _files(watched.recorded.home) == before
        finally:
            shipper.close()


class TestDispatched:
    def test_a_pipeline_that_was_handed_over_is_in_flight(self, watched: Watched) -> None:
        """Until somebody writes its end; the progress of its repositories is summed over all processes."""
        run = _dispatched()
        begun = watched.run()
        assert (begun.dispatched, begun.pid, begun.places, begun.state) == (True, None, (), RUNNING)
        assert watched.run(6 * MINUTE).state == STUCK
        with _part_of(run), otelsync.repo("acme/api") as repo:
            list(repo.track(range(30), total=100))
        with _part_of(run), otelsync.repo("acme/web") as repo:
            list(repo.track(range(50), total=100))
            found = watched.run()
        assert [place.groups for place in found.places] == [(("repo", "acme/web"),)]
        assert found.progress is not None
        assert (found.progress.done, found.progress.total, found.progress.percent) == (80, 200, 40.0)
        assert "all repos so far: 80 of 200  40.0%" in text([found])
        assert "dispatched" in watched.ps()
        _end(run)
        assert watched.look() == watched.fresh() == []

    def test_the_store_knows_it_when_no_journal_does(self, watched: Watched) -> None:
        """The dispatcher has gone and all is shipped: the run is in flight until the store has its end."""
        run = _dispatched()
        with _part_of(run), otelsync.repo("acme/api") as repo:
            list(repo.track(range(30), total=100))
        with _part_of(run), otelsync.repo("acme/web") as repo:
            list(repo.track(range(20), total=100))
        otelsync.shutdown(1)
        shipper = watched.shipper()
        assert shipper.own()
        assert shipper.drain(120)
        shipper.close()
        (found,) = watched.fresh()
        assert (found.sync_id, found.pipeline, found.dispatched, found.places) == (run.sync_id, "p", True, ())
        assert found.progress is not None
        assert (found.progress.done, found.progress.total) == (50, 200)
        assert watched.fresh(48 * 60 * MINUTE) == []


class TestDamage:
    def test_a_damaged_journal_is_read_as_far_as_it_goes(self, tmp_path: Path) -> None:
        """Whatever bytes are changed, cut off or added, looking raises nothing."""
        dice = random.Random(4)
        whole = _begin(JournalFile(tmp_path), 1, "sync.pipeline p", "202508022027-SYNC-00010203")
        whole.spans(20).begin(7).finish(7).release(1).logs(5)
        content = bytes(whole.header() + whole.records)
        for _ in range(300):
            damaged = bytearray(content[: dice.randrange(len(content))] if dice.random() < 0.2 else content)
            for _ in range(dice.randrange(4)):
                if damaged:
                    damaged[dice.randrange(len(damaged))] = dice.randrange(256)
            whole.path.write_bytes(damaged + dice.randbytes(dice.choice((0, 0, 600))))
            looking = InFlight(lambda: [tmp_path], tmp_path / "none")
            looking.look()
            looking.look()
            looking.close()

    @pytest.mark.parametrize("planned", [float("inf"), float("nan"), -float("inf"), 2**62])
    def test_a_wait_of_any_length(self, tmp_path: Path, planned: float) -> None:
        """A figure that is none is no reason to show nothing."""
        journal = JournalFile(tmp_path)
        wait: dict[str, Any] = {"sync__id": "s", "sync__rate_limit__planned_seconds": planned}
        journal.add(SPAN_START, 0, _start(8, "sync.pipeline p", sync__id="s"))
        journal.add(SPAN_START, 0, _start(9, "sync.rate_limit.wait", parent=8, **wait))
        journal.write()
        looking = InFlight(lambda: [tmp_path], tmp_path / "none")
        (run,) = looking.look()
        looking.close()
        assert "waiting for the rate limit" in text([run])

    def test_attributes_of_any_kind(self, tmp_path: Path) -> None:
        """What should be a text and is a number, a list or nothing is left out."""
        journal = JournalFile(tmp_path)
        for number, value in enumerate([7, True, 2.5, ""]):
            attributes: dict[str, Any] = {"sync__id": value, "sync__api__page": "x"}
            journal.add(SPAN_START, 0, _start(number + 1, "sync.pipeline p", **attributes))
        journal.add(SPAN_START, 0, _start(8, "sync.pipeline p", sync__id="s"))
        journal.write()
        looking = InFlight(lambda: [tmp_path], tmp_path / "none")
        (run,) = looking.look()
        looking.close()
        assert run.sync_id == "s"

    @pytest.mark.parametrize("name", ["shipper.json", "store.db"])
    def test_a_damaged_checkpoint_or_store_is_left_out(self, watched: Watched, name: str) -> None:
        """The journal alone is enough."""
        with otelsync.pipeline("p"):
            assert watched.run()
            for directory in (watched.recorded.journal, watched.recorded.home):
                (directory / name).write_bytes(b"\0rubbish" * 100)
            assert len(watched.fresh()) == 1

    def test_a_file_that_goes_and_comes(self, watched: Watched) -> None:
        """Somebody removes the journal, which its writer then puts back: the run is there again."""
        with otelsync.pipeline("p") as run:
            assert watched.run()
            for path in watched.recorded.journal.glob("*.journal"):
                path.unlink()
            watched.look()

            def is_back() -> bool:
                otelsync.get_logger("app").info("still.here")  # writers look for their file ten times a second
                return any(watched.recorded.journal.glob("*.journal"))

            eventually(is_back)
            assert watched.run().sync_id == run.sync_id


class TestEffort:
    def test_of_a_long_journal_only_the_first_and_the_last_files_are_read(self, tmp_path: Path) -> None:
        """Where the run began, and where it is; what lies between is not looked at."""
        size = MOST_BYTES // 4
        for sequence, name in enumerate(["sync.pipeline p", *(f"sync.repo acme/{n}" for n in range(7))]):
            journal = JournalFile(tmp_path, sequence=sequence, state=0 if sequence == 7 else 1)
            _begin(journal, sequence + 1, name, "s", parent=1 if sequence else 0).write(size=size)
        looking = InFlight(lambda: [tmp_path], tmp_path / "none")
        (run,) = looking.look()
        looking.close()
        assert run.pipeline == "p"
        assert sorted(name for place in run.places for _, name in place.groups) == ["acme/4", "acme/5", "acme/6"]

    def test_a_second_look_reads_what_is_new(self, watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not a byte of what was read before is taken again."""
        from otelsync.views.process_now import ProcessNow

        taken = []
        original: Callable[..., None] = ProcessNow.take

        def counting(self: ProcessNow, batch: Any) -> None:
            taken.append(batch.spans + batch.logs)
            original(self, batch)

        monkeypatch.setattr(ProcessNow, "take", counting)
        with otelsync.pipeline("p"), otelsync.repo("acme/api"):
            for number in range(1000):
                with otelsync.pull_request(number):
                    pass
            watched.look()
            first = sum(taken)
            taken.clear()
            with otelsync.pull_request(1000):
                pass
            watched.look()
        assert first > 1000
        assert sum(taken) <= 2


def _start(number: int, name: str, parent: int = 0, **attributes: Any) -> bytes:
    """The beginning of a span with these attributes, as the journal holds it."""
    message = Span(
        trace_id=journal_files.TRACE_ID,
        parent_span_id=parent.to_bytes(8, "big") if parent else b"",
        span_id=number.to_bytes(8, "big"),
        name=name,
        start_time_unix_nano=time.time_ns(),
        attributes=pairs(attributes),
    )
    return ScopeSpans(spans=[message]).SerializeToString()


def _begin(journal: JournalFile, number: int, name: str, sync_id: str, parent: int = 0) -> JournalFile:
    journal.add(SPAN_START, 0, _start(number, name, parent, sync__id=sync_id))
    return journal


def _files(home: Path) -> dict[str, tuple[int, int, int]]:
    """Every file below, but for SQLite's index of its log, which each reader maps."""
    return {
        str(path): (path.stat().st_ino, path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(home.rglob("*"))
        if not path.name.endswith(("-shm", "-wal"))
    }


def _dispatched() -> Pipeline:
    """A pipeline that was handed over, as `dispatch` does it."""
    with otelsync.pipeline("p") as run:
        span = run.span
        assert isinstance(span, RecordedSpan)
        run.hand_over()
        span.release()
    return run


def _part_of(run: Pipeline) -> otelsync.sync_context:
    """The scope of a task of that run."""
    return _TaskScope(run)


class _TaskScope(otelsync.sync_context):
    """Makes the run's span current, as the integration does in a worker."""

    def __init__(self, run: Pipeline) -> None:
        super().__init__()
        self._run = run

    def __enter__(self) -> None:
        from otelsync.recording.runtime_context import CURRENT

        self._tokens.append(CURRENT.set(self._run.span))  # type: ignore[arg-type]


def _end(run: Pipeline) -> None:
    """Write the end of the run, as the last task does."""
    tracer: Any = stages.current_tracer()
    attributes = {"sync.id": run.sync_id, "sync.outcome": "success"}
    tracer.start_span_as(
        run.span.get_span_context(), "sync.pipeline p", parent=None, kind=SpanKind.INTERNAL, attributes=attributes
    ).end()
