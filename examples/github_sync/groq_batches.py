"""Groq's batch API, by the groq package: pull requests in, what a model says of their making out.

A batch may take hours: the window is what Groq promises. So nobody waits for it longer than a deadline.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from groq import Groq

MODEL: Final = "llama-3.3-70b-versatile"
INPUT_DOLLARS, OUTPUT_DOLLARS = 0.59e-6 / 2, 0.79e-6 / 2
"""Dollars a token; a batch costs half of what single calls do (https://groq.com/pricing)."""
_ENDED: Final = frozenset(("completed", "failed", "expired", "cancelled"))
_PROMPT: Final = """You are given a pull request. Answer with JSON alone:
{"is_ai_assisted": true or false, "tools": [names of AI tools that were used], "summary": one sentence}"""
_LONGEST_TEXT: Final = 8_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the model says of a pull request."""

    is_ai_assisted: bool
    tools: list[str]
    summary: str
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class BatchState:
    """How a batch stands."""

    status: str
    output_file: str | None
    completed: int
    failed: int

    @property
    def has_ended(self) -> bool:
        """Return whether nothing more will come of it."""
        return self.status in _ENDED


class GroqBatches:
    """Hands batches over, and takes their results. Raises groq.APIError, also where Groq cannot be reached."""

    def __init__(self, url: str, key: str) -> None:
        from groq import Groq

        self._client: Groq = Groq(api_key=key, base_url=url, max_retries=2, timeout=60)

    def submit(self, questions: Mapping[int, str]) -> str:
        """Hand over texts by the numbers of their pull requests; returns Groq's name of the batch."""
        lines = b"".join(json.dumps(_line(number, text)).encode() + b"\n" for number, text in questions.items())
        file = self._client.files.create(file=("pulls.jsonl", lines), purpose="batch")
        batch = self._client.batches.create(
            completion_window="24h", endpoint="/v1/chat/completions", input_file_id=str(file.id)
        )
        return batch.id

    def state(self, batch_id: str) -> BatchState:
        """Return how a batch stands."""
        batch = self._client.batches.retrieve(batch_id)
        counts = batch.request_counts
        return BatchState(
            batch.status,
            batch.output_file_id,
            counts.completed if counts is not None else 0,
            counts.failed if counts is not None else 0,
        )

    def results(self, output_file: str) -> Iterator[tuple[int, Verdict | None]]:
        """Return verdicts by the numbers of their pull requests, in any order; None where an answer makes no sense."""
        for line in self._client.files.content(output_file).text().splitlines():
            try:
                said = json.loads(line)
                number = int(said["custom_id"])
            except (ValueError, KeyError, TypeError):
                continue
            yield number, _verdict(said)


def question(title: str, body: str | None, commits: Sequence[str]) -> str:
    """Return the text that the model is asked about."""
    return "\n".join([f"Title: {title}", f"Body: {body or ''}", "Commits:", *commits])[:_LONGEST_TEXT]


def _line(number: int, text: str) -> dict[str, Any]:
    messages = [{"role": "system", "content": _PROMPT}, {"role": "user", "content": text}]
    body = {"model": MODEL, "messages": messages, "temperature": 0, "response_format": {"type": "json_object"}}
    return {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body}


def _verdict(said: Mapping[str, Any]) -> Verdict | None:
    try:
        answer = said["response"]["body"]
        verdict = json.loads(answer["choices"][0]["message"]["content"])
        usage = answer.get("usage") or {}
        return Verdict(
            is_ai_assisted=bool(verdict["is_ai_assisted"]),
            tools=sorted(str(tool)[:50] for tool in verdict.get("tools") or ())[:20],
            summary=str(verdict.get("summary") or "")[:2000],
            input_tokens=int(usage.get("prompt_tokens") or 0),
            output_tokens=int(usage.get("completion_tokens") or 0),
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None
