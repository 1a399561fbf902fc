"""The Groq-shaped batch server of the example, asked by the real groq package."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import groq
import pytest
from github_doubles import Clock
from groq.types import BatchRetrieveResponse

from examples.github_sync.double.api import Api
from examples.github_sync.double.catalogue import Catalogue
from examples.github_sync.double.completions import verdict
from examples.github_sync.double.faults import Fault, FaultPlan
from examples.github_sync.double.groq import GroqBatches
from examples.github_sync.double.server import serving
from examples.github_sync.double.shapes import JsonObject

TEXTS = (
    "Fix a race\n\nGenerated with [Claude Code]",
    "Add a health check",
    "Retry\n\nCo-authored-by: Copilot <c@g.com>",
)
FINAL = ("completed", "failed", "expired", "cancelled")


@contextmanager
def client(*faults: str, batches: GroqBatches | None = None) -> Iterator[groq.Groq]:
    """The groq package, pointed at a double of its own."""
    plan = FaultPlan(Fault.parse(fault) for fault in faults)
    api = Api(Catalogue(), faults=plan, groq=batches or GroqBatches(stage_seconds=0.02))
    with serving(api) as server, groq.Groq(api_key="gsk_test", base_url=server.url, max_retries=0) as asked:
        yield asked


def lines(texts: tuple[str, ...] = TEXTS) -> bytes:
    """A file of requests, one for each text."""
    return "".join(json.dumps(_line(n, text)) + "\n" for n, text in enumerate(texts)).encode()


def _line(number: int, text: str) -> JsonObject:
    instructions = "Tell which AI tools were used, such as Copilot or Claude."
    messages = [{"role": "system", "content": instructions}, {"role": "user", "content": text}]
    body = {"model": "openai/gpt-oss-20b", "messages": messages}
    return {"custom_id": f"pr-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}


def start(asked: groq.Groq, content: bytes | None = None) -> str:
    """Upload a file and begin a batch; its id."""
    file = asked.files.create(file=("batch.jsonl", lines() if content is None else content), purpose="batch")
    assert file.id is not None
    batch = asked.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    return batch.id


def ended(asked: groq.Groq, identity: str) -> BatchRetrieveResponse:
    """The batch when nothing more happens to it."""
    pause = threading.Event()
    while (batch := asked.batches.retrieve(identity)).status not in FINAL:
        pause.wait(0.01)
    return batch


def results(asked: groq.Groq, identity: str | None) -> list[JsonObject]:
    """The lines of a file of results."""
    assert identity is not None
    return [json.loads(line) for line in asked.files.content(identity).text().splitlines()]


class TestBatches:
    def test_each_request_has_its_answer(self) -> None:
        """Answers are found by custom_id; each is a chat completion with JSON and the tokens used."""
        with client() as asked:
            batch = ended(asked, start(asked))
            found = {line["custom_id"]: line["response"]["body"] for line in results(asked, batch.output_file_id)}
        assert batch.request_counts is not None
        assert (batch.status, batch.request_counts.completed, batch.error_file_id) == ("completed", 3, None)
        verdicts = [json.loads(found[f"pr-{n}"]["choices"][0]["message"]["content"]) for n in range(3)]
        assert [each["is_ai_assisted"] for each in verdicts] == [True, False, True]
        assert [each["tools"] for each in verdicts] == [["claude"], [], ["copilot"]]
        assert verdicts[1]["summary"] == "Add a health check"
        usage = found["pr-0"]["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0

    def test_a_batch_goes_through_its_stages(self) -> None:
        """In the time that was set; counts grow on the way, and nothing can be had before the end."""
        clock = Clock()
        with client(batches=GroqBatches(stage_seconds=10, clock=clock)) as asked:
            identity = start(asked, lines(tuple(f"Text {n}" for n in range(100))))
            seen = []
            for clock.now in (1000.0, 1010.0, 1015.0, 1020.0, 1030.0):
                batch = asked.batches.retrieve(identity)
                assert batch.request_counts is not None
                seen.append((batch.status, batch.request_counts.completed, batch.output_file_id is not None))
            order = [line["custom_id"] for line in results(asked, batch.output_file_id)]
        assert seen == [
            ("validating", 0, False),
            ("in_progress", 0, False),
            ("in_progress", 50, False),
            ("finalizing", 100, False),
            ("completed", 100, True),
        ]
        assert order != sorted(order, key=lambda name: int(name[3:]))
        assert len(set(order)) == 100

    def test_some_requests_fail(self) -> None:
        """They are in the file of errors, and only there."""
        with client("batch-errors=2@/openai/v1/batches") as asked:
            batch = ended(asked, start(asked))
            answered, failed = results(asked, batch.output_file_id), results(asked, batch.error_file_id)
        assert [line["custom_id"] for line in answered] == ["pr-2"]
        assert [line["custom_id"] for line in failed] == ["pr-0", "pr-1"]
        assert failed[0]["response"] is None
        assert failed[0]["error"]["code"] == "internal_server_error"
        assert batch.request_counts is not None
        assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 2)

    @pytest.mark.parametrize(("fault", "status"), [("batch-failed", "failed"), ("batch-expired", "expired")])
    def test_a_batch_may_not_complete(self, fault: str, status: str) -> None:
        """It fails with a reason, or expires with what was done until then."""
        with client(f"{fault}@/openai/v1/batches") as asked:
            batch = ended(asked, start(asked))
            assert batch.status == status
            if status == "failed":
                assert batch.errors is not None
                assert batch.errors.data
            else:
                assert [line["custom_id"] for line in results(asked, batch.output_file_id)] == ["pr-0"]

    def test_a_file_that_is_wrong_fails_its_batch(self) -> None:
        """The error names the line."""
        with client() as asked:
            batch = ended(asked, start(asked, lines() + b"{}\n" + json.dumps(_line(0, "again")).encode()))
            assert batch.status == "failed"
            assert batch.errors is not None
            assert [problem.line for problem in batch.errors.data or ()] == [4, 5]

    def test_a_batch_can_be_cancelled(self) -> None:
        """It is cancelling for a stage, then cancelled."""
        clock = Clock()
        with client(batches=GroqBatches(stage_seconds=10, clock=clock)) as asked:
            identity = start(asked)
            assert asked.batches.cancel(identity).status == "cancelling"
            clock.now = 1010.0
            assert asked.batches.retrieve(identity).status == "cancelled"


class TestErrors:
    def test_a_key_is_needed(self) -> None:
        """401 without one, or with one that the plan calls wrong, in words that the package understands."""
        with client("401@/openai/v1/files%2") as asked:
            with pytest.raises(groq.AuthenticationError, match="Invalid API Key"):
                asked.files.list(extra_headers={"Authorization": ""})
            with pytest.raises(groq.AuthenticationError, match="Invalid API Key"):
                asked.files.list()
            assert asked.files.list().data == []

    def test_limits_are_told(self) -> None:
        """429 with Retry-After, then it works."""
        with client("429=3@/openai/v1/files") as asked:
            with pytest.raises(groq.RateLimitError) as caught:
                start(asked)
            assert caught.value.response.headers["retry-after"] == "3"
            start(asked)

    @pytest.mark.parametrize("status", [500, 503])
    def test_it_may_be_down(self, status: int) -> None:
        """5xx for as long as planned."""
        with client(f"{status}@/openai/*#*") as asked, pytest.raises(groq.InternalServerError):
            start(asked)

    def test_what_is_unknown_is_not_found(self) -> None:
        """Files and batches."""
        with client() as asked:
            with pytest.raises(groq.NotFoundError):
                asked.batches.retrieve("batch_none")
            with pytest.raises(groq.NotFoundError):
                asked.files.content("file_none")

    def test_a_window_that_groq_does_not_have_is_refused(self) -> None:
        """24h to 7d."""
        with client() as asked:
            file = asked.files.create(file=("batch.jsonl", lines()), purpose="batch")
            for window, fine in (("24h", True), ("7d", True), ("1h", False), ("8d", False), ("soon", False)):
                create = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": window}
                if fine:
                    asked.post("/openai/v1/batches", cast_to=object, body=create)
                else:
                    with pytest.raises(groq.BadRequestError):
                        asked.post("/openai/v1/batches", cast_to=object, body=create)


@pytest.mark.parametrize(
    ("text", "tools"),
    [
        ("Move the cursor to the next page", []),
        ("Drafted in Cursor, reviewed by hand.", ["cursor"]),
        ("ChatGPT and Claude helped", ["claude", "chatgpt"]),
        ("", []),
    ],
)
def test_verdicts_follow_the_text(text: str, tools: list[str]) -> None:
    """Tools by name, not by words that look like them."""
    assert (verdict(text)["tools"], verdict(text)["is_ai_assisted"]) == (tools, bool(tools))
