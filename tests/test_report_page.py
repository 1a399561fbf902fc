from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import Browser, browser
from runs_to_report import HOSTILE, PIPELINE, hostile, reported
from stored import SYNC_ID, batch, span, store

from otelsync.reports.writing import write_report
from otelsync.text.printable import printable

__all__ = ["browser"]

VOID = frozenset(("meta", "input", "link", "br", "hr", "img"))


class Document(HTMLParser):
    """What a browser has made of a page: the text by class, the tags, and what is hidden."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.labels: list[str] = []
        self.text = ""
        self._open: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        kind = dict(attrs).get("class") or ""
        if tag not in VOID:
            self._open.append((tag, kind))
        if kind == "label":
            self.labels.append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] in ("style", "script"):
            return
        self.text += data
        if self._open and self._open[-1][1] == "label":
            self.labels[-1] += data


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """The page of an ordinary run."""
    return write_report(reported(tmp_path / "store.db"), SYNC_ID, tmp_path / "out") / "waterfall.html"


@pytest.fixture
def hostile_page(tmp_path: Path) -> Path:
    return write_report(hostile(tmp_path / "store.db"), SYNC_ID, tmp_path / "out") / "waterfall.html"


def with_script(page: Path, script: str) -> Path:
    """The page without its policy, and with a script of ours that runs after its own."""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    other = page.with_name("scripted.html")
    other.write_text(text.replace("</body>", f"<script>{script}</script></body>"))
    return other


def test_the_waterfall_without_scripts(page: Path, browser: Browser) -> None:
    """Everything is there: the spans in their order, times, outcomes, and the summary above; tools are hidden."""
    page.write_text(re.sub(r"<script>.*?</script>", "", page.read_text(), flags=re.S))
    document = Document(browser.dom(page))
    assert document.labels == [
        PIPELINE,
        "sync.repo acme/api",
        "sync.api list_pull_requests",
        "GET",
        "sync.rate_limit.wait",
        "sync.pr",
        "SELECT",
        "sync.pr",
        "sync.repo acme/web",
        "sync.pr",
        "sync.stage llm_batch",
        "chat",
    ]
    assert ("hidden", "") in document.attributes
    for words in ("Where the time went", "ValueError: no title", "pr-007 sync.pr.failed", "4,321", "#2", "290ms"):
        assert words in document.text, words


def test_the_policy_lets_its_own_script_run(page: Path, browser: Browser) -> None:
    """With scripts the tools appear, so the hash in the policy is that of the script."""
    assert ("hidden", "") not in Document(browser.dom(page)).attributes


def test_the_policy_stops_every_other_script(page: Path, browser: Browser) -> None:
    """A script, a handler and an image that got into the page would do nothing."""
    page.write_text(
        page.read_text().replace(
            "<footer>",
            "<script>document.title='PWNED'</script><img src=x onerror=\"document.title='PWNED'\">"
            "<a href=\"javascript:document.title='PWNED'\">x</a><footer>",
        )
    )
    assert "<title>PWNED" not in browser.dom(page)


def test_the_page_needs_nothing_else(page: Path) -> None:
    """It names no other host and loads no file: links lead to the files beside it, and within it."""
    text = page.read_text()
    assert not re.search(r"<(link|img|iframe|object|embed)\b", text)
    assert not re.search(
        r"""\b(src|srcset|action|formaction|style|on\w+)=""", re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    )
    links = re.findall(r'href="([^"]*)"', text)
    assert all(re.fullmatch(r"#[\w-]+|[\w.-]+\.(md|json)", link) for link in links), links


def test_hostile_content_is_text_in_the_browser(hostile_page: Path, browser: Browser) -> None:
    """Names and messages read as they stand: no script runs, and no element, no address is made of them."""
    dom = browser.dom(hostile_page)
    document = Document(dom)
    assert "<title>nightly\\n# &lt;b&gt; 202508022027-SYNC-765151E9</title>" in dom
    assert not {"img", "iframe", "object"} & set(document.tags)
    assert [document.tags.count(tag) for tag in ("style", "script", "title")] == [1, 1, 1]
    for text in HOSTILE:
        assert printable(f"sync.repo {text}", 120) in document.labels, text[:50]
    assert all(not (name.startswith("on") or name == "style") for name, _ in document.attributes)


def test_a_search_shows_what_is_found_and_what_is_above(page: Path, browser: Browser) -> None:
    """Other lines are gone, and the number of hits is said."""
    script = """
      const search = document.getElementById("search");
      search.value = "sync.pr #3"; search.dispatchEvent(new Event("input"));
      const left = [...document.querySelectorAll(".waterfall li:not(.gone) > details > summary .label,"
        + ".waterfall li:not(.gone) > .row .label")].map((one) => one.textContent);
      document.title = left.join(" / ") + " = " + document.getElementById("found").textContent;
    """
    dom = browser.dom(with_script(page, script))
    assert "<title>sync.pipeline nightly / sync.repo acme/web / sync.pr = 1 of 12</title>" in dom


def test_failed_only(page: Path, browser: Browser) -> None:
    """What failed is left, with what is above it."""
    script = """
      const failed = document.getElementById("failed");
      failed.checked = true; failed.dispatchEvent(new Event("change"));
      document.title = document.getElementById("found").textContent + " "
        + document.querySelectorAll(".waterfall li:not(.gone)").length;
    """
    assert "<title>2 of 12 5</title>" in browser.dom(with_script(page, script))


def test_fold_and_unfold(page: Path, browser: Browser) -> None:
    """All of the tree at once."""
    script = """
      const open = () => document.querySelectorAll(".waterfall details[open]").length;
      document.getElementById("fold").click(); const folded = open();
      document.getElementById("unfold").click();
      document.title = folded + " " + open();
    """
    assert "<title>0 6</title>" in browser.dom(with_script(page, script))


def test_bars_are_to_scale(page: Path, browser: Browser) -> None:
    """A bar begins where its span began, and is as wide as it took, in thousandths of the run."""
    bars = re.findall(r'<rect class="k-waiting" x="([\d.]+)" width="([\d.]+)"', browser.dom(page))
    assert bars == [("60.0", "100.0")]


def test_the_heading_stays_in_sight(page: Path, browser: Browser) -> None:
    """Scrolled down, the time axis is at the top of the window."""
    script = """
      document.body.style.paddingBottom = "3000px";
      window.scrollTo(0, document.querySelector(".waterfall").getBoundingClientRect().top + 40);
      document.title = "at " + document.querySelector(".bar-head").getBoundingClientRect().top;
    """
    assert "<title>at 0</title>" in browser.dom(with_script(page, script))


def test_every_heading_and_table_is_announced(page: Path) -> None:
    """Language, one first-level heading, headings of columns and rows, labels of inputs, and a way past the summary."""
    text = page.read_text()
    assert '<html lang="en">' in text
    assert text.count("<h1") == 1
    assert '<th scope="col"' in text
    assert '<th scope="row"' in text
    assert '<label for="search">' in text
    assert 'class="skip" href="#waterfall"' in text
    assert text.count("<svg") == text.count('aria-hidden="true"')


def test_an_interrupted_run_says_so(tmp_path: Path, browser: Browser) -> None:
    """At the top, in words."""
    spans = [span(PIPELINE, 1, 0, 0, 9, sync__outcome="interrupted", error="the process ended before this stage did")]
    folder = write_report(store(tmp_path / "store.db", batch(*spans)), SYNC_ID, tmp_path / "out")
    assert "The run was interrupted." in Document(browser.dom(folder / "waterfall.html")).text
