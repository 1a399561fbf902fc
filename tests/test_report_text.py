from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from runs_to_report import HOSTILE

import otelsync.reports
from otelsync.reports.markdown import text
from otelsync.reports.page import templates
from otelsync.text.printable import printable

marked = st.text("\\`*_{}[]()<>#+-.!|~&$@:/\n\r\t\x1b wéb1", max_size=40)
texts = st.text(max_size=60) | st.sampled_from(HOSTILE) | marked
markdown = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


class _Elements(HTMLParser):
    """The start tags of a document, and its text."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, _: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@given(texts)
def test_markdown_text_reads_as_it_stands(value: str) -> None:
    """In a heading, a paragraph and a list it is text, to the letter, and nothing else."""
    escaped = text(value)
    for before, tags in (("# x ", ["h1"]), ("x ", ["p"]), ("- x ", ["ul", "li"])):
        rendered = _Elements(markdown.render(f"{before}{escaped} x"))
        assert rendered.tags == tags
        assert " ".join(rendered.text.split()) == " ".join(f"x {printable(value, 200)} x".split())


@given(st.lists(texts, min_size=2, max_size=4))
def test_markdown_text_stays_in_its_cell(values: list[str]) -> None:
    """A table keeps its columns, whatever its cells hold."""
    cells = [text(value) for value in values]
    table = (["a"] * len(cells), ["---"] * len(cells), cells)
    rendered = markdown.render("\n".join(f"| {' | '.join(row)} |" for row in table))
    row = rendered.split("<tbody>")[1]
    assert row.count("<td>") == len(cells)
    assert _Elements(rendered).tags.count("tr") == 2
    found = [html.unescape(cell.split("</td>")[0]) for cell in row.split("<td>")[1:]]
    assert found == [printable(value, 200).strip() for value in values]


@given(texts)
def test_markdown_text_is_no_link(value: str) -> None:
    """Neither a web address nor a mention is left as GitHub would find it."""
    escaped = text(f"http://a.example www.b.example {value}")
    assert "://" not in escaped.replace("\\://", "")
    assert "www." not in escaped.lower().replace("www\\.", "")


def as_html(value: str) -> str:
    return templates().from_string("{{ value|text }}").render(value=value)


@given(texts)
def test_html_text_reads_as_it_stands(value: str) -> None:
    """In an element and in an attribute's value it is text, to the letter, and nothing else."""
    escaped = as_html(value)
    rendered = _Elements(f'<p title="{escaped}">{escaped}</p>')
    assert rendered.tags == ["p"]
    assert rendered.text == printable(value, 200)


def test_text_is_bounded() -> None:
    """A megabyte becomes as much as a line holds."""
    assert len(text("*" * 1_000_000)) <= 400
    assert len(as_html("<" * 1_000_000)) <= 800


OURS = {
    *("name", "mark", "took_ns", "verdict", "most_changed", "titles[kind]", "error.span_id", "error.trace_id"),
    *('"number" if kinds == ["pr"] else "id"',),
    *(
        "summary.trace_url",
        "item.span_id",
        "item.trace_id",
        "at.span_id",
        "at.trace_id",
        'counts|join(" | ")',
        'cells|join(" | ")',
    ),
}
"""Expressions that templates of Markdown write as they stand: words of ours, ids in hex, figures, parts made before, an
address that has been checked."""
SAFE = re.compile(
    r"\|(text(\(\d+\))?|number|duration|took|timestamp|day_and_time|items_line|length|code|arrow.*)$"
    r"|\|counted\(\"[\w ]+\"\)$"
    r"|^(row|time|operations|batches|items_table)\(|^\"[^\"]*\"( if (not )?(loop\.|kinds\||summary\.)| \*|\.format\()"
)


def test_what_comes_from_outside_is_escaped_in_every_template() -> None:
    """Markdown has no autoescape: each figure goes through a filter, or is known to be ours."""
    folder = Path(otelsync.reports.__file__).parent / "templates"
    texts = [file.read_text(encoding="utf-8") for file in folder.glob("*.md.jinja")]
    written = {each for text in texts for each in re.findall(r"{{-?\s*(.+?)\s*-?}}", text)}
    assert len(written) > 60
    assert {each for each in written if not SAFE.search(each)} - OURS == set()
