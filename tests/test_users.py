"""Several users record in one journal: nothing is lost or made unusable, and nobody gets at another's files."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from other_users import NOBODY, program, root_alone
from supervised import run

from otelsync.journal import spool as spools
from otelsync.journal.belonging import hand_over, hand_over_open
from otelsync.journal.names import list_segments
from otelsync.journal.spool import in_spool, is_needed, is_place, make_spool, name_of, path_of, spool_of
from otelsync.settings import Settings
from otelsync.shipping.ledger import read_ledger
from otelsync.store.runs import open_store

pytestmark = root_alone


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that root alone may enter."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return home


@pytest.fixture
def public(tmp_path: Path) -> Iterator[Path]:
    """A directory that everybody may enter."""
    public = Path("/tmp") / f"otelsync-test-{os.getpid()}-{tmp_path.name}"
    public.mkdir(mode=0o755)
    yield public
    shutil.rmtree(public)


@pytest.fixture
def theirs(public: Path) -> Path:
    """A home of another user's, which that user can enter."""
    place = public / "home"
    place.mkdir(mode=0o700)
    os.chown(place, NOBODY, NOBODY)
    return place


def stored(home: Path) -> int:
    """The number of spans in the store."""
    with open_store(home / "store.db") as store:
        (count,) = store.execute("SELECT count(*) FROM spans").fetchone()
    return int(count)


def ship(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "otelsync.cli", "ship", "--once", "--home", str(home)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def configured(home: Path) -> str:
    return f"otelsync.configure(home={str(home)!r}, service_name='jobs', ship='off')\n"


@pytest.mark.parametrize("after", [3, 6000], ids=["few", "files full"])
@pytest.mark.parametrize("before", [0, 3], ids=["at its first record", "with a file of root's"])
def test_what_is_recorded_after_the_user_has_changed_is_there(home: Path, before: int, after: int) -> None:
    """A process that becomes another user's goes on in the spool, through any number of files."""
    code = f"work({before}); become_nobody(); work({after}); print(otelsync.flush(9), otelsync.shutdown())"
    done = program(configured(home) + code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True True\n", "")
    assert read_ledger(home / "journals" / "jobs").recorded == {"span": before + after, "log": 0}
    ship(home)
    assert stored(home) == before + after
    assert not list_segments(home / "journals" / "jobs")


def test_children_that_drop_privileges_before_their_first_record(home: Path) -> None:
    """Workers as of gunicorn --preload and celery --uid: each record is there once, and theirs stand in no other."""
    code = """
with otelsync.pipeline("nightly"):
    for child in range(4):
        if os.fork() == 0:
            become_nobody()
            work(10)
            os._exit(0 if otelsync.flush(5) else 1)
    print(sorted(os.wait()[1] for _ in range(4)))
"""
    done = program(configured(home) + code)
    assert (done.stdout, done.stderr) == ("[0, 0, 0, 0]\n", "")
    recorded = read_ledger(home / "journals" / "jobs").recorded["span"]
    assert recorded == 40  # and one that the shipper completes
    ship(home)
    with open_store(home / "store.db") as store:
        rows = store.execute("SELECT count(*), count(DISTINCT span_id), count(DISTINCT trace_id) FROM spans").fetchone()
        outcome = store.execute("SELECT outcome, spans FROM runs").fetchall()
    assert rows == (41, 41, 1)
    assert outcome == [("success", 41)]


def test_a_killed_process_of_another_user_has_its_stages_closed(home: Path) -> None:
    """Its files in the spool are an orphan's like any other."""
    code = """
if os.fork() == 0:
    become_nobody()
    with otelsync.pipeline("nightly"), otelsync.repo("acme/api"):
        os.kill(os.getpid(), 9)
os.wait()
"""
    program(configured(home) + code)
    ship(home)
    with open_store(home / "store.db") as store:
        assert store.execute("SELECT outcome, spans FROM runs").fetchall() == [("interrupted", 2)]


def test_run_as_root_records_a_program_that_becomes_another_user(home: Path) -> None:
    """The supervisor ships what stands in the spool, and says so in the end."""
    code = (
        "import os, otelsync; os.setgid(65534); os.setuid(65534)\nfor _ in range(40):\n  with otelsync.stage('s'): pass"
    )
    done = run(home, "--service-name", "jobs", sys.executable, "-c", code)
    assert done.returncode == 0
    assert "otelsync: 40 spans and 0 log records recorded: all shipped" in done.stderr
    assert stored(home) == 40


def test_a_program_that_is_another_users_from_its_first_line(home: Path) -> None:
    """What `otelsync run` has told the environment is enough; the journal's own directory cannot be entered."""
    journal = home / "journals" / "jobs"
    journal.mkdir(parents=True, mode=0o700)
    spool = make_spool(journal)
    assert spool is not None
    code = "load_all(); become_nobody()\notelsync.configure(ship='off'); work(40); print(otelsync.flush(5))"
    done = program(
        code, OTELSYNC_HOME=home, OTELSYNC_JOURNAL_DIR=journal, OTELSYNC_JOURNAL_SPOOL=spool, OTEL_SERVICE_NAME="jobs"
    )
    assert (done.stdout, done.stderr) == ("True\n", "")
    assert read_ledger(journal).recorded["span"] == 40


def test_a_journal_of_another_user_is_refused_at_once(home: Path) -> None:
    """A home that two users share, without root: it is said whose it is, and records go the standard way."""
    done = program("load_all(); become_nobody()\n" + configured(home) + "work(4)")
    said = "cannot be written (Permission denied: "
    whose = " belongs to user root (0), and this process is user nobody (65534))"
    assert said in done.stdout
    assert whose in done.stdout


def test_what_could_be_written_nowhere_is_no_success(home: Path) -> None:
    """Where a journal is asked for by name and cannot be written, nobody is told that all was well."""
    code = "load_all(); become_nobody()\n" + configured(home) + "work(4); print(otelsync.flush(5), otelsync.shutdown())"
    done = program(code, OTELSYNC_JOURNAL="on")
    assert done.stdout.splitlines()[-1] == "False False"
    assert "4 spans and " in done.stdout


# What root makes in another user's home


def test_what_root_makes_in_a_home_is_its_owners(theirs: Path) -> None:
    """Root ships once, looks and records: the user goes on, and every record is there once."""
    record = "load_all(); become_nobody()\n" + configured(theirs) + "work(200); otelsync.shutdown()\n"
    assert program(record).stderr == ""
    ship(theirs)
    assert program(configured(theirs) + "work(5); otelsync.shutdown()").stderr == ""
    foreign = {str(path) for path in theirs.rglob("*") if path.lstat().st_uid != NOBODY}
    assert foreign == set()
    done = program(record + f"command('ship', '--once', '--home', {str(theirs)!r})")
    assert done.stderr == ""
    assert stored(theirs) == 405
    ledger = read_ledger(theirs / "journals" / "jobs")
    assert ledger.reconciles
    assert ledger.recorded["span"] == 405


def test_a_shipper_of_roots_that_was_killed_leaves_nothing_unusable(theirs: Path) -> None:
    """The lock and the checkpoint are the user's from the moment that they are there."""
    record = "load_all(); become_nobody()\n" + configured(theirs) + "work(200); otelsync.shutdown()\n"
    assert program(record).stderr == ""
    code = (
        "from otelsync.configuration.destinations import make_shipper\nfrom otelsync.settings import Settings\n"
        f"shipper = make_shipper(Settings.from_environment(home={str(theirs)!r}, service_name='jobs'))()\n"
        "shipper.step(); os.kill(os.getpid(), 9)"
    )
    program(code)
    done = program(record + f"command('ship', '--once', '--home', {str(theirs)!r})")
    assert done.stderr == ""
    assert stored(theirs) == 400


def test_nothing_but_a_new_file_of_roots_is_given_away(theirs: Path, tmp_path: Path) -> None:
    """Not what the user has put in its place: a link to a file of root's, another name of one, or a directory."""
    secret = theirs.parent / "secret"
    secret.write_text("root's")
    (theirs / "symbolic").symlink_to(secret)
    (theirs / "hard").hardlink_to(secret)
    directory = theirs / "directory"
    directory.mkdir()
    (directory / "file").write_text("root's")
    for name in ("symbolic", "hard", "directory", "missing"):
        hand_over(theirs / name)
    assert {path.lstat().st_uid for path in (secret, theirs / "hard", directory, theirs / "symbolic")} == {0}
    new = theirs / "new"
    new.write_text("")
    hand_over(new)
    assert new.stat().st_uid == NOBODY
    with (tmp_path / "own").open("w") as own:
        hand_over_open(own.fileno(), tmp_path)
    assert (tmp_path / "own").stat().st_uid == 0


# The spool


@pytest.fixture
def place(public: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for spools of this test alone."""
    place = public / "otelsync-0"
    monkeypatch.setattr(spools, "PLACES", (str(place),))
    return place


def test_a_spool_is_found_by_those_who_were_told(home: Path, place: Path) -> None:
    """Its prefix cannot be guessed or listed; everybody may add files, and nobody may touch another one's."""
    spool = make_spool(home)
    assert spool is not None
    assert spool.parent == place
    assert make_spool(home) == spool == spool_of(home) != spool_of(home / "other")
    assert stat.S_IMODE(place.stat().st_mode) == 0o1733
    file = in_spool(spool, "1-1-aaaaaaaa-000000.journal")
    file.write_text("root's")
    file.chmod(0o600)
    code = f"""
become_nobody()
for attempt in (lambda: os.listdir({str(place)!r}), lambda: open({str(place / "key")!r}), lambda: open({str(file)!r}),
                lambda: os.remove({str(file)!r}), lambda: os.rename({str(place)!r}, {str(place)!r} + "x")):
    try:
        attempt()
    except PermissionError:
        continue
    print("done")
"""
    done = program(code)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("what", ["owner", "link", "not sticky", "a file"])
def test_a_place_that_is_not_roots_own_is_none(home: Path, theirs: Path, place: Path, what: str) -> None:
    """Nobody can lead root, or those whom root has told, to a place of their own."""
    real = place if what != "link" else theirs / "real"
    real.write_text("") if what == "a file" else real.mkdir()
    real.chmod(0o1733)
    if what == "owner":
        os.chown(real, NOBODY, NOBODY)
    elif what == "link":
        place.symlink_to(real)
    elif what == "not sticky":
        real.chmod(0o733)
    assert not is_place(place)
    assert spool_of(home) is None
    assert is_needed(home, place / "prefix") is False
    spool = make_spool(home)
    assert (spool is None) == (what != "not sticky")  # which root puts right
    assert place.lstat().st_uid in (0, NOBODY)


@pytest.mark.parametrize("what", ["owner", "link", "short"])
def test_a_key_that_is_not_roots_own_is_none(home: Path, place: Path, public: Path, what: str) -> None:
    """It may have been put there before root came."""
    place.mkdir()
    place.chmod(0o1733)
    (public / "elsewhere").write_bytes(bytes(32))
    if what == "link":
        (place / "key").symlink_to(public / "elsewhere")
    else:
        (place / "key").write_bytes(bytes(4 if what == "short" else 32))
    if what == "owner":
        os.chown(place / "key", NOBODY, NOBODY)
    assert spool_of(home) is None
    assert make_spool(home) is None


def test_the_spool_of_a_directory_of_another_users_is_none(home: Path, theirs: Path, place: Path) -> None:
    """That user's processes can write there themselves."""
    assert make_spool(theirs / "journals" / "jobs") is None
    assert make_spool(home / "journals" / "not there yet") is not None
    assert place.exists()


def test_files_of_both_places_are_one_journal(home: Path, place: Path) -> None:
    """A file is where it is found; of two with the same name the one in the directory itself counts."""
    spool = make_spool(home)
    assert spool is not None
    first, second = "1-1-aaaaaaaa-000000.journal", "1-1-aaaaaaaa-000001.journal"
    (home / first).write_text("")
    in_spool(spool, second).write_text("")
    (place / f"{'0' * 32}-{second}").write_text("another journal's, or nobody's")
    assert [segment.name for segment in list_segments(home)["1-1-aaaaaaaa"]] == [first, second]
    assert name_of(path_of(home, second)) == second
    assert path_of(home, second) == in_spool(spool, second)
    in_spool(spool, first).write_text("")
    assert path_of(home, first) == home / first
    assert not is_needed(home, spool)


def test_a_hostile_checkpoint_leads_root_nowhere(theirs: Path) -> None:
    """A link or a pipe in its place is not read, and nothing is written through it."""
    journal = theirs / "journals" / "jobs"
    record = "load_all(); become_nobody()\n" + configured(theirs) + "work(3); otelsync.shutdown()\n"
    assert program(record).stderr == ""
    secret = theirs.parent / "secret"
    secret.write_text("root's")
    secret.chmod(0o600)
    for name in ("shipper.json", "shipper.json.tmp"):
        (journal / name).symlink_to(secret)
    subprocess.run(
        [sys.executable, "-m", "otelsync.cli", "ship", "--once", "--timeout", "5", "--home", str(theirs)],
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert secret.read_text() == "root's"
    assert secret.stat().st_uid == 0
    (journal / "shipper.json").unlink(missing_ok=True)
    os.mkfifo(journal / "shipper.json")
    done = subprocess.run(
        [sys.executable, "-m", "otelsync.cli", "ledger", "--json", "--home", str(theirs)],
        capture_output=True,
        timeout=300,
        check=True,
    )
    assert json.loads(done.stdout)["jobs"]["signals"]["span"]["recorded"] >= 0


def test_the_spool_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """`otelsync run` hands it on by the environment."""
    monkeypatch.setenv("OTELSYNC_JOURNAL_SPOOL", "/tmp/somewhere")
    assert Settings.from_environment().journal_spool == Path("/tmp/somewhere")
