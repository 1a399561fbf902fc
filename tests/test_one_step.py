"""Statements that are said to be one step: nothing can come between them."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

import otelsync

PACKAGE = Path(otelsync.__file__).parent
SAID = "# One step"
FORBIDDEN = ("CALL", "JUMP_BACKWARD", "RESUME", "SEND", "YIELD", "FOR_ITER", "IMPORT", "BUILD_", "MAKE_", "WITH")
"""Where CPython switches threads and runs signal handlers; and where 3.11 collects garbage, so that finalizers run."""


def steps() -> list[tuple[Path, int]]:
    """Each place in our code that is said to be one step: its file, and the line of the comment."""
    return [
        (path, number)
        for path in sorted(PACKAGE.rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if line.strip().startswith(SAID)
    ]


def codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def statements(path: Path, comment: int) -> tuple[int, int]:
    """The first and the last line of the statements behind a comment, up to a blank line or the end of their block."""
    lines = path.read_text().splitlines()
    indent = len(lines[comment - 1]) - len(lines[comment - 1].lstrip())
    last = comment
    while last < len(lines) and lines[last].strip() and len(lines[last]) - len(lines[last].lstrip()) >= indent:
        last += 1
    return comment + 1, last


@pytest.mark.parametrize(("path", "comment"), steps(), ids=lambda value: getattr(value, "name", str(value)))
def test_there_is_no_call_in_one_step(path: Path, comment: int) -> None:
    """The byte code of such statements has no call, no backward jump, and makes no object that is collected."""
    first, last = statements(path, comment)
    assert last > first, "one statement is a step without saying so"
    found = [
        instruction
        for code in codes(compile(path.read_text(), str(path), "exec"))
        for instruction in dis.get_instructions(code)
        if instruction.positions is not None and first <= (instruction.positions.lineno or 0) <= last
    ]
    assert any(instruction.opname.startswith("STORE") for instruction in found)
    assert [step.opname for step in found if step.opname.startswith(FORBIDDEN)] == []


def test_the_journal_has_such_steps() -> None:
    """They are found at all."""
    assert {path.name for path, _ in steps()} >= {"mapped.py", "series.py", "writer.py", "forks.py"}
