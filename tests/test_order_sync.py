"""The example that syncs orders to boards: the program as a process, and its report held against its database."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import documents
import pytest
from order_sync_site import CUSTOMERS, ROOT, Answer, Board, Limits, Site, figures, serving

from examples.order_sync.board_client import Reply

HOSTILE = "a|b\n# not a heading <img src=x> `\x1b[2J` [x](http://evil.example) \u202e $x$"
EXAMPLE = ROOT / "examples" / "order_sync"


@pytest.fixture
def board() -> Board:
    """A board without limits that matter."""
    return Board()


@pytest.fixture
def site(tmp_path: Path, board: Board) -> Iterator[Site]:
    """A site with twelve orders of each customer, and its board."""
    with serving(board) as server:
        site = Site(tmp_path, server.url)
        site.environment()
        site.fill()
        yield site


class TestSync:
    def test_everything_arrives_once(self, site: Site, board: Board) -> None:
        """All orders and sub-items are on the board and SYNCED; exit 0; a second run has nothing to do."""
        finished = site.run("sync", "--execute")
        assert (finished.returncode, finished.stderr) == (0, "")
        summary = site.summary()
        assert summary["outcome"] == "success"
        assert figures(summary) == site.truth(summary["sync_id"])
        titles = "SELECT title FROM fact_order_list UNION ALL SELECT title FROM fact_order_subitem"
        assert sorted(board.names()) == sorted(title for (title,) in site.ask(titles))
        before = len(board.names())
        assert site.run("sync", "--execute").returncode == 0
        assert len(board.names()) == before
        assert site.summary()["items"]["fetched"] == 0

    def test_one_customer_that_fails_makes_it_partial(self, site: Site) -> None:
        """Exit 2; one success, one failure; the report's figures are the database's, customer by customer."""
        site.environment(board="9999")
        finished = site.run("sync", "--execute")
        assert finished.returncode == 2
        summary = site.summary()
        assert summary["outcome"] == "partial"
        outcomes = {group["name"]: group["outcome"] for group in summary["groups"]}
        assert outcomes == {"GREYSON": "success", "PELOTON": "failure"}
        for group in summary["groups"]:
            assert figures(group) == site.truth(summary["sync_id"], group["name"])
        assert "GREYSON" in site.page("GREYSON")
        assert "❌ failure" in site.page("PELOTON")
        assert "Pending: orders" in site.page("PELOTON")

    def test_a_label_of_the_wrong_case_fails_these_orders_alone(self, site: Site) -> None:
        """`Cancelled` is not `CANCELLED`: two orders are in error with the board's words; the next run makes good."""
        site.environment(labels='CANCELLED = "Cancelled"')
        assert site.run("sync", "--execute").returncode == 2
        summary = site.summary()
        assert {group["name"]: group["outcome"] for group in summary["groups"]} == {
            "GREYSON": "success",
            "PELOTON": "partial",
        }
        for group in summary["groups"]:
            assert figures(group) == site.truth(summary["sync_id"], group["name"])
        errors = site.ask("SELECT status, sync_error FROM fact_order_list WHERE sync_state = 'ERROR'")
        words = "The dropdown label 'Cancelled' does not exist, possible labels are: {ACTIVE, CANCELLED, SHIPPED}"
        assert errors == [("CANCELLED", words)] * 2
        assert site.page("PELOTON").count(words) == 2
        site.environment()
        assert site.run("sync", "--execute").returncode == 0
        assert site.ask("SELECT count(*) FROM fact_order_list WHERE sync_state <> 'SYNCED'") == [(0,)]
        assert site.ask("SELECT count(*) FROM fact_order_subitem WHERE sync_state <> 'SYNCED'") == [(0,)]

    def test_without_execute_nothing_is_done(self, site: Site, board: Board) -> None:
        """A dry run asks no board and changes no row; its report says what would be done."""
        before = site.ask("SELECT * FROM fact_order_list")
        finished = site.run("sync", "--generate-report")
        assert finished.returncode == 0
        assert "GREYSON" in finished.stdout
        assert board.asked == 0
        assert site.ask("SELECT * FROM fact_order_list") == before
        items = site.summary()["items"]
        assert items["fetched"] == items["skipped"] > 24
        assert "a dry run" in site.page("GREYSON")

    def test_customer_limit_and_skip_subitems(self, site: Site, board: Board) -> None:
        """Three orders of PELOTON, and nothing else; the sub-items come with the run after it."""
        only = ("--customer", "PELOTON", "--limit", "3", "--skip-subitems", "--generate-report")
        assert site.run("sync", "--execute", *only).returncode == 0
        summary = site.summary()
        assert summary["items"]["created"] == 3 == len(board.names())
        assert [group["name"] for group in summary["groups"]] == ["PELOTON"]
        assert not list(site.reports[-1].glob("greyson*"))
        assert "| records processed | 3 (3 created) |" in site.page("PELOTON")
        assert site.run("sync", "--execute").returncode == 0
        assert site.ask("SELECT count(*) FROM fact_order_subitem WHERE sync_state <> 'SYNCED'") == [(0,)]

    def test_titles_from_outside_are_text(self, site: Site, board: Board) -> None:
        """A hostile title arrives as it is, and breaks neither table nor terminal."""
        site.environment(labels='CANCELLED = "Cancelled"')
        with closing(sqlite3.connect(site.database)) as database, database:
            database.execute("UPDATE fact_order_list SET title = ?", (HOSTILE,))
        assert site.run("sync", "--execute").returncode == 2
        assert HOSTILE in board.names()
        page = site.page("PELOTON")
        assert "\x1b" not in page
        assert "\u202e" not in page
        assert "\n# not" not in page
        assert "<img" not in page.replace("\\<img", "")
        rows = [line for line in page.splitlines() if "PE-" in line]
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}


class TestTroubles:
    def test_a_board_that_cannot_be_reached_fails_every_customer(self, site: Site) -> None:
        """Exit 1, and a file for each, with its pending orders; every record stays pending."""
        site.url = "http://127.0.0.1:9/v2"
        assert site.run("sync", "--execute").returncode == 1
        assert site.summary()["outcome"] == "failure"
        for customer in CUSTOMERS:
            assert "❌ failure" in site.page(customer)
            assert "Pending: orders" in site.page(customer)
        assert site.ask("SELECT DISTINCT sync_state FROM fact_order_list") == [("PENDING",)]

    @pytest.mark.parametrize("content", [b"no database at all" * 100, None], ids=["corrupt", "missing"])
    def test_a_database_that_cannot_be_read_still_has_its_report(self, site: Site, content: bytes | None) -> None:
        """Exit 1; the customers' files say that the database cannot be read."""
        site.database.unlink()
        if content is not None:
            site.database.write_bytes(content)
        finished = site.run("sync", "--execute")
        assert (finished.returncode, finished.stderr) == (1, "")
        for customer in CUSTOMERS:
            assert "❌ failure" in site.page(customer)
            assert "It cannot be read: " in site.page(customer)

    def test_limits_are_waited_for_and_stumbles_repeated(self, tmp_path: Path) -> None:
        """A spent budget, too many requests and two errors of the server: all arrives, and the report tells of them."""
        limits = Limits(complexity_budget=200, complexity_seconds=0.1, requests=6, requests_seconds=0.2)
        ticks = count(step=0.004)  # a clock that goes on when it is looked at, so that no slow machine misses a limit
        with serving(Board(limits=limits, faults={4: 500, 5: 502}, clock=lambda: next(ticks))) as server:
            site = Site(tmp_path, server.url)
            site.environment()
            site.fill()
            assert site.run("sync", "--execute").returncode == 0
        summary = site.summary()
        assert figures(summary) == site.truth(summary["sync_id"])
        waits = {wait["kind"]: wait["count"] for wait in summary["waits"]}
        assert waits.keys() >= {"complexity", "minute"}
        assert summary["error_count"] == 0
        limits_hit = sum(count for kind, count in waits.items() if kind in ("complexity", "minute"))
        assert summary["retries"]["resent"] == limits_hit + 2

    def test_a_batch_that_fails_leaves_its_orders_pending(self, site: Site) -> None:
        """A request beyond all complexity is refused for good; the next batch goes on, and nothing is lost."""
        with serving(Board(limits=Limits(complexity_budget=100, complexity_seconds=0.1))) as server:
            site.url = server.url
            site.environment(batch_size=12)
            site.fill(60)
            assert site.run("sync", "--execute", "--customer", "GREYSON", "--skip-subitems").returncode == 2
        states = site.ask("SELECT sync_state, count(*) FROM fact_order_list WHERE customer = 'GREYSON' GROUP BY 1")
        assert states == [("PENDING", 36), ("SYNCED", 24)]  # of each of three groups a batch of 12, and one of 8
        summary = site.summary()
        assert (summary["outcome"], summary["error_count"]) == ("partial", 3)
        assert figures(summary) == site.truth(summary["sync_id"])
        assert "Query has complexity of 120" in (site.reports[-1] / "_SYNC_SUMMARY.md").read_text()

    def test_reports_of_another_environment_are_left_alone(self, site: Site) -> None:
        """Its database is another one, and would say nothing of them."""
        assert site.run("sync").returncode == 0
        (folder,) = site.reports
        (folder / "greyson_20000101_000000.md").write_text("mine")
        for page in folder.glob("peloton_*.md"):
            page.unlink()
        (site.home / "other.toml").write_text((site.home / "test.toml").read_text())
        assert site.run("sync", environment="other.toml").returncode == 0
        assert not list(folder.glob("peloton_*.md"))
        assert site.run("sync").returncode == 0
        assert len(list(folder.glob("peloton_*.md"))) == 1
        assert (folder / "greyson_20000101_000000.md").read_text() == "mine"

    def test_where_nothing_ran_there_is_nothing_to_report(self, site: Site) -> None:
        """Exit 1, and otelsync says why."""
        finished = site.run("report")
        assert finished.returncode == 1
        assert "nothing has been recorded yet" in finished.stderr

    def test_wrong_use_is_no_partial_sync(self, site: Site) -> None:
        """Exit 64, with the reason in one line."""
        for arguments in (
            ("sync", "--customer", "NOBODY"),
            ("sync", "--limit", "0"),
            ("sync", "--nonsense"),
        ):
            finished = site.run(*arguments)
            assert finished.returncode == 64
            assert "order_sync" in finished.stderr.splitlines()[-1]
        assert site.run("sync", environment="nowhere").returncode == 64
        assert not site.reports


class TestReply:
    """What the client makes of an answer, whatever is in it."""

    @pytest.mark.parametrize(
        ("reply", "limit", "wait"),
        [
            (Reply(200, {"errors": [{"extensions": {"code": "ComplexityException"}}]}), "complexity", 1.0),
            (Reply(429, {"errors": [{"extensions": {"retry_in_seconds": 0.5}}]}, "7"), "minute", 0.5),
            (Reply(429, {}, "7"), "minute", 7.0),
            (Reply(429, {}, "Wed, 21 Oct 2026 07:28:00 GMT"), "minute", 1.0),
            (Reply(429, {"errors": [{"extensions": {"retry_in_seconds": 1e300}}]}), "minute", 120.0),
            (Reply(429, {"errors": [{"extensions": {"retry_in_seconds": float("nan")}}]}), "minute", 0.0),
            (Reply(429, {"errors": [{"extensions": {"retry_in_seconds": -1}}]}), "minute", 0.0),
            (Reply(200, {"errors": "nonsense"}), "", 1.0),
            (Reply(200, {"data": {}, "errors": [{"extensions": {"code": "ComplexityException"}}]}), "", 1.0),
        ],
    )
    def test_a_limit_is_waited_for_as_long_as_it_says(self, reply: Reply, limit: str, wait: float) -> None:
        """As the board says, else as HTTP does, else a second; never absurdly long. A partial answer is no limit."""
        assert (reply.limit, reply.wait) == (limit, wait)

    def test_a_stumble_is_no_fault_of_the_request(self) -> None:
        """No answer, or an error of the server."""
        assert [Reply(status, {}).stumbled for status in (0, 500, 503, 200, 400, 401)] == [True] * 3 + [False] * 3
        assert Reply(503, {}).reason == "status 503"


class TestKilled:
    @pytest.fixture
    def slow(self, tmp_path: Path, board: Board) -> Iterator[Site]:
        """A site whose board takes its time."""
        with serving(board, latency=0.1) as server:
            site = Site(tmp_path, server.url)
            site.environment()
            site.fill()
            yield site

    def until_synced(self, site: Site, customer: str, process: subprocess.Popen[str]) -> None:
        """Wait until a first record of a customer is on the board."""
        query = "SELECT count(*) FROM fact_order_list WHERE customer = ? AND sync_state = 'SYNCED'"
        deadline = time.monotonic() + 60
        while not site.ask(query, customer)[0][0]:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    @pytest.mark.parametrize(
        ("during", "outcomes"),
        [
            ("GREYSON", {"GREYSON": "🛑 interrupted", "PELOTON": "not begun"}),
            ("PELOTON", {"GREYSON": "✅ success", "PELOTON": "🛑 interrupted"}),
        ],
    )
    def test_a_killed_run_has_a_report_of_every_customer(
        self, slow: Site, board: Board, during: str, outcomes: dict[str, str]
    ) -> None:
        """`report` names the interrupted; figures are the database's; the next run goes on and makes nothing twice."""
        with slow.start("sync", "--execute") as process:
            self.until_synced(slow, during, process)
            process.kill()
        finished = slow.run("report")
        assert finished.returncode == 0, finished.stderr
        summary = slow.summary()
        assert summary["outcome"] == "interrupted"
        for customer, outcome in outcomes.items():
            assert slow.page(customer).startswith(f"# {customer}: {outcome}\n")
            assert f"{slow.reports[-1].relative_to(slow.home)}/{customer.lower()}_" in finished.stdout
        assert during in (slow.reports[-1] / "_SYNC_SUMMARY.md").read_text()
        said, true = figures(summary), slow.truth(summary["sync_id"])
        assert 0 <= true["SYNCED"] - said["SYNCED"] <= 1  # the one that was in hand
        assert slow.run("sync", "--execute").returncode == 0
        titles = "SELECT title FROM fact_order_list UNION ALL SELECT title FROM fact_order_subitem"
        assert sorted(board.names()) == sorted(title for (title,) in slow.ask(titles))

    def test_the_next_run_makes_the_report_of_a_killed_one(self, slow: Site) -> None:
        """Nobody has to ask for it."""
        with slow.start("sync", "--execute") as process:
            self.until_synced(slow, "PELOTON", process)
            process.kill()
        assert slow.reports == []
        assert slow.run("sync", "--execute", "--customer", "GREYSON").returncode == 0
        assert len(slow.reports) == 2
        assert "🛑 interrupted" in slow.page("PELOTON", 0)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_run_that_is_asked_to_stop_reports_at_once(self, slow: Site, number: signal.Signals) -> None:
        """Exit 130; outcome cancelled, a file for each customer."""
        with slow.start("sync", "--execute") as process:
            self.until_synced(slow, "GREYSON", process)
            process.send_signal(number)
            _, error = process.communicate(timeout=60)
        assert (process.returncode, error) == (130, "order_sync: stopped\n")
        assert slow.summary()["outcome"] == "cancelled"
        assert "cancelled" in slow.page("GREYSON")
        assert "not begun" in slow.page("PELOTON")

    def test_under_otelsync_run_a_killed_program_is_reported(self, slow: Site) -> None:
        """The supervisor makes otelsync's own report; `report` adds the customers' files."""
        command = [sys.executable, "-m", "otelsync.cli", "run", "--", *slow.command("sync", "--execute")]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, cwd=slow.home, env=slow.variables(), stdout=pipe, stderr=pipe, text=True) as run:
            self.until_synced(slow, "PELOTON", run)
            children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
            subprocess.run(["kill", "-KILL", children[0]], check=True)
            run.communicate(timeout=60)
        assert slow.summary()["outcome"] == "interrupted"
        assert slow.run("report").returncode == 0
        assert "🛑 interrupted" in slow.page("PELOTON")


class TestLogs:
    def test_every_record_has_an_id_of_its_file(self, site: Site) -> None:
        """`cl`, `db`, `me`, `se`: one prefix a file; what happens in a run carries its sync id."""
        site.environment(labels='CANCELLED = "Cancelled"')
        site.run("sync", "--execute", OTELSYNC_LOG_LEVELS="examples.order_sync=DEBUG")
        ours = [record for record in site.logged() if record["logger"].startswith("examples.order_sync")]
        prefixes = {record["logger"].rpartition(".")[2]: record["id"][:2] for record in ours}
        assert prefixes == {"cli": "cl", "database": "db", "board_client": "me", "sync_engine": "se"}
        (sync_id,) = {record["sync_id"] for record in ours if "sync_id" in record and record["id"][:2] == "se"}
        assert sync_id == site.summary()["sync_id"]

    def test_verbosity_goes_by_component(self, site: Site) -> None:
        """The client tells everything, the engine only what is wrong."""
        levels = "examples.order_sync.board_client=DEBUG,examples.order_sync.sync_engine=WARNING"
        site.run("sync", "--execute", OTELSYNC_LOG_LEVELS=levels)
        ids = {record.get("id") for record in site.logged()}
        assert "me-001" in ids
        assert not {name for name in ids if name and name.startswith("se-")}


class TestTracing:
    def test_it_takes_few_lines_and_public_names_alone(self) -> None:
        """Lines that are there for tracing; nothing below `otelsync.` is imported."""
        lines = [line.strip() for path in EXAMPLE.glob("*.py") for line in path.read_text().splitlines()]
        catalogue = ("otelsync.Catalogue", "otelsync.get_logger", "otelsync report")
        tracing = [line for line in lines if re.search(r"\botelsync\b(?!['.]s)|\bstage\.", line)]
        tracing = [line for line in tracing if re.search(r"otelsync\.\w+\(|stage\.|import otelsync", line)]
        tracing = [line for line in tracing if not any(name in line for name in catalogue)]
        assert len(tracing) < 25, tracing
        assert not [line for line in lines if re.match(r"from otelsync|import otelsync\.", line)]

    def test_without_tracing_the_sync_is_the_same(self, site: Site) -> None:
        """OTEL_SDK_DISABLED: the same exit status and rows; no report."""
        site.environment(board="9999")
        finished = site.run("sync", "--execute", "--generate-report", OTEL_SDK_DISABLED="true")
        assert finished.returncode == 2
        assert "no report" in finished.stdout
        assert site.ask("SELECT count(*) FROM fact_order_list WHERE sync_state = 'SYNCED'") == [(12,)]

    def test_the_demo_needs_nothing(self, tmp_path: Path) -> None:
        """Its board is its own, and gone with it; the label of the wrong case makes it partial."""
        site = Site(tmp_path)
        finished = site.run("sync", "--execute", "--generate-report", environment="demo")
        assert finished.returncode == 2, finished.stderr
        assert "PELOTON" in finished.stdout
        assert (tmp_path / ".order_sync" / "board.db").exists()

    def test_the_commands_of_its_page_work(self, tmp_path: Path) -> None:
        """The blocks of docs/order-sync.md, in their order; the sync with --execute is partial."""
        site = Site(tmp_path)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        variables = {key: value for key, value in site.variables(PATH=path).items() if key != "BOARD_API_URL"}
        page = ROOT / "docs" / "order-sync.md"
        lines = [line for block in documents.blocks(page, "sh") for line in block.text.splitlines()]
        assert len(lines) == 4
        for line in lines:
            command = ["bash", "-c", line]
            finished = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
            assert finished.returncode == (2 if "--execute" in line else 0), finished.stdout + finished.stderr
            assert finished.stdout


class TestBoard:
    """The board of the example: what it refuses, and how."""

    QUERY = (
        "mutation { create_item(board_id: $board, group_id: $group, item_name: $name, column_values: $values) { id } }"
    )

    def asked(self, board: Board, label: str = "CANCELLED", query: str = QUERY, token: str = "a-token") -> Answer:
        """One request for one item."""
        values = json.dumps({"key": "K-1", "status": {"label": label}, "quantity": 1})
        variables = {"board": "1001", "group": "1", "name": "A polo", "values": values}
        return board.answer(token, {"query": query, "variables": variables})

    def code(self, answer: Answer) -> str:
        """The code of the first error."""
        return str(answer.body["errors"][0]["extensions"]["code"])

    def test_labels_are_case_sensitive(self, board: Board) -> None:
        """Another case is refused in words of its own, and nothing is made."""
        assert "errors" not in self.asked(board).body
        refused = self.asked(board, "Cancelled")
        assert (refused.status, self.code(refused)) == (200, "ColumnValueException")
        assert refused.body["data"]["create_item"] is None
        assert board.names() == ["A polo"]

    def test_a_spent_budget_is_full_again_after_its_time(self) -> None:
        """It says after how long; the status is 429 and 200 by turns; beyond all measure is refused for good."""
        now = 0.0
        board = Board(limits=Limits(complexity_budget=20, complexity_seconds=30), clock=lambda: now)
        complexity = [self.asked(board).body["data"]["complexity"] for _ in range(2)]
        assert complexity[-1] == {"before": 10, "after": 0, "query": 10, "reset_in_x_seconds": 30}
        now = 20.0
        refused = [self.asked(board) for _ in range(2)]
        assert {self.code(answer) for answer in refused} == {"ComplexityException"}
        assert {answer.status for answer in refused} == {200, 429}
        assert refused[0].body["errors"][0]["extensions"]["retry_in_seconds"] == 10
        now = 30.0
        assert "data" in self.asked(board).body
        assert self.code(self.asked(board, query=f"mutation {{ {self.QUERY.partition('{')[2] * 3}")) == (
            "MaxComplexityExceeded"
        )

    def test_requests_are_limited_too(self) -> None:
        """429 with Retry-After in whole seconds."""
        board = Board(limits=Limits(requests=1, requests_seconds=1.5), clock=lambda: 0.0)
        self.asked(board)
        refused = self.asked(board)
        assert (refused.status, refused.retry_after, self.code(refused)) == (429, 2, "RateLimitExceeded")

    def test_what_is_no_request_is_refused(self, board: Board) -> None:
        """No token, no query, a field that is none, a board that is none."""
        assert self.asked(board, token="").status == 401
        assert board.answer("a-token", ["no object"]).status == 400
        assert self.code(self.asked(board, query="query { nonsense(id: $name) { id } }")) == "undefinedField"
        lost = "mutation { create_group(board_id: $name, group_name: $name) { id } }"
        assert self.code(self.asked(board, query=lost)) == "ResourceNotFoundException"
        incomplete = "mutation { create_group(board_id: $board) { id } }"
        assert self.code(self.asked(board, query=incomplete)) == "missingRequiredArguments"
