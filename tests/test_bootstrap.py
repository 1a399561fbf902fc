"""The bootstrap: a program is set up before its first line, once, and what has nothing to record is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import pythons
from supervised import PATIENCE, environment, script
from trace_tree import draw, logs_in_journal, spans_in_journal

from otelsync.hooks.python_path import BOOTSTRAP, without_bootstrap
from otelsync.run.environment import environment_of_program
from otelsync.settings import Settings

SPAN = """
from opentelemetry import trace
with trace.get_tracer("app").start_as_current_span("one"):
    pass
"""

COUNT = "print(sum(1 for each in gc.get_objects() if type(each).__name__ == 'module' and each.__name__ == {top!r}))"
"""How many modules of a name there are in memory."""


def python(home: Path, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A Python as `otelsync run` starts it, with nobody who ships."""
    settings = Settings(service_name="svc", home=home, ship="off")
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment_of_program(settings, environment(home, **variables)),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def journal(home: Path) -> Path:
    return home / "journals" / "svc"


def test_opentelemetrys_own_api_is_recorded(tmp_path: Path) -> None:
    """A program that knows nothing of otelsync has its spans recorded, and sees no output of ours."""
    ended = python(tmp_path, "-c", SPAN)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert draw(spans_in_journal(journal(tmp_path))) == "one"


def test_a_short_program_is_left_alone(tmp_path: Path) -> None:
    """A program that imports nothing but the standard library and logs nothing loads nothing of ours."""
    loads = "import json, logging, subprocess, pickle, sys; print(*(name.partition('.')[0] for name in sys.modules))"
    ended = python(tmp_path, "-c", loads)
    assert ended.stderr == ""
    assert not set(ended.stdout.split()) & {"otelsync", "opentelemetry", "structlog", "ctypes", "asyncio"}


def test_the_first_log_record_sets_a_program_up(tmp_path: Path) -> None:
    """A program of the standard library alone is recorded from its first log record on, that one included."""
    code = "import logging; log = logging.getLogger('app'); log.warning('first'); log.warning('second')"
    ended = python(tmp_path, "-c", code)
    assert ended.stderr == "first\nsecond\n"
    assert [record.event for record in logs_in_journal(journal(tmp_path))] == ["first", "second"]


@pytest.mark.parametrize("module", ["structlog", "opentelemetry.trace", "orjson", "otelsync", "requests"])
def test_whatever_is_imported_first_is_whole(tmp_path: Path, module: str) -> None:
    """A module that we need ourselves is loaded once, and is what it is without us, though its import sets us up."""
    top = module.partition(".")[0]
    code = f"""
import sys, {module}
spec, path = {top}.__spec__, getattr({top}, "__file__", "")
print(sys.modules[{top!r}] is {top}, spec.name, spec.loader is {top}.__loader__, type(spec.loader).__module__, path)
"""
    plain = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True)
    ended = python(tmp_path, "-c", code + "import otelsync, gc\n" + COUNT.format(top=top))
    assert ended.stderr == ""
    assert ended.stdout == plain.stdout + "1\n"


def test_another_sitecustomize_is_run(tmp_path: Path) -> None:
    """A sitecustomize of the user's runs first, and is the module of that name afterwards."""
    script(tmp_path / "site", "import sys; sys.theirs = True", "sitecustomize.py")
    code = SPAN + "import sys, sitecustomize; print(sys.theirs, sitecustomize.__file__)"
    ended = python(tmp_path, "-c", code, PYTHONPATH=str(tmp_path / "site"))
    assert ended.stdout == f"True {tmp_path}/site/sitecustomize.py\n"
    assert draw(spans_in_journal(journal(tmp_path))) == "one"


def test_another_sitecustomize_that_fails_fails_as_before(tmp_path: Path) -> None:
    """What Python says of the user's broken sitecustomize is said, and the program is recorded all the same."""
    script(tmp_path / "site", "raise ValueError('theirs')", "sitecustomize.py")
    ended = python(tmp_path, "-c", SPAN, PYTHONPATH=str(tmp_path / "site"))
    assert ended.returncode == 0
    assert ended.stderr == "Error in sitecustomize; set PYTHONVERBOSE for traceback:\nValueError: theirs\n"
    assert draw(spans_in_journal(journal(tmp_path))) == "one"


def test_a_grandchild_is_recorded_and_our_directory_is_no_package_path(tmp_path: Path) -> None:
    """The environment passes to whatever the program starts; nothing of ours can be imported by accident."""
    code = f"import subprocess, sys; print({BOOTSTRAP!r} in sys.path, flush=True)\n" + (
        f"subprocess.run([sys.executable, '-c', {SPAN!r}], check=True)"
    )
    ended = python(tmp_path, "-c", code)
    assert (ended.stdout, ended.stderr) == ("False\n", "")
    assert draw(spans_in_journal(journal(tmp_path))) == "one"


def test_spawned_workers_are_recorded(tmp_path: Path) -> None:
    """The processes of multiprocessing's spawn method are set up like the program."""
    code = """
import multiprocessing
def work(number):
    from opentelemetry import trace
    with trace.get_tracer("app").start_as_current_span("in the worker"):
        return number
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(work, [1]))
        pool.close()
        pool.join()
"""
    ended = python(tmp_path, script(tmp_path, code))
    assert (ended.stdout, ended.stderr) == ("[1]\n", "")
    assert draw(spans_in_journal(journal(tmp_path))) == "in the worker"


def test_a_python_without_otelsync_runs_as_it_is(tmp_path: Path) -> None:
    """Another Python that finds our directory in its path, and no otelsync, runs its program without a word."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    ended = subprocess.run(
        [str(tmp_path / "bare" / "bin" / "python"), script(tmp_path, "import mine, logging; logging.warning('said')")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([BOOTSTRAP, str(script(tmp_path, "", "mine.py").parent)])},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "WARNING:root:said\n")


def test_a_setting_that_cannot_work_does_not_stop_the_program(tmp_path: Path) -> None:
    """In the program itself nothing of ours raises: it goes on unrecorded, and that is said."""
    ended = python(tmp_path, "-c", SPAN + "print('goes on')", OTELSYNC_JOURNAL_MAX_BYTES="few")
    assert (ended.returncode, ended.stdout) == (0, "goes on\n")
    assert "otelsync records nothing of this program: OTELSYNC_JOURNAL_MAX_BYTES='few' cannot work" in ended.stderr


def test_gevent_patches_before_we_load_anything(tmp_path: Path) -> None:
    """A program that has gevent patch the standard library first does so before we use it; records are journalled."""
    code = """
import warnings
warnings.simplefilter("error")
from gevent import monkey
import sys
import zipfile
loaded = "threading" in sys.modules, "otelsync" in sys.modules
monkey.patch_all()
import logging, gevent
from opentelemetry import trace
tracer = trace.get_tracer("app")
def work(number):
    with tracer.start_as_current_span(f"greenlet {number}"):
        gevent.sleep(0.001)
        logging.getLogger("app").warning("in %d", number)
gevent.joinall([gevent.spawn(work, number) for number in range(3)], raise_error=True)
print(loaded)
"""
    ended = python(tmp_path, "-c", code)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("False)\n")
    assert sorted(draw(spans_in_journal(journal(tmp_path))).splitlines()) == [f"greenlet {n}" for n in range(3)]
    spans = {span.name: span for span in spans_in_journal(journal(tmp_path))}
    for record in logs_in_journal(journal(tmp_path)):
        assert record.span_id == spans[record.event.replace("in", "greenlet")].span_id


def test_every_installed_instrumentation_is_on(tmp_path: Path) -> None:
    """Instrumentations that are installed are switched on with the library's first import, and not before."""
    code = """
import sys, json
before = "opentelemetry.instrumentation.redis" in sys.modules
import redis
from opentelemetry.instrumentation.redis import RedisInstrumentor
print(before, RedisInstrumentor().is_instrumented_by_opentelemetry, "celery" in sys.modules)
"""
    assert python(tmp_path, "-c", code).stdout == "False True False\n"
    disabled = python(tmp_path, "-c", code, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="flask, redis")
    assert disabled.stdout == "False False False\n"
    assert python(tmp_path, "-c", code, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="*").stdout == "False False False\n"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("broken:Broken", "redis-like is not recorded: its instrumentation has failed (ValueError: broken)\n"),
        ("broken:Missing", "redis-like is not recorded: its instrumentation has failed (AttributeError: "),
        ("broken:NotThere", ""),
        ("no_such_module:Any", ""),
    ],
)
def test_an_instrumentation_that_fails_stops_nothing(tmp_path: Path, value: str, said: str) -> None:
    """An instrumentation that cannot be switched on is named, and program and other instrumentations go on."""
    info = tmp_path / "site" / "broken-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[opentelemetry_instrumentor]\nredis-like = {value}\n")
    raised = {"Broken": "ValueError('broken')", "NotThere": "ModuleNotFoundError('redis2')"}
    body = "class {}:\n    def instrument(self, **options):\n        raise {}\n"
    code = "".join(body.format(*each) for each in raised.items())
    script(tmp_path / "site", code, "broken.py")
    program = SPAN + "import redis; from opentelemetry.instrumentation.redis import RedisInstrumentor as R\n"
    program += "print(R().is_instrumented_by_opentelemetry)"
    ended = python(tmp_path, "-c", program, PYTHONPATH=str(tmp_path / "site"))
    assert ended.stdout == "True\n"
    assert draw(spans_in_journal(journal(tmp_path))) == "one"
    assert ended.stderr.startswith(said)
    assert ended.stderr.count("\n") == bool(said)


LIBRARIES = ("celery", "requests", "github", "httpx", "httpx2", "redis", "structlog")


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_that_cannot_be_imported_is_the_program_s_alone(tmp_path: Path, library: str) -> None:
    """A library that is missing, or raises when it is imported, does to the program what it does without us."""
    broken = tmp_path / "site" / library
    if library != "httpx2":
        script(broken, "raise RuntimeError('theirs')", "__init__.py")
    code = (
        f"try:\n    import {library}\nexcept (RuntimeError, ImportError) as error:\n    print(type(error).__name__)\n"
    )
    ended = python(
        tmp_path, script(tmp_path, code + "import httpcore, urllib3\n" + SPAN), PYTHONPATH=str(broken.parent)
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == ("ModuleNotFoundError\n" if library == "httpx2" else "RuntimeError\n")
    if library != "structlog":  # which otelsync itself needs for its logs
        assert draw(spans_in_journal(journal(tmp_path))) == "one"


def test_the_libraries_that_are_there_are_imported_without_a_word(tmp_path: Path) -> None:
    """No instrumentation says anything of libraries that it could be for as well, such as httpx2 beside httpx."""
    ended = python(tmp_path, "-c", "import httpx, requests, celery, github, redis, structlog; print('ran')")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ran\n", "")


def instrumented(home: Path, code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A program under `opentelemetry-instrument`."""
    program = script(home, code)
    return subprocess.run(
        [str(Path(sys.executable).with_name("opentelemetry-instrument")), sys.executable, str(program)],
        env=environment(home, **{"OTEL_SERVICE_NAME": "svc", **variables}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_opentelemetry_instrument_sets_the_same_up(tmp_path: Path) -> None:
    """With our distro and configurator, opentelemetry-instrument records as `otelsync run` does."""
    code = (
        SPAN
        + """
import redis, sys
from opentelemetry.instrumentation.redis import RedisInstrumentor
print(RedisInstrumentor().is_instrumented_by_opentelemetry, type(trace.get_tracer_provider()).__module__)
"""
    )
    ended = instrumented(
        tmp_path, code, OTELSYNC_SHIP="off", OTEL_PYTHON_DISTRO="otelsync", OTEL_PYTHON_CONFIGURATOR="otelsync"
    )
    assert ended.stdout == "True otelsync.recording.provider\n", ended.stderr
    assert draw(spans_in_journal(journal(tmp_path))) == "one"


def test_another_distro_goes_on_when_it_is_not_ours_that_is_meant(tmp_path: Path) -> None:
    """Where nobody asks for otelsync, opentelemetry-instrument does what it did before otelsync was installed."""
    code = "from opentelemetry import trace; print(type(trace.get_tracer_provider()).__module__)"
    ended = instrumented(
        tmp_path, code, OTEL_TRACES_EXPORTER="none", OTEL_METRICS_EXPORTER="none", OTEL_LOGS_EXPORTER="none"
    )
    assert ended.stdout == "opentelemetry.sdk.trace\n", ended.stderr


def test_under_run_opentelemetry_instrument_doubles_nothing(tmp_path: Path) -> None:
    """`otelsync run opentelemetry-instrument ...` records every span once."""
    settings = Settings(service_name="svc", home=tmp_path, ship="off")
    ended = instrumented(tmp_path, SPAN, **environment_of_program(settings, environment(tmp_path)))
    assert ended.returncode == 0
    # OpenTelemetry says this of each configurator that is installed and not named.
    assert all(line.startswith("Configuration of ") for line in ended.stderr.splitlines()), ended.stderr
    assert draw(spans_in_journal(journal(tmp_path))) == "one"


def test_the_environment_of_a_program_names_one_journal_for_all() -> None:
    """The program's environment says where and as what all its processes record, and keeps what the user has set."""
    settings = Settings(service_name="a b", home=Path("/data"), endpoint="http://collector:4318", ship="off")
    given = {"PYTHONPATH": f"{BOOTSTRAP}::/lib", "OTEL_SEMCONV_STABILITY_OPT_IN": "http/dup", "HOME": "/root"}
    made = environment_of_program(settings, given)
    assert made == {
        "PYTHONPATH": f"{BOOTSTRAP}:/lib",
        "OTEL_SERVICE_NAME": "a b",
        "OTELSYNC_HOME": "/data",
        "OTELSYNC_JOURNAL": "auto",
        "OTELSYNC_JOURNAL_DIR": "/data/journals/a-b",
        "OTELSYNC_SHIP": "off",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http/dup",
        "OTEL_PYTHON_DISTRO": "otelsync",
        "OTEL_PYTHON_CONFIGURATOR": "otelsync",
        "HOME": "/root",
    }
    assert without_bootstrap(made)["PYTHONPATH"] == "/lib"
    assert "PYTHONPATH" not in without_bootstrap({"PYTHONPATH": BOOTSTRAP})
    assert environment_of_program(settings, {}, log_format="json").items() >= {
        ("OTELSYNC_LOGGING", "take"),
        ("LOG_FORMAT", "json"),
    }


@pytest.mark.parametrize("version", pythons.found())
def test_any_python_runs_as_it_would_without_us(tmp_path: Path, version: str) -> None:
    """Old Pythons, and new ones without otelsync, run a sitecustomize and a program, and nothing more is said."""
    theirs = script(tmp_path / "site", "import sys\nsys.theirs = __file__\nimport json", "sitecustomize.py")
    if version.startswith("3") and int(version[2:]) >= 5:
        executable = tmp_path / "bare" / "bin" / "python"  # a virtual environment without otelsync
        subprocess.run([pythons.found()[version], "-m", "venv", "--without-pip", executable.parents[1]], check=True)
    else:
        executable = Path(pythons.found()[version])
    program = script(tmp_path, "import sys, logging, sitecustomize\nprint([sys.theirs, sitecustomize.__file__])")
    packed = tmp_path / "packed.pyz"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(program, "__main__.py")
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([BOOTSTRAP, str(theirs.parent)])}
    variables |= {"PYTHONWARNINGS": "error", "PYTHONDONTWRITEBYTECODE": "1"}
    for arguments in ([str(program)], [str(packed)]):
        ended = subprocess.run(
            [executable, *arguments], env=variables, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert (ended.stdout, ended.stderr) == (f"{[str(theirs)] * 2}\n", "")


@pytest.mark.parametrize("flag", ["-S", "-I", "-E", "-Werror", "-B", "-OO", "-X", "-P"])
def test_a_program_is_started_with_any_flag(tmp_path: Path, flag: str) -> None:
    """Flags that switch us off, or make everything an error, are obeyed, and nothing is said of it."""
    flags = [flag, "dev"] if flag == "-X" else [flag]
    ended = python(tmp_path, *flags, "-c", "import logging, sys; logging.getLogger('a').info('a'); print('ran')")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ran\n", "")


def test_an_otelsync_that_cannot_be_imported_stops_nothing(tmp_path: Path) -> None:
    """Where otelsync is there and broken, the program goes on, and one line says that it is not recorded."""
    script(tmp_path / "broken" / "otelsync", "raise ValueError('half installed')", "__init__.py")
    program = script(tmp_path, SPAN + "print('ran')")
    ended = python(tmp_path, program, PYTHONPATH=str(tmp_path / "broken"))
    assert (ended.returncode, ended.stdout) == (0, "ran\n")
    assert ended.stderr == "otelsync records nothing of this program: half installed\n"
