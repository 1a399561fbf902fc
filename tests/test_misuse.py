"""Misuse is warned of once a process, with the fix, and the host goes on; a decorator that cannot work raises."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from recorded import Recorded

import otelsync
from otelsync.stages.pipeline import Pipeline
from otelsync.stages.stage import Stage
from otelsync.testing.recording import record as record_for_test

STAGES: list[Callable[[], Stage]] = [
    lambda: otelsync.pipeline("p"),
    lambda: otelsync.group("customer", "GREYSON"),
    lambda: otelsync.repo("acme/api"),
    lambda: otelsync.batch("create_items"),
    lambda: otelsync.api_call("list"),
    lambda: otelsync.item("order", 4711),
    lambda: otelsync.pull_request(1),
    lambda: otelsync.stage("s"),
    lambda: otelsync.timed_operation("sync.op"),
]
each_stage = pytest.mark.parametrize("make", STAGES)
PARTS: list[Callable[[], Stage]] = STAGES[1:7]
"""Stages that make no sense outside a pipeline while one runs."""


def warnings_of(recorded: Recorded) -> list[str]:
    """What was warned of."""
    return [line["event"] for line in recorded.lines if line["level"] == "warning"]


def in_thread(work: Callable[[], object]) -> None:
    """Run in a new thread, which begins without context."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


class TestAdrift:
    @pytest.mark.parametrize("make", PARTS)
    def test_a_part_in_a_thread_without_context_is_warned_of_once(
        self, recorded: Recorded, make: Callable[[], Stage]
    ) -> None:
        """A part that begins outside any pipeline while one runs is named, with what carries the context."""

        def work() -> None:
            with make():
                pass

        with otelsync.pipeline("p"):
            for _ in range(3):
                in_thread(work)
        (warning,) = warnings_of(recorded)
        assert "began outside any pipeline, while one runs" in warning
        assert "otelsync.propagate(function)" in warning
        assert "otelsync.executor(pool)" in warning
        assert f"({__file__}:" in warning
        assert len(recorded.spans) == 4  # they are recorded all the same

    def test_an_item_below_a_stage_without_context_is_warned_of(self, recorded: Recorded) -> None:
        """A stage around it does not hide that the pipeline is missing."""

        def work() -> None:
            with otelsync.stage("worker"), otelsync.item("order", 1):
                pass

        with otelsync.pipeline("p"):
            in_thread(work)
        (warning,) = warnings_of(recorded)
        assert warning.startswith("Item '1' began outside")

    def test_what_is_inside_is_no_false_alarm(self, recorded: Recorded) -> None:
        """Neither threads with context, tasks, pipelines beside it, nor waits and stages of something else."""

        async def task() -> None:
            with otelsync.item("order", 1):
                await asyncio.sleep(0)

        async def tasks() -> None:
            await asyncio.gather(*(asyncio.create_task(task()) for _ in range(2)))

        def work() -> None:
            with otelsync.repo("acme/api"), otelsync.pull_request(1):
                pass

        def beside() -> None:
            with otelsync.pipeline("q"), otelsync.repo("acme/web"), otelsync.item("order", 2):
                pass
            with otelsync.rate_limit_wait(0), otelsync.retry_wait(0, "server"), otelsync.stage("heartbeat"):
                pass

        with otelsync.pipeline("p"):
            work()
            asyncio.run(tasks())
            in_thread(functools.partial(contextvars.copy_context().run, work))
            in_thread(beside)
        assert warnings_of(recorded) == []

    def test_without_a_pipeline_a_part_stands_alone(self, recorded: Recorded) -> None:
        """Before the first pipeline, and after the last has ended, in whatever way, nothing is missing."""
        with otelsync.repo("acme/api"), otelsync.pull_request(1):
            pass
        with pytest.raises(ValueError, match="x"), otelsync.pipeline("p"):
            raise ValueError("x")
        with otelsync.group("customer", "GREYSON"), otelsync.item("order", 1):
            pass
        assert warnings_of(recorded) == []

    def test_where_nothing_is_recorded_nothing_is_missing(self, caplog: pytest.LogCaptureFixture) -> None:
        """Without any configuration there is no run that it could be missing in."""
        with otelsync.pipeline("p"):
            in_thread(lambda: otelsync.repo("acme/api").__enter__())
        assert caplog.records == []

    def test_a_forked_child_does_not_run_the_pipelines_of_its_parent(self, recorded: Recorded) -> None:
        """A thread of a forked child may work on something else."""

        def work() -> None:
            with otelsync.repo("acme/web"):
                pass

        with otelsync.pipeline("p"):
            pid = os.fork()
            if pid == 0:
                thread = threading.Thread(target=work)
                thread.start()
                thread.join()
                os._exit(len(warnings_of(recorded)))
            assert os.waitpid(pid, 0)[1] == 0

    def test_a_handler_that_raises_does_not_harm_the_host(self, record: Callable[..., Recorded]) -> None:
        """A warning that cannot be logged is lost, and the stage begins."""

        class Broken(logging.Handler):
            def handle(self, record: logging.LogRecord) -> bool:
                raise RuntimeError(record.getMessage())

        recorded = record(logging="keep")
        logger, handler = logging.getLogger("otelsync"), Broken()
        logger.addHandler(handler)
        try:
            with otelsync.pipeline("p"):
                in_thread(lambda: otelsync.repo("acme/api").__enter__().__exit__(None, None, None))
        finally:
            logger.removeHandler(handler)
        assert len(recorded.spans) == 2


def test_each_recorded_test_is_warned_anew(tmp_path: Path) -> None:
    """What a test finds does not depend on the tests before it."""
    for number in range(2):
        with record_for_test(tmp_path / str(number)) as recorded:
            otelsync.pipeline("p").count(created=1)
            assert ["was used before its `with`" in event for event in recorded.events] == [True]


class TestBeforeWith:
    @each_stage
    @pytest.mark.parametrize(
        "use",
        [
            lambda stage: stage.count(created=1),
            lambda stage: stage.set(action="created", size=3),
            lambda stage: stage.event("cursor.saved", cursor="x"),
            lambda stage: stage.skip("no reason"),
            lambda stage: stage.fail("no reason"),
            lambda stage: stage.fail(ValueError("x")),
            lambda stage: stage.trace_id,
            lambda stage: stage.span_id,
            lambda stage: stage.outcome,
            lambda stage: stage.span.set_attribute("a", 1),
            lambda stage: list(stage.track([1, 2])),
        ],
    )
    def test_a_handle_that_has_not_begun_is_warned_of(
        self, recorded: Recorded, make: Callable[[], Stage], use: Callable[[Stage], object]
    ) -> None:
        """Whatever is used of it warns once, does nothing, and leaves nothing behind in the run that begins later."""
        stage = make()
        assert use(stage) in (None, "", [1, 2])
        use(stage)
        (warning,) = warnings_of(recorded)
        assert f"{stage.name!r} was used before its `with` block began" in warning
        assert "write `with otelsync" in warning
        with stage, make():
            pass
        first, second = sorted(recorded.spans, key=lambda node: node.start)
        assert first.attributes == second.attributes
        assert first.status == second.status

    def test_a_pipeline_has_no_id_before_it_begins(self, recorded: Recorded) -> None:
        """Its sync id is empty, as where nothing is recorded, and its phase is lost."""
        run = otelsync.pipeline("p")
        assert run.sync_id == ""
        run.phase("syncing")
        assert len(warnings_of(recorded)) == 1

    def test_a_dispatch_before_with_says_so(self) -> None:
        """Nothing can be published for a run that is not there, so that it raises, as it always has."""
        with pytest.raises(otelsync.DispatchError, match="Did you forget `with"):
            otelsync.pipeline("p").dispatch(MagicMock())

    def test_without_configuration_the_host_goes_on(self) -> None:
        """The same where nothing is configured."""
        run = otelsync.pipeline("p")
        run.count(created=1)
        run.fail("x")
        assert (run.trace_id, run.outcome) == ("", "")

    def test_what_a_stage_never_has_is_still_an_error(self) -> None:
        """A misspelt method is the host's own mistake, as with every object."""
        with pytest.raises(AttributeError, match="'ApiCall' object has no attribute 'sync_id'"):
            otelsync.api_call("list").sync_id  # type: ignore[attr-defined]  # noqa: B018
        with pytest.raises(AttributeError, match="conut"):
            otelsync.pipeline("p").conut(created=1)  # type: ignore[attr-defined]
        assert not hasattr(otelsync.stage("s"), "__deepcopy__")

    @each_stage
    def test_a_handle_after_its_end_is_not_warned_of(self, recorded: Recorded, make: Callable[[], Stage]) -> None:
        """What has run can be asked how it went."""
        with make() as stage:
            pass
        assert (stage.outcome, len(stage.trace_id)) == ("success", 32)
        with stage:
            pass
        assert warnings_of(recorded) == []


class TestDecorators:
    @pytest.mark.parametrize(
        "decorator",
        [
            otelsync.pipeline,
            otelsync.repo,
            otelsync.batch,
            otelsync.api_call,
            otelsync.pull_request,
            otelsync.stage,
            otelsync.timed_operation,
            otelsync.rate_limit_wait,
            otelsync.group,
            otelsync.item,
            otelsync.retry_wait,
            otelsync.sync_context,
        ],
    )
    def test_a_decorator_without_parentheses_raises_at_definition(self, decorator: Any) -> None:
        """Functions, coroutine functions, methods and classes, none of which would ever have been called."""
        with pytest.raises(TypeError):

            @decorator  # type: ignore[untyped-decorator]
            def function() -> None: ...

        with pytest.raises(TypeError):

            @decorator  # type: ignore[untyped-decorator]
            async def coroutine_function() -> None: ...

        with pytest.raises(TypeError):

            class Job:
                @decorator  # type: ignore[untyped-decorator]
                @staticmethod
                def method() -> None: ...

        with pytest.raises(TypeError):

            @decorator
            class Other: ...

    def test_the_error_names_the_fix(self) -> None:
        """It shows the decorator as it should be."""
        with pytest.raises(TypeError, match=r'sync_orders, .*Write @otelsync.pipeline\("name"\)'):
            exec("import otelsync\n@otelsync.pipeline\ndef sync_orders(): ...", {"__name__": __name__})
        with pytest.raises(TypeError, match=r'Write @otelsync.api_call\("operation"\)'):
            exec("import otelsync\n@otelsync.api_call\ndef fetch(): ...", {"__name__": __name__})

    def test_what_is_there_already_may_stand_for_a_name(self, recorded: Recorded) -> None:
        """In a run nothing raises: a function or class in a name's place is warned of, a mock is a name."""
        for name in (in_thread, TestAdrift, Pipeline, len, MagicMock(), 7):
            with otelsync.stage(name):  # type: ignore[arg-type]
                pass
        (warning,) = warnings_of(recorded)
        assert "a stage was given in_thread, and not a name" in warning
        assert len(recorded.spans) == 6

    @each_stage
    def test_a_class_cannot_be_decorated(self, make: Callable[[], Stage]) -> None:
        """It raises at definition, and says to decorate a method."""
        with pytest.raises(TypeError, match=r"Job cannot be decorated.*decorate a method"):

            @make()
            class Job: ...

    def test_sync_context_cannot_decorate_a_class_either(self) -> None:
        """The same for bound fields."""
        with pytest.raises(TypeError, match="Job cannot be decorated"):

            @otelsync.sync_context(team_id=7)
            class Job: ...

    def test_a_class_method_cannot_be_decorated_from_outside(self) -> None:
        """Above @classmethod or @property a decorator gets no function; below it does."""
        with pytest.raises(TypeError, match="put the decorator below it"):

            class Wrong:
                @otelsync.stage("s")
                @classmethod
                def run(cls) -> None: ...

        class Right:
            @classmethod
            @otelsync.stage("s")
            def run(cls) -> str:
                return cls.__name__

        assert Right.run() == "Right"


class TestBeforeConfigure:
    def test_stages_before_configure_are_counted(self, record: Callable[..., Recorded]) -> None:
        """configure() says how many began before it, once, and what to do."""
        for _ in range(2):
            with otelsync.pipeline("p"), otelsync.pull_request(1):
                pass
        (warning,) = warnings_of(record())
        assert warning.startswith("4 stages began before otelsync.configure(), and were not recorded: call it first (")

    def test_one_is_one(self, record: Callable[..., Recorded]) -> None:
        """The words fit the number."""
        with otelsync.pipeline("p"):
            pass
        (warning,) = warnings_of(record())
        assert warning.startswith("1 stage began before otelsync.configure(), and was not recorded")

    def test_it_is_said_once(self, record: Callable[..., Recorded], tmp_path: Path) -> None:
        """A process that configures again has been told."""
        with otelsync.pipeline("p"):
            pass
        record()
        otelsync.shutdown(1)
        with otelsync.pipeline("p"):
            pass
        assert warnings_of(Recorded(tmp_path / "again")) == []

    def test_stages_of_a_configured_process_are_not_counted(
        self, record: Callable[..., Recorded], tmp_path: Path
    ) -> None:
        """Neither recorded ones, nor those that are not because recording is switched off."""
        record(disabled=True)
        with otelsync.pipeline("p"):
            pass
        otelsync.shutdown(1)
        recorded = Recorded(tmp_path / "again")
        with otelsync.pipeline("p"):
            pass
        assert warnings_of(recorded) == []

    def test_without_configure_nothing_is_said(self, caplog: pytest.LogCaptureFixture) -> None:
        """Libraries and tests run without it all the time."""
        with otelsync.pipeline("p"), otelsync.repo("acme/api"), otelsync.pull_request(1):
            pass
        assert caplog.records == []


@pytest.mark.usefixtures("recorded")
def test_an_unknown_action_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """It may be misspelt; such items count under that name all the same."""
    for _ in range(2):
        with otelsync.repo("acme/api"):
            for number in range(3):
                with otelsync.pull_request(number) as pr:
                    pr.set(action="creatd")
    said = [record.getMessage() for record in caplog.records if "creatd" in record.getMessage()]
    assert len(said) == 1
    assert "none of created, updated" in said[0]


@pytest.mark.usefixtures("recorded")
def test_counting_on_the_stage_of_another_process_is_said(tmp_path: Path) -> None:
    """A forked child counts on a copy, which ends nowhere: what is counted there is lost, and that is said."""
    said = tmp_path / "said"
    with otelsync.repo("acme/api") as repo:
        pid = os.fork()
        if pid == 0:
            try:
                logging.getLogger("otelsync").addHandler(logging.FileHandler(said))
                repo.count(created=1)
                repo.count(created=1)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
    assert said.read_text().count("so what is counted is lost") == 1
