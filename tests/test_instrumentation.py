"""instrument() and uninstrument(): libraries by name, on and off, and no library is loaded that nobody uses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import requests
from supervised import PATIENCE, environment

import otelsync
from otelsync.integrations import instrumentation
from otelsync.integrations.instrumentation import known


def switched_on() -> tuple[str, ...]:
    return tuple(sorted(instrumentation._on))


@pytest.fixture(autouse=True)
def _nothing_stays_on() -> Iterator[None]:
    yield
    otelsync.uninstrument()


def python(tmp_path: Path, code: str) -> str:
    """What a Python of its own prints, that treats warnings as errors."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.stderr == ""
    return ended.stdout


def test_a_library_is_switched_on_and_off_by_name() -> None:
    """What is named is on, once; afterwards the library is what it was."""
    send, client_send = requests.Session.send, httpx.Client.send
    otelsync.instrument("requests", "httpx")
    otelsync.instrument("requests")
    assert switched_on() == ("httpx", "requests")
    assert requests.Session.send is not send
    otelsync.uninstrument("requests")
    assert requests.Session.send is send
    assert switched_on() == ("httpx",)
    otelsync.uninstrument()
    assert httpx.Client.send is client_send
    assert switched_on() == ()
    otelsync.uninstrument("requests")


def test_a_library_that_nobody_knows_is_named() -> None:
    """An unknown name is refused with the names that there are, and nothing is switched on."""
    with pytest.raises(otelsync.ConfigurationError, match=r"'request'.* otelsync knows celery, .*requests"):
        otelsync.instrument("requests", "request")
    assert switched_on() == ()
    with pytest.raises(otelsync.ConfigurationError, match="otelsync knows"):
        otelsync.uninstrument("request")


def test_a_library_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is known and not there is refused with the command that installs it."""
    monkeypatch.setattr(instrumentation, "_requirement", lambda name: f"no-such-distribution-{name}")
    with pytest.raises(otelsync.ConfigurationError, match=r"otelsync\[httpx\]"):
        otelsync.instrument("httpx")
    otelsync.instrument()
    assert switched_on() == ()


def test_without_a_name_each_library_is_on_when_it_is_imported(tmp_path: Path) -> None:
    """instrument() without names loads no library; each is switched on by its first import, and can be called off."""
    code = """
import sys, otelsync
from otelsync.integrations.instrumentation import _on
otelsync.instrument()
print([name for name in ("celery", "requests", "httpx", "github") if name in sys.modules], sorted(_on))
otelsync.uninstrument("httpx")
import requests, httpx
print(sorted(_on), hasattr(requests.Session.send, "__wrapped__"), hasattr(httpx.Client.send, "__wrapped__"))
from celery import Celery
print(sorted(_on), hasattr(Celery.send_task, "__wrapped__"))
otelsync.uninstrument()
print(sorted(_on), hasattr(Celery.send_task, "__wrapped__"), sys.meta_path[0])
"""
    first, second, third, last = python(tmp_path, code).splitlines()
    assert first == "[] []"
    assert second == "['requests'] True False"
    assert third == "['celery', 'requests'] True"
    assert last.startswith("[] False ")
    assert "otelsync" not in last


def test_what_is_imported_already_is_on_at_once() -> None:
    """instrument() without names switches on at once what the program has imported before."""
    otelsync.instrument()
    assert {"httpx", "requests"} <= {*switched_on()}


def test_each_integration_has_an_extra_of_its_name() -> None:
    """Every integration that there is can be installed by the extra that its error message names."""
    assert known() == ("celery", "httpx", "pygithub", "requests")
    assert [instrumentation._requirement(name) for name in known()] == ["celery", "httpx", "PyGithub", "requests"]


def test_importing_otelsync_loads_no_instrumentation(tmp_path: Path) -> None:
    """The names are there without the module behind them; what does not exist is an AttributeError as ever."""
    code = """
import sys, otelsync
print("otelsync.integrations.instrumentation" in sys.modules, "instrument" in otelsync.__all__)
try:
    otelsync.instruments
except AttributeError as error:
    print(error)
print(otelsync.instrument.__name__)
"""
    assert python(tmp_path, code).splitlines() == [
        "False True",
        "module 'otelsync' has no attribute 'instruments'",
        "instrument",
    ]
