"""The analysis of pull requests: by patterns at once, in batches by a language model when there is one.

A batch that could not be handed over, or did not come back within the deadline, stays in its table; a later task takes
it up. Until then what the patterns say holds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from groq import APIError
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

import otelsync

from . import events
from .ai_patterns import tools_in
from .groq_batches import INPUT_DOLLARS, MODEL, OUTPUT_DOLLARS, GroqBatches, Verdict, question
from .handles import Handle
from .tables import Analysis, Commit, LlmBatch, PullRequest, TrackedRepository

FIRST_POLL, LONGEST_POLL = 0.5, 30.0
"""Seconds between two looks at a batch: the first, and the longest."""
_AT_ONCE: Final = 500
_OPEN: Final = ("queued", "submitted")

log = otelsync.get_logger(__name__)


class Analyst:
    """Analyses the pull requests of a team. `groq` is None where there is no key."""

    def __init__(self, engine: Engine, groq: GroqBatches | None, *, size: int, deadline: float) -> None:
        self._engine = engine
        self._groq = groq
        self._size = size
        self._deadline = deadline

    def run(self, team: str) -> dict[str, int]:
        """Look at all pull requests that nobody has looked at; returns figures of the batches by their status."""
        self._by_patterns(team)
        self._make_batches(team)
        return self.take_up(team)

    def take_up(self, team: str | None = None) -> dict[str, int]:
        """Take up the batches that are not done, of one team or of all."""
        until = time.monotonic() + self._deadline
        for batch_id in self._waiting(team):
            self._hand_over(batch_id)
        for batch_id in self._waiting(team):
            self._batch(batch_id, until)
        with Session(self._engine) as session:
            found = select(LlmBatch.status).where(*([LlmBatch.team == team] if team else []))
            statuses = list(session.scalars(found))
        return {status: statuses.count(status) for status in dict.fromkeys(statuses)}

    def _by_patterns(self, team: str) -> None:
        with otelsync.stage("analyse.patterns") as stage:
            number = 0
            while found := self._look_at_some(team):
                number += found
            stage.set(pull_requests=number)

    def _look_at_some(self, team: str) -> int:
        with Session(self._engine) as session, session.begin():
            unseen = (
                select(PullRequest)
                .join(TrackedRepository, TrackedRepository.repository_id == PullRequest.repository_id)
                .outerjoin(Analysis, Analysis.pull_request_id == PullRequest.id)
                .where(TrackedRepository.team == team, Analysis.pull_request_id.is_(None))
                .distinct()
                .limit(_AT_ONCE)
            )
            pulls = session.scalars(unseen).all()
            messages = _messages(session, pulls)
            for pull in pulls:
                tools = tools_in(pull.title, pull.body, *messages.get(pull.id, ()))
                session.add(
                    Analysis(pull_request_id=pull.id, is_ai_assisted=bool(tools), tools=tools, source="patterns")
                )
        return len(pulls)

    def _make_batches(self, team: str) -> None:
        with Session(self._engine) as session, session.begin():
            number = len(session.scalars(select(LlmBatch.id).where(LlmBatch.team == team)).all())
            waiting = session.scalars(
                select(Analysis.pull_request_id)
                .join(PullRequest, PullRequest.id == Analysis.pull_request_id)
                .join(TrackedRepository, TrackedRepository.repository_id == PullRequest.repository_id)
                .where(TrackedRepository.team == team, Analysis.source == "patterns", Analysis.batch_id.is_(None))
                .distinct()
                .order_by(Analysis.pull_request_id)
            ).all()
            for begin in range(0, len(waiting), self._size):
                ids = waiting[begin : begin + self._size]
                number += 1
                batch = LlmBatch(team=team, number=number, size=len(ids), created_at=datetime.now(UTC))
                session.add(batch)
                session.flush()
                session.execute(update(Analysis).where(Analysis.pull_request_id.in_(ids)).values(batch_id=batch.id))

    def _waiting(self, team: str | None) -> Sequence[int]:
        with Session(self._engine) as session:
            chosen = [LlmBatch.status.in_(_OPEN), *([LlmBatch.team == team] if team else [])]
            return session.scalars(select(LlmBatch.id).where(*chosen).order_by(LlmBatch.id)).all()

    def _hand_over(self, batch_id: int) -> None:
        """Hand a batch over; one that nobody takes now waits for a later task."""
        row = self._row(batch_id)
        if row.remote_id is not None:
            return
        if self._groq is None:
            log.warning(events.LLM_BATCH_QUEUED, batch=row.number, size=row.size, reason="there is no GROQ_API_KEY")
            return
        try:
            with otelsync.api_call("submit_batch", kind="groq", required=False):
                remote_id = self._groq.submit(self._questions(row.id))
        except APIError as error:
            self._queue(row, error)
        else:
            self._note(row, remote_id=remote_id, status="submitted", error=None)

    def _queue(self, row: LlmBatch, error: APIError) -> None:
        """Note that Groq could not be asked about a batch."""
        reason = f"{type(error).__name__}: {error}"[:500]
        self._note(row, error=reason)
        log.warning(events.LLM_BATCH_QUEUED, batch=row.number, size=row.size, reason=reason)

    def _batch(self, batch_id: int, until: float) -> None:
        """Wait for a batch that was handed over, and store what came of it."""
        row = self._row(batch_id)
        if self._groq is None or row.remote_id is None:
            return
        attributes = {"gen_ai.system": "groq", "gen_ai.request.model": MODEL, "gen_ai.operation.name": "chat"}
        with otelsync.batch("llm_analysis", number=row.number, size=row.size, **attributes) as stage:
            try:
                self._through(self._groq, row, row.remote_id, stage, until)
            except APIError as error:
                self._queue(row, error)
                stage.set(**{"llm.batch.status": "unknown"})

    def _row(self, batch_id: int) -> LlmBatch:
        with Session(self._engine, expire_on_commit=False) as session:
            return session.get_one(LlmBatch, batch_id)

    def _through(self, groq: GroqBatches, row: LlmBatch, remote_id: str, stage: Handle, until: float) -> None:
        state, pause = groq.state(remote_id), FIRST_POLL
        while not state.has_ended and (left := until - time.monotonic()) > 0:
            with otelsync.stage("llm.wait", kind="waiting"):
                time.sleep(min(pause, left))
            state, pause = groq.state(remote_id), min(pause * 2, LONGEST_POLL)
        stage.set(**{"llm.batch.status": state.status, "llm.batch.id": remote_id})
        if not state.has_ended:
            log.warning(
                events.LLM_BATCH_QUEUED,
                batch=row.number,
                size=row.size,
                reason=f"it is {state.status} after the deadline",
            )
        elif state.output_file is None:
            reason = f"the batch is {state.status}"
            self._note(row, status="failed", error=reason)
            log.error(events.LLM_BATCH_FAILED, batch=row.number, size=row.size, reason=reason)
            stage.fail(reason)
        else:
            with otelsync.api_call("batch_results", kind="groq"):
                self._take(row, dict(groq.results(state.output_file)), stage)

    def _take(self, row: LlmBatch, verdicts: dict[int, Verdict | None], stage: Handle) -> None:
        """Store what came of a batch; pull requests that were not answered keep what the patterns say."""
        said = {number: verdict for number, verdict in verdicts.items() if verdict is not None}
        tokens_in = sum(verdict.input_tokens for verdict in said.values())
        tokens_out = sum(verdict.output_tokens for verdict in said.values())
        with Session(self._engine) as session, session.begin():
            for analysis in session.scalars(select(Analysis).where(Analysis.batch_id == row.id)):
                verdict = said.get(analysis.pull_request_id)
                if verdict is not None:
                    analysis.is_ai_assisted, analysis.tools = verdict.is_ai_assisted, verdict.tools
                    analysis.summary, analysis.source = verdict.summary, "model"
            batch = session.get_one(LlmBatch, row.id)
            batch.status, batch.input_tokens, batch.output_tokens = "completed", tokens_in, tokens_out
        dollars = round(tokens_in * INPUT_DOLLARS + tokens_out * OUTPUT_DOLLARS, 6)
        stage.set(
            **{
                "gen_ai.usage.input_tokens": tokens_in,
                "gen_ai.usage.output_tokens": tokens_out,
                "gen_ai.usage.cost": dollars,
                "llm.batch.answered": len(said),
            }
        )
        log.info(
            events.LLM_BATCH_COMPLETED,
            batch=row.number,
            size=row.size,
            answered=len(said),
            input_tokens=tokens_in,
            output_tokens=tokens_out,
            dollars=dollars,
        )

    def _questions(self, batch_id: int) -> dict[int, str]:
        with Session(self._engine) as session:
            own = select(Analysis.pull_request_id).where(Analysis.batch_id == batch_id)
            pulls = session.scalars(select(PullRequest).where(PullRequest.id.in_(own))).all()
            messages = _messages(session, pulls)
            return {pull.id: question(pull.title, pull.body, messages.get(pull.id, ())) for pull in pulls}

    def _note(self, row: LlmBatch, **values: Any) -> None:
        for name, value in values.items():
            setattr(row, name, value)
        with Session(self._engine) as session, session.begin():
            session.execute(update(LlmBatch).where(LlmBatch.id == row.id).values(**values))


def _messages(session: Session, pulls: Sequence[PullRequest]) -> dict[int, list[str]]:
    ids = [pull.id for pull in pulls]
    found: dict[int, list[str]] = {}
    for identity, message in session.execute(
        select(Commit.pull_request_id, Commit.message).where(Commit.pull_request_id.in_(ids))
    ):
        found.setdefault(identity, []).append(message)
    return found
