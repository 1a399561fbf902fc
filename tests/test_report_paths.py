from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from runs_to_report import HOSTILE

from otelsync.reports.folder import LONGEST, file_names, folder_name

names = st.text(max_size=400) | st.sampled_from(HOSTILE) | st.from_regex(r"[A-Za-z]{1,3}[/.\-_ ][A-Za-z]{1,3}")


@given(st.sets(names, max_size=30))
def test_file_names_are_plain_and_all_different(given_names: set[str]) -> None:
    """Lower-case ASCII that begins with a letter or digit, not too long, and different where case does not count."""
    files = file_names(given_names)
    assert files.keys() == given_names
    assert len(set(files.values())) == len(given_names)
    for file in files.values():
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*\.md", file)
        assert ".." not in file
        assert len(file) <= LONGEST + 14


@given(st.sets(names, max_size=10))
def test_a_file_name_does_not_depend_on_the_order(given_names: set[str]) -> None:
    """The same names have the same files."""
    assert file_names(sorted(given_names)) == file_names(sorted(given_names, reverse=True))


def test_ordinary_names_read_as_they_are() -> None:
    """A repo's name becomes a file's name that one recognizes."""
    assert file_names(["acme/api", "Peloton", "sigmavirus24/github3.py"]) == {
        "acme/api": "acme-api.md",
        "Peloton": "peloton.md",
        "sigmavirus24/github3.py": "sigmavirus24-github3.py.md",
    }


def test_names_that_would_be_one_file_get_a_digest() -> None:
    """Each of them, so that a name keeps its file whichever of the others is there."""
    files = file_names(["acme/api", "Acme/API", "acme-api"])
    assert all(re.fullmatch(r"acme-api-[0-9a-f]{10}\.md", file) for file in files.values())


def test_names_that_no_file_may_have() -> None:
    """Devices of Windows, dots, and the names of other files of the report are told apart from them."""
    for name in ("CON", "nul", "com1", "lpt9.txt", ".", "..", "", " ", "_SYNC_SUMMARY", "waterfall.html/"):
        file = file_names([name])[name]
        assert re.search(r"-[0-9a-f]{10}\.md$", file), file


def test_the_folder_of_a_run() -> None:
    """A sync id as it stands, if it has the form of one; else something plain made from it."""
    trace = "ab" * 16
    assert folder_name("202508022027-SYNC-765151E9", trace) == "202508022027-SYNC-765151E9"
    assert folder_name(None, trace) == trace
    assert re.fullmatch(r"etc-[0-9a-f]{10}", folder_name("../../etc", trace))
    assert "/" not in folder_name("202508022027-SYNC-765151E9/..", trace)
