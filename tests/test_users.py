"""Several users record in one journal: nothing is lost or made unusable, and nobody gets at another's files."""

from __future__ import annotations

import json
import os
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
from otelsync.journal.spool import is_spool, make_spool, path_of, place_to_write, spool_of
from otelsync.settings import Settings
from otelsync.shipping.ledger import read_ledger
from otelsync.store.runs import open_store

pytestmark = root_alone


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home that root alone may enter, with spools below a directory that everybody may."""
    temporary = Path("/tmp") / f"otelsync-test-{os.getpid()}-{tmp_path.name}"
    temporary.mkdir()
    temporary.chmod(0o1777)
    monkeypatch.setenv("TMPDIR", str(temporary))
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    yield home
    subprocess.run(["rm", "-rf", str(temporary)], check=True)


@pytest.fixture
def theirs(home: Path) -> Path:
    """A home of another user's, which that user can enter."""
    place = Path(os.environ["TMPDIR"]) / "home"
    place.mkdir(mode=0o700)
    os.chown(place, NOBODY, NOBODY)
    assert home != place
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


@pytest.mark.parametrize("before", [0, 3], ids=["at its first record", "with a file of root's"])
def test_what_is_recorded_after_the_user_has_changed_is_there(home: Path, before: int) -> None:
    """A process that becomes another user's goes on in the spool, through any number of files."""
    code = f"work({before}); become_nobody(); work(6000); print(otelsync.flush(9), otelsync.shutdown())"
    done = program(configured(home) + code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True True\n", "")
    assert read_ledger(home / "journals" / "jobs").recorded == {"span": before + 6000, "log": 0}
    ship(home)
    assert stored(home) == before + 6000
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


def test_a_spool_is_found_by_those_who_were_told(home: Path) -> None:
    """Its name cannot be guessed or listed; everybody may add to it, and nobody may touch another one's files."""
    spool = make_spool(home)
    assert spool is not None
    assert make_spool(home) == spool == spool_of(home)
    assert stat.S_IMODE(spool.stat().st_mode) == 0o1777
    assert stat.S_IMODE(spool.parent.stat().st_mode) == 0o711
    (spool / "file").write_text("root's")
    code = f"""
become_nobody()
for attempt in (lambda: os.listdir({str(spool.parent)!r}), lambda: os.remove({str(spool / "file")!r}),
                lambda: os.rename({str(spool)!r}, {str(spool)!r} + "x"), lambda: open({str(home / "spool")!r})):
    try:
        attempt()
    except PermissionError:
        continue
    print("done")
"""
    done = program(code)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_spool_of_somebody_elses_is_none(home: Path, theirs: Path) -> None:
    """Nobody can lead root to a directory of their own, or have root's processes write there."""
    spool = make_spool(home)
    assert spool is not None
    fake = theirs / "spool"
    fake.mkdir()
    fake.chmod(0o1777)
    assert not is_spool(fake)  # root's, in a directory of another user's
    os.chown(fake, NOBODY, NOBODY)
    assert not is_spool(fake)
    link = spool.parent / "link"
    link.symlink_to(fake)
    assert not is_spool(link)
    (home / spools.NAME).write_text(str(fake))
    assert spool_of(home) is None
    assert make_spool(home) not in (None, fake)
    os.chown(home / spools.NAME, NOBODY, NOBODY)
    assert spool_of(home) is None


def test_a_spool_is_not_made_where_another_user_was_first(home: Path, theirs: Path) -> None:
    """The directory above spools must be root's: then the next place for temporary files is taken, or none."""
    temporary = Path(os.environ["TMPDIR"])
    (temporary / "otelsync-0").mkdir()
    os.chown(temporary / "otelsync-0", NOBODY, NOBODY)
    spool = make_spool(home)
    assert theirs.exists()
    assert spool is None or temporary not in spool.parents
    assert list((temporary / "otelsync-0").iterdir()) == []
    if spool is not None:
        (spool / "journal").unlink()
        spool.rmdir()


def test_a_spool_goes_when_its_journal_has_gone(home: Path) -> None:
    """The next one that is made sweeps old ones that no journal names, unless there is something in them."""
    made = []
    for name in ("gone", "full", "kept"):
        (home / name).mkdir()
        spool = make_spool(home / name)
        assert spool is not None
        made.append(spool)
    (made[1] / "1-1-aaaaaaaa-000000.journal").write_text("")
    for name, spool in zip(("gone", "full", "kept"), made, strict=True):
        if name != "kept":
            (home / name / spools.NAME).unlink()
        os.utime(spool, (0, 0))
    (home / "new").mkdir()
    make_spool(home / "new")
    assert [spool.exists() for spool in made] == [False, True, True]


def test_files_of_both_places_are_one_journal(home: Path) -> None:
    """A file is where it is found; of two with the same name the one in the directory itself counts."""
    spool = make_spool(home)
    assert spool is not None
    for place, name in ((home, "1-1-aaaaaaaa-000000.journal"), (spool, "1-1-aaaaaaaa-000001.journal")):
        (place / name).write_text("")
    assert [segment.sequence for segment in list_segments(home)["1-1-aaaaaaaa"]] == [0, 1]
    assert path_of(home, "1-1-aaaaaaaa-000001.journal").parent == spool
    assert path_of(home, "1-1-aaaaaaaa-000000.journal").parent == home
    (spool / "1-1-aaaaaaaa-000000.journal").write_text("")
    assert path_of(home, "1-1-aaaaaaaa-000000.journal").parent == home
    assert place_to_write(home, spool) == home


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
