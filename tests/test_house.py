"""The house: sizes, privacy and words, as docs/architecture.md promises them. `lint-imports` holds the directions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from private_names import PRIVATE

from otelsync import vocabulary

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "otelsync").rglob("*.py"))
LONGEST_FILE: Final = 450
LONGEST_FUNCTION: Final = 45
ODD_FIRST_WORDS: Final = ("What", "Whether", "How", "Who", "Whose", "Which", "Where", "When", "Why", "If", "That")
"""Words that a docstring does not begin with: it begins with a verb or a noun."""
FOREIGN: Final = frozenset(
    (
        *(private.name for private in PRIVATE),  # whose modules tests/test_private_names.py holds
        *("_initialize", "_processors"),  # of objects of opentelemetry-instrumentation and structlog
        *("_exit", "_fmt", "_getframe", "_replace", "_value_"),  # the standard library
    )
)
"""Private names of others, who have no public way there."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _name(path: Path) -> str:
    return path.relative_to(ROOT / "otelsync").as_posix()


_MAKES: Final = re.compile(
    r"\.(?:touch|write_text|write_bytes)\(|\bopen\([^()\n]*[\"'][awx+][bt+]?[\"']|\.open\([\"'][awx]|O_CREAT(?!.*(?:O_NOFOLLOW|O_EXCL))"
)
"""Ways to make a file that follow a link, or make it for everybody."""
_MAKES_ITS_OWN: Final = ("/proc/self/comm", '"probe{SUFFIX}"', 'f"probe{SUFFIX}"')


each_file = pytest.mark.parametrize("path", FILES, ids=_name)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@each_file
def test_no_file_is_made_through_a_link(path: Path) -> None:
    """A file is made with O_NOFOLLOW or O_EXCL, for us alone: in another's directory may be a link to anything."""
    lines = [line for line in path.read_text().splitlines() if _MAKES.search(line)]
    assert [line for line in lines if not any(own in line for own in _MAKES_ITS_OWN)] == []


@each_file
def test_a_file_is_one_idea(path: Path) -> None:
    """No file is too long to be one idea."""
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


@each_file
def test_a_function_fits_a_screen(path: Path) -> None:
    """No function is longer than a screen."""
    functions = (node for node in ast.walk(_tree(path)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
    lengths = {each.name: (each.end_lineno or each.lineno) - each.lineno + 1 for each in functions}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


@each_file
def test_a_docstring_begins_with_a_verb_or_a_noun(path: Path) -> None:
    """Docstrings are statements, not answers to a question that the reader has to guess."""
    tree = _tree(path)
    documented = [node for node in ast.walk(tree) if isinstance(node, Definition)]
    said = [(node.name, ast.get_docstring(node) or "") for node in documented]
    said += [("module", ast.get_docstring(tree) or ""), *(("constant", text) for text in _texts_below_constants(tree))]
    odd = {(name, text.split("\n")[0]) for name, text in said if text.split(" ")[0].rstrip(":,") in ODD_FIRST_WORDS}
    assert odd == set()


def _texts_below_constants(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for before, after in zip(body or (), (body or [])[1:], strict=False) if isinstance(body, list) else ():
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if isinstance(before, (ast.Assign, ast.AnnAssign)) and is_text and isinstance(after.value.value, str):
                yield after.value.value


@each_file
def test_a_private_member_stays_in_its_module(path: Path) -> None:
    """No private member of a class is used outside the module that defines it."""
    tree = _tree(path)
    own = {node.name for node in ast.walk(tree) if isinstance(node, Definition)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            own.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            own.add(node.attr)
    slots = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    own.update(slots)
    used = {
        f"{ast.unparse(node)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and re.match(r"_[a-z]", node.attr)
        and node.attr not in own | FOREIGN
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    }
    assert used == set()


@each_file
def test_names_of_telemetry_stand_in_the_vocabulary(path: Path) -> None:
    """Span names and attribute keys of the product are spelled in `vocabulary.py` alone."""
    if path.name == "vocabulary.py":
        return
    names = {
        text for name, text in vars(vocabulary).items() if name.isupper() and isinstance(text, str) and "." in text
    }
    names |= {f"{name} " for name in names}
    spelled = {node.value for node in ast.walk(_tree(path)) if isinstance(node, ast.Constant)}
    texts = {each.decode() if isinstance(each, bytes) and each.isascii() else each for each in spelled}
    assert {each for each in texts if isinstance(each, str)} & names == set()
