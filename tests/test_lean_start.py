"""A start loads what it needs: which modules are not loaded, by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from otlp_server import otlp_server

from otelsync.configuration import shipper_process
from otelsync.hooks.putting_off import UNUSED_BY_SHIPPERS, put_off
from otelsync.settings import Settings

NAMES: Final = "sorted(name for name in sys.modules if getattr(sys.modules[name], '__spec__', None))"
LOADED: Final = f"import sys; print({NAMES})"
"""Modules that are loaded; stand-ins of those that are put off have no spec."""
NEEDED_BY_NO_START: Final = {
    *(
        "opentelemetry.sdk",
        "grpc",
        "requests",
        "httpx",
        "celery",
        "rich",
        "structlog",
        "ssl",
        "http.client",
        "_hashlib",
    ),
    *("secrets", "importlib.metadata", "email.message", "urllib.request", "asyncio", "multiprocessing"),
}
NEEDED_TO_RECORD: Final = {"opentelemetry", "otelsync.recording", "otelsync.logs", "otelsync.secret_patterns"}
NEEDED_BY_OTLP: Final = {
    *("otelsync.otlp.exporter", "otelsync.otlp.http", "otelsync.otlp.grpc", "otelsync.otlp.options"),
    *("otelsync.shipping.folding", "otelsync.shipping.metrics", "otelsync.shipping.otlp_outlet"),
}


def python(home: Path, *arguments: str, **variables: str) -> str:
    """What a Python prints that finds no settings but these."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL", "LOG_"))}
    environment = {**clean, "OTELSYNC_HOME": str(home), **variables}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    return done.stdout


def loaded_by(home: Path, code: str, **variables: str) -> set[str]:
    """The modules that are loaded when `code` has run."""
    return set(json.loads(python(home, "-c", f"{code}\n{LOADED}", **variables).replace("'", '"')))


def test_the_package_loads_nothing_before_a_name_is_asked_for(tmp_path: Path) -> None:
    """Commands and shippers import it with each of its modules."""
    added = loaded_by(tmp_path, "import otelsync") - loaded_by(tmp_path, "")
    assert {name for name in added if name.partition(".")[0] != "json"} <= {"otelsync", "otelsync.version"}


def test_the_first_name_loads_what_recording_needs(tmp_path: Path) -> None:
    """The others are there without a further import: no thread loads them later. What few need is not among them."""
    code = "import otelsync; otelsync.configure; before = set(sys.modules)\n"
    names = "otelsync.pipeline, otelsync.repo, otelsync.pull_request, otelsync.shutdown, otelsync.Catalogue"
    check = f"{names}\nassert set(sys.modules) == before, set(sys.modules) - before"
    assert not loaded_by(tmp_path, f"import sys; {code}{check}") & NEEDED_BY_NO_START


def test_all_public_names_are_there_and_no_others(tmp_path: Path) -> None:
    """`dir` knows them before they are loaded."""
    code = (
        "import otelsync\n"
        "assert set(otelsync.__all__) <= set(dir(otelsync))\n"
        "for name in otelsync.__all__: getattr(otelsync, name)\n"
        "try: otelsync.nonsense\n"
        "except AttributeError as error: print(error, end='')"
    )
    assert python(tmp_path, "-c", code) == "module 'otelsync' has no attribute 'nonsense'"


RECORDING: Final = """
import otelsync
otelsync.configure(service_name="svc", log_level="ERROR", ship="off")
with otelsync.pipeline("p"), otelsync.repo("acme/api"):
    with otelsync.pull_request(1) as pr:
        pr.set(action="created")
"""


def loaded_by_shipper(home: Path, monkeypatch: pytest.MonkeyPatch, **variables: str) -> set[str]:
    """The modules of a shipper that has shipped what a program has recorded, in the process that this one waits for."""
    python(home, "-c", RECORDING)
    for name, value in {**variables, "OTELSYNC_REPORTS": "off", "OTELSYNC_HOME": str(home)}.items():
        monkeypatch.setenv(name, value)
    settings = Settings.from_environment(service_name="svc")
    started: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "posix_spawn", lambda _, command, environment, **__: started.append((command, environment)))
    shipper_process.ShipperProcess(settings, instead=lambda: pytest.fail("it can be started")).look()
    ((executable, *flags, file, directory), environment), *_ = started
    code = (
        "import os, runpy, sys\n"
        f"sys.argv = {[file, directory]!r}\n"
        "os.fork = lambda: 0\n"  # it goes on in this process
        f"runpy.run_path({file!r}, run_name='beside')['main']()\n"
        f"{LOADED}"
    )
    command = [executable, *flags, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    assert not list(settings.journal.glob("*.journal"))
    return set(json.loads(done.stdout.replace("'", '"')))


def among(modules: set[str], unwanted: set[str]) -> set[str]:
    """Those of some modules that are unwanted, or in an unwanted package."""
    return {name for name in modules if any(f"{name}.".startswith(f"{each}.") for each in unwanted)}


def test_a_shipper_to_the_store_loads_what_the_store_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of OTLP's sinks, of recording or of secrets, nor what only errors need."""
    loaded = loaded_by_shipper(tmp_path, monkeypatch)
    unwanted = NEEDED_BY_NO_START | NEEDED_BY_OTLP | NEEDED_TO_RECORD - {"opentelemetry"} | {*UNUSED_BY_SHIPPERS}
    assert "otelsync.store.writing" in loaded
    assert among(loaded, unwanted | {"opentelemetry.trace", "opentelemetry.context"}) == set()


def test_a_shipper_to_an_endpoint_loads_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor gRPC's library, where HTTP is asked for."""
    with otlp_server() as server:
        loaded = loaded_by_shipper(tmp_path, monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=server.url)
    assert "otelsync.otlp.http" in loaded
    assert among(loaded, {"sqlite3", "otelsync.store.writing", "grpc", "requests", "opentelemetry.sdk"}) == set()


def test_a_supervisor_loads_nothing_that_records(tmp_path: Path) -> None:
    """Of OpenTelemetry it needs the messages of OTLP alone."""
    code = (
        "import os, sys\n"
        "from otelsync.cli import run\n"
        "def end(status):\n"
        f"    print({NAMES}, flush=True)\n"
        "    os._exit(0)\n"
        "run.end_like = end\n"
        "run.command(['true'])"
    )
    loaded = set(json.loads(python(tmp_path, "-c", code).replace("'", '"')))
    recording = (NEEDED_TO_RECORD - {"opentelemetry"}) | {"opentelemetry.trace", "opentelemetry.context"}
    late = {"calendar", "google.protobuf.internal.python_message"}
    assert "otelsync.shipping.shipper" in loaded
    assert among(loaded, NEEDED_BY_NO_START | NEEDED_BY_OTLP | recording | late) == set()


def test_what_is_put_off_is_loaded_when_it_is_needed(tmp_path: Path) -> None:
    """Whoever has imported the stand-in finds all of the module in it."""
    put_off("os")  # which is loaded: nothing happens
    code = (
        "from otelsync.hooks.putting_off import put_off\n"
        "import sys\n"
        "for name in ('calendar', 'ast'): sys.modules.pop(name, None)\n"
        "put_off('calendar', 'ast')\n"
        "import calendar\n"
        "from ast import literal_eval\n"
        "assert calendar.timegm((1970, 1, 2, 0, 0, 0)) == 86400\n"
        "assert literal_eval('[1]') == [1] and sys.modules['ast'].literal_eval is literal_eval\n"
        "import calendar as again\n"
        "print(again.isleap(2000), calendar.isleap(1900), end='')"
    )
    assert python(tmp_path, "-c", code) == "True False"
