"""`otelsync run`: the program is what it was, recorded and shipped; the supervisor is not noticed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from otlp_server import Answer, eventually, otlp_server
from supervised import OTELSYNC, PATIENCE, RECORDER, environment, run, running, script
from trace_tree import draw, spans_in_store

from otelsync.run.account import in_one_line
from otelsync.settings.program_name import service_of
from otelsync.shipping.ledger import Account, Ledger

PYTHON = sys.executable

SYNC = """
import logging, sys
import otelsync

with otelsync.pipeline("p"), otelsync.repo("acme/api"):
    logging.getLogger("app").warning("said")
print("done", *sys.argv[1:])
"""


def pipeline(home: Path) -> str:
    """The trace in the local store."""
    return draw(spans_in_store(home / "store.db"))


def test_a_program_that_configures_nothing_is_recorded_and_shipped(tmp_path: Path) -> None:
    """A program is recorded without a line of it changed; the supervisor ships, and says what became of all."""
    ended = run(tmp_path, PYTHON, script(tmp_path, SYNC))
    assert (ended.returncode, ended.stdout) == (0, "done\n")
    assert pipeline(tmp_path) == "sync.pipeline p       [success]\n  sync.repo acme/api  [success]"
    said, account = ended.stderr.splitlines()
    assert said == "said"
    assert account.startswith("otelsync: 2 spans and ")
    assert account.endswith(" recorded: all shipped")


def test_the_command_keeps_its_own_options(tmp_path: Path) -> None:
    """Options behind the command belong to it, also those that have a name of ours."""
    program = script(tmp_path, SYNC)
    ended = run(tmp_path, PYTHON, program, "--home", "x", "-v", "--", "--shutdown-timeout")
    assert ended.stdout == "done --home x -v -- --shutdown-timeout\n"
    assert run(tmp_path, "--", PYTHON, program, "--help").stdout == "done --help\n"


def test_standard_input_and_output_are_the_programs(tmp_path: Path) -> None:
    """What is written to the supervisor's standard input is read by the program."""
    assert run(tmp_path, "cat", stdin="passed on").stdout == "passed on"


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_the_exit_code_is_the_programs(tmp_path: Path, code: int) -> None:
    """The supervisor ends with the program's exit code."""
    assert run(tmp_path, "sh", "-c", f"exit {code}").returncode == code


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGSEGV", "SIGINT"])
def test_a_program_killed_by_a_signal_takes_the_supervisor_along(tmp_path: Path, name: str) -> None:
    """The supervisor dies of the signal that has killed the program, so that a shell sees what has happened."""
    ended = run(tmp_path, "sh", "-c", f"kill -{name.removeprefix('SIG')} $$")
    assert ended.returncode == -getattr(signal, name)


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    """A command that cannot be found ends with 127 and says so, one that cannot be run with 126, as in a shell."""
    missing = run(tmp_path, "no-such-command")
    assert (missing.returncode, missing.stderr) == (
        127,
        "otelsync: cannot run no-such-command: No such file or directory\n",
    )
    forbidden = run(tmp_path, "--no-supervise", script(tmp_path, "text"))
    assert forbidden.returncode == 126
    assert "Permission denied" in forbidden.stderr


def test_a_wrong_setting_fails_before_anything_is_started(tmp_path: Path) -> None:
    """A setting that cannot work is named, and the program is not started."""
    ended = run(tmp_path, "--endpoint", "not a url", "touch", tmp_path / "started")
    assert ended.returncode == 2
    assert "endpoint='not a url' cannot work" in ended.stderr
    assert not (tmp_path / "started").exists()


def test_nothing_recorded_nothing_said(tmp_path: Path) -> None:
    """A program that records nothing is run without a word of ours, and leaves no journal."""
    ended = run(tmp_path / "home", "echo", "hello")
    assert (ended.stdout, ended.stderr) == ("hello\n", "")
    assert not (tmp_path / "home" / "journals").exists()


@pytest.mark.parametrize("flags", ["-S", "-I", "-E"])
def test_a_python_without_site_runs_as_it_is(tmp_path: Path, flags: str) -> None:
    """A Python that does not look at its environment runs untraced."""
    ended = run(tmp_path, PYTHON, flags, "-c", "import logging; logging.warning('said')")
    assert (ended.returncode, ended.stderr) == (0, "WARNING:root:said\n")


def test_signals_are_handed_on(tmp_path: Path) -> None:
    """Each signal that the supervisor gets, the program gets once."""
    names = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGTERM", "SIGWINCH", "SIGCONT"]
    got = tmp_path / "got"
    with running(tmp_path, PYTHON, "-c", RECORDER, got, *names) as process:
        eventually(lambda: got.exists() and got.read_text().startswith("ready"), PATIENCE)
        for count, name in enumerate(names, 2):
            process.send_signal(getattr(signal, name))
            eventually(lambda count=count: len(got.read_text().splitlines()) == count)  # type: ignore[misc]
        _, pid, group = got.read_text().splitlines()[0].split()
        assert int(group) == os.getpgid(process.pid)
        os.kill(int(pid), signal.SIGKILL)
        assert process.wait(PATIENCE) == -signal.SIGKILL
    assert got.read_text().splitlines()[1:] == names


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    """Under nohup the program, too, survives a hang-up; and what Python changes for itself is put back."""
    code = "import signal; print(signal.getsignal(signal.SIGHUP).name)"
    shell = f"trap '' HUP; exec {' '.join(OTELSYNC)} run {PYTHON} -c '{code}'"
    ended = subprocess.run(
        ["sh", "-c", shell], env=environment(tmp_path), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert ended.stdout == "SIG_IGN\n"
    masks = ["sh", "-c", "grep -E 'SigBlk|SigIgn' /proc/self/status"]
    without = subprocess.run(masks, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert run(tmp_path, *masks).stdout == without.stdout


def test_an_endpoint_gets_everything(tmp_path: Path) -> None:
    """With an endpoint, spans and records are sent there, and the account says so."""
    with otlp_server() as server:
        ended = run(tmp_path, "--endpoint", server.url, "--service-name", "svc", PYTHON, script(tmp_path, SYNC))
        names = sorted(span.name for span in server.spans)
        resource = server.accepted[0].message.SerializeToString()
    assert names == ["sync.pipeline p", "sync.repo acme/api"]
    assert b"svc" in resource
    assert ended.stderr.endswith(": all shipped\n")
    assert not list((tmp_path / "journals" / "svc").glob("*.journal"))


def test_a_hanging_endpoint_holds_the_end_up_for_the_shutdown_timeout_at_most(tmp_path: Path) -> None:
    """With an endpoint that does not answer, the run ends at its deadline; nothing is lost, and the account says it."""
    with otlp_server() as server:
        server.always = Answer(hang=True)
        ended = run(tmp_path, "--shutdown-timeout", "0.5", "--endpoint", server.url, PYTHON, script(tmp_path, SYNC))
        assert ended.returncode == 0
        assert "pending" in ended.stderr or "stays in" in ended.stderr
        server.always = Answer()
        again = run(tmp_path, "--endpoint", server.url, "--service-name", "sync", "true")
        eventually(lambda: len(server.spans) >= 2)
    assert again.returncode == 0
    assert {span.name for span in server.spans} == {"sync.pipeline p", "sync.repo acme/api"}


def test_a_signal_cuts_the_drain_short(tmp_path: Path) -> None:
    """Who interrupts the supervisor while it ships the last records does not have to wait."""
    with otlp_server() as server:
        server.always = Answer(hang=True)
        arguments = ("--shutdown-timeout", "3600", "--endpoint", server.url, PYTHON, script(tmp_path, SYNC))
        with running(tmp_path, *arguments) as process:
            eventually(lambda: server.received, PATIENCE)
            eventually(lambda: not _children(process.pid))
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0


def test_without_a_supervisor_the_process_is_the_program(tmp_path: Path) -> None:
    """With --no-supervise the process becomes the program, and a thread of it ships."""
    code = SYNC + "import os; print(os.getpid())"
    with running(tmp_path, "--no-supervise", PYTHON, script(tmp_path, code)) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert out == f"done\n{process.pid}\n"
    assert err == "said\n"
    assert pipeline(tmp_path) == "sync.pipeline p       [success]\n  sync.repo acme/api  [success]"


def test_what_systemd_says_to_one_process_is_said_to_the_program(tmp_path: Path) -> None:
    """LISTEN_PID names the program, which would not take the sockets that it was given otherwise."""
    code = "import os; print(int(os.environ['LISTEN_PID']) == os.getpid(), os.environ.get('WATCHDOG_PID'))"
    shell = f'LISTEN_PID=$$ WATCHDOG_PID=1 exec {" ".join(OTELSYNC)} run {PYTHON} -c "{code}"'
    ended = subprocess.run(
        ["sh", "-c", shell], env=environment(tmp_path), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert ended.stdout == "True 1\n", ended.stderr


@pytest.mark.parametrize(
    ("command", "service"),
    [
        ("celery -A proj worker -c 4", "proj"),
        ("celery --app=proj.worker:app beat", "proj"),
        ("celery -Aproj multi start w1", "proj"),
        ("celery worker", "celery"),
        ("/venv/bin/celery -A proj worker", "proj"),
        ("python -m celery -A proj worker", "proj"),
        ("uv run celery -A proj worker", "proj"),
        ("python3.11 -X dev jobs/sync.py --full", "sync"),
        ("python -m github_sync.worker", "worker"),
        ("python app/__main__.py", "app"),
        ("python -c pass", "python"),
        ("gunicorn -b :8000 shop.wsgi:application", "shop"),
        ("./sync.sh", "sync"),
        ("gunicorn shop.wsgi", "shop"),
        ("gunicorn -w 2 -k uvicorn.workers.UvicornWorker --preload shop.wsgi", "shop"),
        ("gunicorn -c python:conf.gunicorn -b localhost:8000 shop.wsgi", "shop"),
        ("gunicorn", "gunicorn"),
        ("python -m uvicorn app:app", "app"),
        ("uvicorn --app-dir src --host 127.0.0.1 --port 8000 shop.main:app", "shop"),
        ("uvicorn --factory shop.main:create_app --reload", "shop"),
        ("python /venv/bin/celery -A proj worker", "proj"),
        ("python venv/lib/celery/__main__.py -A proj worker", "proj"),
        ("/venv/lib/python3.11/site-packages/uvicorn/__main__.py app:app", "app"),
        ("hypercorn shop.asgi:application", "shop"),
        ("daphne -p 8001 shop.asgi:application", "shop"),
        ("waitress-serve --listen=*:8041 shop.wsgi:app", "shop"),
        ("flask --app shop run", "shop"),
        ("uwsgi --http :9090 --master -w shop.wsgi:application", "shop"),
        ("uwsgi --ini uwsgi.ini", "uwsgi"),
        ("dramatiq -p 2 shop.tasks", "shop"),
        ("huey_consumer.py shop.huey -w 2", "shop"),
        ("fastapi run jobs/api.py --port 80", "api"),
        ("python - 3", "python"),
        ("python", "python"),
        ("python -m shop.__main__", "shop"),
        ("env DEBUG=1 python jobs/sync.py", "sync"),
        ("sh deploy/start.sh", "start"),
        ("nice -n 5 python jobs/sync.py", "sync"),
        ("poetry run gunicorn shop.wsgi", "shop"),
    ],
)
def test_the_service_is_called_after_the_command(command: str, service: str) -> None:
    """Without a name given, the service is called after the application or script that the command starts."""
    assert service_of(command.split()) == service


@pytest.mark.parametrize(
    ("line", "service"),
    [
        ("celery -A proj worker", "proj"),
        ("cd /srv && exec python -u jobs/sync.py --full", "sync"),
        ("set -e; export A=1; A=2 python -m shop", "shop"),
        ("python migrate.py && gunicorn shop.wsgi", "shop"),
        ("while true; do python sync.py; sleep 5; done", "sync"),
        ("./sync.sh --fast", "sync"),
        ("python 'not closed", "python"),
        ("", "sh"),
    ],
)
def test_the_service_is_called_after_what_a_shell_starts(line: str, service: str) -> None:
    """Of a line of a shell the application counts, and not the shell."""
    assert service_of(["sh", "-c", line]) == service
    assert service_of(["/bin/bash", "-lc", line]).replace("bash", "sh") == service


def test_the_service_is_called_after_the_project_of_manage_py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Django project is called after the package of its settings, or else after its folder."""
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    script = tmp_path / "manage.py"
    assert service_of(["python", str(script), "runserver"]) == tmp_path.name
    script.write_text("import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', \"shop.settings.local\")")
    assert service_of(["python", str(script), "runserver"]) == "shop"
    assert service_of([str(script), "runserver"]) == "shop"
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "market.settings")
    assert service_of(["python", str(script), "runserver"]) == "market"


@pytest.mark.parametrize(
    ("variables", "service"),
    [
        ({}, "sync"),
        ({"OTEL_SERVICE_NAME": "given"}, "given"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "a=b,service.name=in%20there"}, "in-there"),
    ],
)
def test_a_name_in_the_environment_goes_before_the_commands(
    tmp_path: Path, variables: dict[str, str], service: str
) -> None:
    """A service name that the environment gives is taken, and names the one journal of all processes."""
    code = "import os; print(os.environ['OTELSYNC_JOURNAL_DIR'])"
    ended = run(tmp_path, PYTHON, script(tmp_path, code), **variables)
    assert ended.stdout == f"{tmp_path}/journals/{service}\n"


def account(shipped: int, pending: int, dropped: dict[str, int] | None = None, signal: str = "span") -> Account:
    dropped = dropped or {}
    recorded = shipped + pending + sum(dropped.values())
    return Account("store", signal, recorded, shipped, 0, dropped, pending)


def ledger(*accounts: Account) -> Ledger:
    return Ledger({account.signal: account.recorded for account in accounts}, accounts, 0)


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        (ledger(), ledger(), ""),
        (ledger(account(5, 0)), ledger(account(5, 0)), ""),
        (ledger(account(5, 0)), ledger(account(1006, 0)), "1,001 spans recorded: all shipped"),
        (
            ledger(),
            ledger(account(1, 0), account(7, 2, signal="log")),
            "1 span and 9 log records recorded: 2 pending, which the next `otelsync run` or `otelsync ship` ships",
        ),
        (
            ledger(account(5, 0, {"rejected": 1})),
            ledger(account(6, 0, {"rejected": 3})),
            "3 spans recorded: the rest shipped, 2 dropped (rejected)",
        ),
        (ledger(), Ledger({"span": 2}, (), 0), "2 spans recorded: waiting for a shipper"),
        (
            ledger(Account("traces", "span", 10, 8, 2, {}, 0)),
            ledger(Account("traces", "span", 787, 610, 177, {}, 0), Account("store", "span", 787, 787, 0, {}, 0)),
            "777 spans recorded: 602 shipped, 175 folded",
        ),
        (
            ledger(),
            ledger(Account("traces", "span", 20, 8, 5, {"rejected": 3}, 4)),
            "20 spans recorded: 8 shipped, 5 folded, 3 dropped (rejected), 4 pending, which the next `otelsync run` or"
            " `otelsync ship` ships",
        ),
    ],
)
def test_the_account_of_a_run(before: Ledger, after: Ledger, line: str) -> None:
    """One line says what the run has recorded and what became of it, whatever was there before."""
    assert in_one_line(before, after) == line


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
