"""docs/queries.md: each question has its queries, all of them can be parsed, and they ask for what there is."""

from __future__ import annotations

import re
import urllib.parse
from typing import Final

import documents
import grafana_parsers
import promql
import pytest
from documents import Block

PAGE: Final = documents.ROOT / "docs" / "queries.md"
TEXT: Final = PAGE.read_text(encoding="utf-8")
LANGUAGES: Final = ("logql", "logsql", "traceql", "jaeger", "promql")
SECTIONS: Final = re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("question", "text"), SECTIONS, ids=[question for question, _ in SECTIONS])
def test_each_question_is_asked_in_every_language(question: str, text: str) -> None:
    """The table has a row for it, and a query where the row does not say no."""
    (row,) = [line for line in TEXT.splitlines() if line.startswith(f"| [{question}](")]
    answers = dict(zip(LANGUAGES, [cell.strip() for cell in row.split("|")[2:-1]], strict=True))
    there = {language for language in LANGUAGES if f"```{language}\n" in text}
    assert there == {language for language, answer in answers.items() if answer not in ("no", "exemplars")}


@pytest.mark.parametrize("block", list(documents.blocks(PAGE, "promql")), ids=str)
def test_metrics_exist(block: Block) -> None:
    """And so do their labels."""
    metrics, labels = promql.asked(block.text)
    assert metrics
    assert metrics <= promql.known_metrics()
    assert labels <= promql.known_labels()


@pytest.mark.parametrize("block", list(documents.blocks(PAGE, "jaeger")), ids=str)
def test_requests_to_jaeger_are_of_parameters_that_it_has(block: Block) -> None:
    """A parameter that it has not is not refused, but left out."""
    address = urllib.parse.urlsplit(block.text.strip())
    known = {"service", "operation", "tags", "limit", "minDuration", "maxDuration", "lookback", "start", "end"}
    assert address.path.startswith("/api/traces")
    assert set(dict(urllib.parse.parse_qsl(address.query))) <= known


@grafana_parsers.needed
def test_grafana_can_parse_logql_and_traceql() -> None:
    """By its own parsers."""
    asked = [
        (block.language, block.text) for block in documents.every_block(PAGE) if block.language in ("logql", "traceql")
    ]
    assert len(asked) > 30
    assert grafana_parsers.errors(asked) == [[]] * len(asked)
