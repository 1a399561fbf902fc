"""Outcomes and counts of stages in one process: a failed part shows, a recovery heals, and nothing is counted twice."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from recorded import Recorded

import otelsync


def outcomes(recorded: Recorded) -> dict[str, object]:
    """The outcome of each stage, by its name; of several of a name the last one's."""
    return {span.name: span.attributes.get("sync.outcome") for span in recorded.spans}


def items(recorded: Recorded, name: str) -> dict[str, int]:
    """The counts of a stage."""
    attributes = recorded.span(name).attributes
    begin = "sync.items."
    return {key.removeprefix(begin): value for key, value in attributes.items() if key.startswith(begin)}


def errors(recorded: Recorded) -> list[str]:
    """The names of the spans in which an error arose, by what they say of themselves."""
    return [
        span.name
        for span in recorded.spans
        if span.status == "ERROR" and not {"sync.error.passed", "sync.parts.failed"} & span.attributes.keys()
    ]


def failing(stage: Any, error: Exception | None = None) -> None:
    """Run a stage that an exception leaves, and go on."""
    with suppress(ValueError), stage:
        raise error or ValueError("no")


def test_a_part_that_was_caught_shows(recorded: Recorded) -> None:
    """Two of three customers failed, and their exceptions were handled: the pipeline is no success."""
    with otelsync.pipeline("p"):
        for name in ("a", "b"):
            failing(otelsync.stage("customer", customer=name))
        with otelsync.stage("customer", customer="c"):
            pass
    assert outcomes(recorded)["sync.pipeline p"] == "partial"
    assert errors(recorded) == ["sync.stage customer", "sync.stage customer"]


def test_a_stage_of_which_all_parts_failed_has_failed(recorded: Recorded) -> None:
    """Whatever the code around does; and it is no error of its own."""
    with otelsync.pipeline("p"):
        failing(otelsync.api_call("a"))
        failing(otelsync.api_call("b"))
    span = recorded.span("sync.pipeline p")
    assert (span.attributes["sync.outcome"], span.status) == ("failure", "ERROR")
    assert (span.attributes["sync.parts"], span.attributes["sync.parts.failed"]) == (2, 2)
    assert errors(recorded) == ["sync.api a", "sync.api b"]


def test_the_same_part_that_succeeds_later_is_a_recovery(recorded: Recorded) -> None:
    """The same page again, with another attempt: no failure of what encloses it; another page is another part."""
    with otelsync.pipeline("p"):
        with otelsync.group("customer", "healed"):
            failing(otelsync.api_call("list", page=1, attempt=1))
            failing(otelsync.api_call("list", page=1, attempt=2))
            with otelsync.api_call("list", page=1, attempt=3):
                pass
        with otelsync.group("customer", "broken"):
            failing(otelsync.api_call("list", page=1))
            with otelsync.api_call("list", page=2):
                pass
    found = outcomes(recorded)
    assert (found["sync.customer healed"], found["sync.customer broken"]) == ("success", "partial")
    good = [span.attributes for span in recorded.spans if "sync.recovered" in span.attributes]
    assert [(each["sync.recovered"], each["sync.attempt"]) for each in good] == [(2, 3)]
    bad = {span.attributes["sync.part.key"] for span in recorded.spans if span.attributes.get("sync.attempt") in (1, 2)}
    assert bad == {good[0]["sync.part.key"]}


def test_the_same_call_of_another_item_is_no_recovery(recorded: Recorded) -> None:
    """A part is made good below the same span alone."""
    with otelsync.pipeline("p"):
        for number in (1, 2):
            with otelsync.item("order", number) as order:
                if number == 1:
                    failing(otelsync.api_call("get_details"))
                else:
                    with otelsync.api_call("get_details"):
                        pass
                order.set(action="created")
    assert outcomes(recorded)["sync.pipeline p"] == "partial"


def test_what_fails_in_an_item_is_part_of_it(recorded: Recorded) -> None:
    """An item in which a part failed is partial; where the item is made good, so is what failed in it."""
    with otelsync.pipeline("p"):
        with otelsync.group("customer", "partial"), otelsync.item("order", 1) as order:
            failing(otelsync.api_call("get_details"))
            order.set(action="created")
        with otelsync.group("customer", "healed"):
            with suppress(ValueError), otelsync.item("order", 2), otelsync.api_call("get_details"):
                raise ValueError("no")
            with otelsync.item("order", 2) as order:
                failing(otelsync.item("subitem", 1))
                with otelsync.item("subitem", 1):
                    pass
                order.set(action="created")
    found = outcomes(recorded)
    assert (found["sync.customer partial"], found["sync.customer healed"]) == ("partial", "success")


def test_what_failed_in_a_cancelled_part_shows(recorded: Recorded) -> None:
    """A part that somebody stopped counts neither way, unless something in it had failed."""
    with otelsync.pipeline("p"):
        for fails in (False, True):
            with otelsync.repo(f"acme/{fails}"), suppress(asyncio.CancelledError), otelsync.stage("pages"):
                if fails:
                    failing(otelsync.item("order", 1))
                raise asyncio.CancelledError
    found = outcomes(recorded)
    assert (found["sync.repo acme/False"], found["sync.repo acme/True"]) == ("success", "partial")


def test_an_item_that_succeeds_later_is_a_recovery(recorded: Recorded) -> None:
    """Both of its spans count as items; the outcome is that of the last."""
    with otelsync.pipeline("p"):
        for action in ("failed", "created"):
            with otelsync.item("order", 7, action=action):
                pass
    assert outcomes(recorded)["sync.pipeline p"] == "success"
    assert items(recorded, "sync.pipeline p") == {"fetched": 2, "failed": 1, "created": 1}


def test_a_part_that_may_fail(recorded: Recorded) -> None:
    """What is not required changes no outcome."""
    with otelsync.pipeline("p"):
        failing(otelsync.stage("warm_cache", required=False))
        with otelsync.repo("acme/api"):
            pass
    assert outcomes(recorded)["sync.pipeline p"] == "success"
    assert recorded.span("sync.stage warm_cache").attributes["sync.required"] is False


def test_waiting_is_no_part(recorded: Recorded) -> None:
    """A wait that is broken off makes nothing fail; what ends in it belongs to the stage around."""
    with otelsync.pipeline("p"):
        failing(otelsync.stage("backoff", kind="waiting"))
        with otelsync.stage("queue", kind="waiting"), otelsync.item("order", 1) as order:
            order.set(action="created")
    assert outcomes(recorded)["sync.pipeline p"] == "success"
    assert items(recorded, "sync.pipeline p")["created"] == 1


def test_one_exception_is_one_error(recorded: Recorded) -> None:
    """It arises once; the stages that it passes through say so. One above a failed child is another one."""
    with suppress(ValueError), otelsync.pipeline("p"):
        with suppress(ValueError), otelsync.repo("acme/api"), otelsync.api_call("list"):
            raise ValueError("first")
        raise ValueError("second")
    assert errors(recorded) == ["sync.api list", "sync.pipeline p"]


def test_an_exception_group_passes_if_its_members_arose_inside(recorded: Recorded) -> None:
    """A task group raises nothing of its own."""

    async def work(number: int) -> None:
        with otelsync.stage("step", number=number):
            await asyncio.sleep(0)
            raise ValueError(number)

    async def main() -> None:
        with otelsync.pipeline("p"):
            async with asyncio.TaskGroup() as group:
                group.create_task(work(1))
                group.create_task(work(2))

    with pytest.raises(ExceptionGroup):
        asyncio.run(main())
    assert "sync.pipeline p" not in errors(recorded)


def test_an_exception_that_is_said_is_recorded(recorded: Recorded) -> None:
    """`fail(exception)` records it there, and once, also if it is raised afterwards or said further out."""
    with suppress(ValueError), otelsync.pipeline("p") as run, otelsync.repo("acme/api") as repo:
        try:
            raise ValueError("no")
        except ValueError as error:
            repo.fail(error)
            run.fail(error)
            raise
    assert errors(recorded) == ["sync.repo acme/api"]
    assert [name for name, _ in recorded.span("sync.repo acme/api").events] == ["exception"]


async def handle(number: int) -> None:
    """Work on a pull request, and fail."""
    await asyncio.sleep(0.005)
    with otelsync.pull_request(number) as pr:
        pr.fail("no author")


def test_items_whose_call_has_ended_count_further_out(recorded: Recorded) -> None:
    """Tasks that were begun in a call and end after it belong to the repo, which is still open."""

    async def main() -> None:
        with otelsync.pipeline("p"), otelsync.repo("acme/api"):
            with otelsync.api_call("list"):
                tasks = [asyncio.create_task(handle(number)) for number in range(5)]
            await asyncio.gather(*tasks)

    asyncio.run(main())
    found = outcomes(recorded)
    assert (found["sync.api list"], found["sync.repo acme/api"], found["sync.pipeline p"]) == (
        "success",
        "partial",
        "partial",
    )
    assert items(recorded, "sync.pipeline p") == {"fetched": 5, "failed": 5}


def test_threads_with_the_context_count(recorded: Recorded) -> None:
    """Also where the call has ended when they do."""
    go = threading.Event()

    def work() -> None:
        go.wait(60)
        with otelsync.pull_request(1) as pr:
            pr.set(action="created")

    with otelsync.pipeline("p"):
        with otelsync.repo("acme/api"), otelsync.api_call("list"):
            workers = [threading.Thread(target=contextvars.copy_context().run, args=(work,)) for _ in range(3)]
            for worker in workers:
                worker.start()
        go.set()
        for worker in workers:
            worker.join()
    assert items(recorded, "sync.pipeline p") == {"fetched": 3, "created": 3}
    assert items(recorded, "sync.repo acme/api") == {}


def test_an_early_break_out_of_pages(recorded: Recorded) -> None:
    """What comes after a generator was left early counts, and stands where it belongs."""

    @otelsync.api_call("pages")
    async def pages() -> AsyncIterator[int]:
        for number in range(10):
            yield number

    async def main() -> None:
        with otelsync.pipeline("p"), otelsync.repo("acme/api"):
            async for number in pages():
                with otelsync.pull_request(number) as pr:
                    pr.set(action="created")
                if number == 2:
                    break
            with otelsync.stage("after"), otelsync.pull_request(99) as pr:
                pr.set(action="updated")

    asyncio.run(main())
    assert items(recorded, "sync.pipeline p") == {"fetched": 4, "created": 3, "updated": 1}
    assert outcomes(recorded)["sync.pipeline p"] == "success"
    repo = recorded.span("sync.repo acme/api")
    assert recorded.span("sync.stage after").parent_id == repo.span_id


def test_every_item_counts_as_fetched(recorded: Recorded) -> None:
    """Whatever became of it: an unknown action counts under its own name, none in the sum alone."""
    with otelsync.pipeline("p"):
        for number, action in enumerate(("created", "creatd", None)):
            with otelsync.pull_request(number) as pr:
                if action:
                    pr.set(action=action)
    assert items(recorded, "sync.pipeline p") == {"fetched": 3, "created": 1, "creatd": 1}


def test_counts_by_hand_stand_apart(recorded: Recorded) -> None:
    """What was counted by hand stands on the stage where it was; after its end on the next one out."""
    with otelsync.pipeline("p"):
        with otelsync.repo("acme/api") as repo:
            repo.count(created=2, failed=1)
        repo.count(created=5)
    said = recorded.span("sync.repo acme/api").attributes
    assert (said["sync.counted.created"], said["sync.counted.failed"], said["sync.outcome"]) == (2, 1, "partial")
    assert recorded.span("sync.pipeline p").attributes["sync.counted.created"] == 5
    assert items(recorded, "sync.pipeline p") == {"fetched": 8, "created": 7, "failed": 1}


def test_a_run_that_fails_over_and_over_stays_small(recorded: Recorded) -> None:
    """Failures that may be made good are remembered for so many parts, and all are counted."""
    with otelsync.pipeline("p") as run:
        for number in range(12_000):
            with otelsync.item("order", number) as order:
                order.set(action="failed")
        assert sum(len(keys) for keys in run.failures.values()) <= 10_000
    assert items(recorded, "sync.pipeline p")["failed"] == 12_000
    assert outcomes(recorded)["sync.pipeline p"] == "failure"
