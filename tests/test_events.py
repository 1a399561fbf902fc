"""The catalogue: what an event is called, that it carries its id wherever it is logged, and that code keeps to it."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import documents
import pytest
import structlog
from recorded import Recorded

import otelsync
from otelsync.errors import CatalogueError
from otelsync.levels import INFO
from otelsync.logs import events
from otelsync.logs.events import Catalogue
from otelsync.logs.installed import emit
from otelsync.logs.logged_events import check
from otelsync.views.catalogue import markdown, own


@pytest.fixture
def catalogue() -> Iterator[Catalogue]:
    """A catalogue of an application, with one event."""
    made = Catalogue("zz", source="app.fetching")
    made.event(1, "page.fetched", level="info", fields=("page",), says="A page is there.")
    yield made
    events._forget(made)
    del events._catalogues["zz"]


def test_an_event_knows_its_id_and_what_it_says(catalogue: Catalogue) -> None:
    """An event is its name, with an id of prefix and number, a level, fields and a sentence."""
    event = catalogue.event(17, "page.lost", level="error", fields=("page", ...), says="It is gone.")
    assert event == "page.lost"
    assert (event.id, event.level, event.fields, event.is_open) == ("zz-017", "error", ("page",), True)
    assert (event.says, event.source, event.is_message) == ("It is gone.", "app.fetching", False)
    assert [each.id for each in catalogue] == ["zz-001", "zz-017"]
    assert pickle.loads(pickle.dumps(event)).id == "zz-017"


@pytest.mark.parametrize(
    ("number", "name", "level", "says"),
    [
        (1, "another", "info", "'page.fetched'"),
        (0, "none.such", "info", "1 to 999"),
        (1000, "none.such", "info", "1 to 999"),
        (2, "page.fetched", "info", "is zz-001 already"),
        (2, "sync.pr.failed", "info", "is st-012 already"),
        (2, "", "info", "is no name"),
        (2, "none.such", "loud", "debug, info"),
    ],
)
def test_what_cannot_be_declared_says_why(catalogue: Catalogue, number: int, name: str, level: str, says: str) -> None:
    """A number, a name or a level that cannot be is an error that names the fix."""
    with pytest.raises(CatalogueError, match=says):
        catalogue.event(number, name, level=level, says="Something.")


def test_a_retired_number_is_never_used_again() -> None:
    """The number of an event that is no more cannot become another event's."""
    catalogue = Catalogue("zy", source="app", retired=(3,))
    with pytest.raises(CatalogueError, match="zy-003 is retired"):
        catalogue.event(3, "page.read", level="info", says="A page was read.")


def test_no_two_files_share_a_prefix(catalogue: Catalogue) -> None:
    """A prefix belongs to one source file; the same file, loaded anew, declares its events anew."""
    with pytest.raises(CatalogueError, match=r"'zz' is that of app\.fetching"):
        Catalogue("zz", source="app.other")
    for prefix in ("z", "zzz", "Z1", "1z", ""):
        with pytest.raises(CatalogueError, match="no prefix"):
            Catalogue(prefix, source="app")
    again = Catalogue(catalogue.prefix, source=catalogue.source)
    assert "page.fetched" not in events.known
    assert again.event(1, "page.fetched", level="info", says="A page is there.").id == "zz-001"


def test_a_known_event_carries_its_id(recorded: Recorded, catalogue: Catalogue) -> None:
    """Rendered and journalled, inside a span and outside, by structlog and by logging, first and later."""
    (fetched,) = catalogue
    ours, theirs, old = otelsync.get_logger("a"), structlog.get_logger("b"), logging.getLogger("c")
    with otelsync.pipeline("p"):
        for _ in range(2):
            ours.info("page.fetched", page=1)
            theirs.info(fetched, page=1)
            old.info("page.fetched", extra={"page": 1})
            old.info(fetched)
    ours.info("page.fetched")
    lines = [line for line in recorded.lines if line["event"] == "page.fetched"]
    assert [line["id"] for line in lines] == ["zz-001"] * 9
    assert list(lines[0])[:8] == ["timestamp", "level", "service", "logger", "event", "id", "trace_id", "span_id"]
    assert [line.attributes["id"] for line in recorded.logs if line.event == "page.fetched"] == ["zz-001"] * 9


@pytest.mark.usefixtures("catalogue")
def test_the_short_way_renders_what_the_long_way_renders(recorded: Recorded) -> None:
    """The id stands in the same place with and without the cache of what records begin with."""
    log = otelsync.get_logger("a")
    with otelsync.stage("s"):
        for _ in range(3):
            log.info("page.fetched", page=1)
            log.info("page.fetched")
    plain = [{**line, "timestamp": ""} for line in recorded.lines]
    assert plain[0] == plain[2] == plain[4]
    assert plain[1] == plain[3] == plain[5]
    assert {tuple(line) for line in recorded.lines[::2]} == {tuple(recorded.lines[0])}


@pytest.mark.usefixtures("catalogue")
def test_an_unknown_event_has_no_id_of_ours(recorded: Recorded) -> None:
    """A field ``id`` is the caller's own, unless the event is known; then it gets an underscore, as in a scope."""
    log = otelsync.get_logger("a")
    with otelsync.sync_context(id=5), otelsync.stage("s"):
        for _ in range(2):
            log.info("something.else", id=7)
            log.info("page.fetched", id=7)
    found = [(line["event"], line.get("id"), line.get("id_")) for line in recorded.lines]
    assert found == [("something.else", 7, 5), ("page.fetched", "zz-001", 7)] * 2
    attributes = [(line.attributes.get("id"), line.attributes.get("id_")) for line in recorded.logs]
    assert attributes == [(7, 5), ("zz-001", 7)] * 2


def test_what_is_declared_late_has_its_id_from_then_on(recorded: Recorded, catalogue: Catalogue) -> None:
    """A module that is imported while the program runs may declare what is logged already."""
    log = otelsync.get_logger("a")
    with otelsync.stage("s"):
        log.info("page.lost")
        catalogue.event(2, "page.lost", level="info", says="It is gone.")
        log.info("page.lost")
    assert [line.get("id") for line in recorded.lines] == [None, "zz-002"]


def test_a_message_is_known_by_its_format(recorded: Recorded, catalogue: Catalogue) -> None:
    """A record of logging carries the id of its format, whatever is filled in; without arguments that of its text."""
    catalogue.event(2, "%d pages of %s", level="info", says="So many.")
    catalogue.event(3, "no pages", level="info", says="None.")
    log = logging.getLogger("old")
    log.info("%d pages of %s", 3, "acme/api")
    log.info("no pages")
    assert [(line["event"], line["id"]) for line in recorded.lines] == [
        ("3 pages of acme/api", "zz-002"),
        ("no pages", "zz-003"),
    ]


@pytest.mark.usefixtures("catalogue")
def test_a_kept_logging_is_journalled_with_ids(record: Callable[..., Recorded]) -> None:
    """Where the program's own logging stays, the journal's records carry ids all the same."""
    recorded = record(logging="keep")
    logging.getLogger("old").warning("page.fetched", extra={"id": 7})
    with otelsync.pipeline("p"):
        pass
    assert [(line.event, line.attributes["id"], line.attributes.get("id_")) for line in recorded.logs] == [
        ("page.fetched", "zz-001", 7),
        ("sync.pipeline.started", "st-001", None),
        ("sync.pipeline.completed", "st-003", None),
    ]


def test_the_events_of_a_sync_are_logged_at_their_levels(recorded: Recorded) -> None:
    """Milestones at INFO, calls and pull requests at DEBUG, failures at ERROR; each that ends says how long it took."""
    with suppress(ZeroDivisionError), otelsync.pipeline("p") as run:
        run.phase("syncing")
        with otelsync.repo("acme/web"), otelsync.api_call("list", page=1) as call, otelsync.pull_request(1) as pr:
            call.event("sync.api.retry", reason="server")
            pr.set(action="created")
        with otelsync.repo("acme/api"), otelsync.api_call("list", page=1), otelsync.pull_request(2):
            _ = 1 / 0
    said = [(line["id"], line["level"], line["event"]) for line in recorded.lines]
    assert said == [
        ("st-001", "info", "sync.pipeline.started"),
        ("st-002", "info", "sync.pipeline.phase_changed"),
        ("st-005", "info", "sync.repo.started"),
        ("st-008", "debug", "sync.api.request"),
        ("hc-001", "info", "sync.api.retry"),
        ("st-011", "debug", "sync.pr.processed"),
        ("st-009", "debug", "sync.api.completed"),
        ("st-006", "info", "sync.repo.completed"),
        ("st-005", "info", "sync.repo.started"),
        ("st-008", "debug", "sync.api.request"),
        ("st-012", "error", "sync.pr.failed"),
        ("st-010", "error", "sync.api.failed"),
        ("st-007", "error", "sync.repo.failed"),
        ("st-004", "error", "sync.pipeline.failed"),
    ]
    ended = [line for line in recorded.lines if line["event"].endswith(("completed", "processed", "failed"))]
    assert all(line["duration_ms"] > 0 for line in ended)
    assert [line.get("number") for line in ended if line["event"].startswith("sync.pr.")] == ["1", "2"]
    assert [line["operation"] for line in recorded.lines if line["event"] == "sync.api.request"] == ["list", "list"]


def test_levels_and_fields_are_those_of_the_catalogue(recorded: Recorded) -> None:
    """What the stages really log is declared, at that level, with those fields."""
    with otelsync.pipeline("p", team_id=7), otelsync.repo("acme/api"), otelsync.api_call("list", page=1) as call:
        call.count(created=1)
        with otelsync.pull_request(1) as pr:
            pr.set(action="created")
    every = {"timestamp", "level", "service", "logger", "event", "id", "trace_id", "span_id", "sync_id", "pipeline"}
    for line in recorded.lines:
        event = events.known[line["event"]]
        assert line["level"] == event.level
        assert event.is_open or set(line) - every - {"repo"} <= set(event.fields)


def test_undeclared_names_are_found() -> None:
    """Of names that were logged, those that look like events and are in no catalogue; text is no event."""
    names = ["sync.pr.failed", "page.read", "Reading page 3", "page.read", "spawning_worker", "sync.pipeline.started"]
    assert events.undeclared(names) == ["page.read", "spawning_worker"]


def test_an_id_takes_no_secret_with_it(recorded: Recorded) -> None:
    """The id is part of what is rendered once; the fields behind it are redacted as ever."""
    with otelsync.stage("s") as stage:
        for _ in range(3):
            emit(INFO, "otelsync", "sync.pr.processed", {"token": "hunter2"}, stage.span)
    assert [(line["id"], line["token"]) for line in recorded.lines] == [("st-011", "[redacted]")] * 3


# The check of source code

APP = """
import logging
import otelsync
from otelsync import Catalogue, timed_operation

catalogue = Catalogue("ap", source=__name__)
FETCHED = catalogue.event(1, "page.fetched", level="debug", fields=("page", "size"), says="A page is there.")
catalogue.event(2, "page.saved", level="info", fields=("page", ...), says="It is saved.")
catalogue.event(3, "page.lost", level="error", says="It is gone.")
log = otelsync.get_logger(__name__)
old = logging.getLogger(__name__)

def work(more):
    log.debug(FETCHED, page=1, size=2)
    log.bind(a=1).info("page.saved", page=1, anything=2, exc_info=True)
    old.error("page.lost", extra={}, stacklevel=2)
"""


@pytest.fixture
def app(tmp_path: Path) -> Callable[[str], list[str]]:
    """Check an application, with further lines in its function, and say what was found."""

    def checked(more: str = "", before: str = APP) -> list[str]:
        (tmp_path / "app.py").write_text(before + "".join(f"    {line}\n" for line in more.splitlines()))
        return [finding.says for finding in check([tmp_path], events.known)]

    return checked


def test_code_that_keeps_to_its_catalogue_is_clean(app: Callable[..., list[str]]) -> None:
    """Names, constants, bound loggers and the standard library's are understood."""
    assert app() == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('log.info("page.read")', "'page.read' is logged and not declared"),
        ('log.info("reading")', "'reading' is logged and not declared"),
        ('old.warning("page.read", extra={"page": 1})', "'page.read' is logged and not declared"),
        ('otelsync.get_logger().info("page.read")', "'page.read' is logged and not declared"),
        ('with otelsync.repo("x") as repo: repo.event("page.read")', "'page.read' is logged and not declared"),
        ('with timed_operation("page.read"): pass', "'page.read' is logged and not declared"),
        ('log.info("page.fetched", page=1, size=2)', "'page.fetched' is logged at info and declared at debug"),
        ('log.debug(FETCHED, page=1, sise=2)', "'page.fetched' has no field 'sise' by its declaration"),
        ('log.debug("sync.pr.failed")', "'sync.pr.failed' is logged at debug and declared at error"),
        ('log.info("Reading page 3")', None),
        ('log.info(f"reading {more}")', None),
        ('log.debug(FETCHED, **more)', None),
        ('more.info("page")', None),
        ('repo = 1; repo.event("sync.api.retry", reason="server")', None),
    ],
)  # fmt: skip
def test_code_that_does_not_is_told_where(app: Callable[..., list[str]], line: str, says: str | None) -> None:
    """What is logged and not declared, and levels and fields that disagree."""
    assert app(line) == ([says] if says else [])


def test_declarations_that_nobody_uses_are_told(app: Callable[..., list[str]]) -> None:
    """An event and a field that are never logged, an id and a name that come twice."""
    more = APP + "    old.info('%s', more)\n"
    lost = more.replace('old.error("page.lost", extra={}, stacklevel=2)', "pass")
    assert app(before=lost) == ["'page.lost' (ap-003) is declared and never logged"]
    assert app(before=more.replace(", size=2", "")) == ["the field 'size' of 'page.fetched' is never logged"]
    twice = 'catalogue.event(3, "page.saved", level="info", says="")\n'
    said = app(before=more.replace("log = ", f"{twice}log = "))
    assert any(line.startswith("ap-003 is 'page.lost' already") for line in said)
    assert any(line.startswith("'page.saved' is ap-002 already") for line in said)
    other = 'other = Catalogue("ap", source="b")\n'
    (found,) = app(before=more.replace("log = ", f"{other}log = "))
    assert found.startswith("the prefix 'ap' has a catalogue already")


def test_a_file_that_is_no_python_is_told(tmp_path: Path) -> None:
    """It is a finding with its line, and the other files are checked all the same."""
    (tmp_path / "broken.py").write_text("def\n")
    (tmp_path / "app.py").write_text("log.info('page.read')\n")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "other.py").write_text("log.info('page.lost')\n")
    said = [str(finding) for finding in check([tmp_path], events.known)]
    assert [line.partition(": ")[0] for line in said] == [f"{tmp_path}/app.py:1", f"{tmp_path}/broken.py:1"]
    assert "cannot be read" in said[1]


def test_otelsync_and_its_examples_keep_to_their_catalogues() -> None:
    """Every event and every message that otelsync logs is declared, and the other way round."""
    root = documents.ROOT
    found = check([root / "otelsync", root / "examples"], events.known)
    assert [str(finding) for finding in found] == []


def test_every_own_event_has_an_id_of_its_own_and_a_sentence() -> None:
    """Ids differ, each source has one prefix, and each event says in a sentence what it means."""
    known = [event for catalogue in own() for event in catalogue]
    assert len({event.id for event in known}) == len(known)
    assert len({catalogue.source for catalogue in own()}) == len(own())
    assert [event.id for event in known if not event.says.endswith(".")] == []


def test_the_page_of_events_is_current() -> None:
    """docs/events.md is what `make docs` makes."""
    assert (documents.ROOT / "docs" / "events.md").read_text(encoding="utf-8") == markdown() + "\n"
