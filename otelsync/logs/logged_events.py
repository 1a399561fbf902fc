"""Events that source code logs, read from its syntax trees and held against the catalogues."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import EllipsisType
from typing import Final

from otelsync.levels import LEVELS, METHODS, level_name
from otelsync.logs.events import Event, looks_like_name
from otelsync.vocabulary import EVENT_ID

_METHODS: Final = {
    **{name: level_name(level).lower() for name, level in METHODS.items()},
    **{f"a{name}": name for name in LEVELS},
}
"""Methods that log, and at which level."""
_NO_FIELDS: Final = frozenset(("exc_info", "stack_info", "stacklevel", "extra", "error", "error_type", "exception"))
"""Arguments that are no fields, and fields that any record can have."""
_OF_OPERATIONS: Final = frozenset(("duration_ms", "outcome"))
_MAKES_LOGGERS: Final = frozenset(("get_logger", "getLogger", "bind", "new", "unbind", "try_unbind"))
_LOGGER: Final = re.compile(r"(?:^|_)(?:log|logger|LOG|LOGGER)$|[a-z]Logger$|^logging$")
_NOT_OURS: Final = frozenset(("node_modules", "site-packages", "__pycache__", "build", "dist"))


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A disagreement of source code and catalogues."""

    file: str
    line: int
    says: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.says}"


@dataclass(frozen=True, slots=True)
class Declaration:
    """An event as the source code of a catalogue has it. What cannot be read from it is None."""

    file: str
    line: int
    prefix: str | None
    number: int
    name: str
    level: str | None
    fields: frozenset[str]
    is_open: bool

    @property
    def id(self) -> str:
        """As records carry it."""
        return f"{self.prefix or '??'}-{self.number:03d}"


@dataclass(frozen=True, slots=True)
class Logged:
    """A place where an event is logged. What cannot be read from it is None."""

    file: str
    line: int
    name: str
    level: str | None
    fields: frozenset[str] | None


@dataclass(slots=True)
class Source:
    """Everything that all files together declare, log and mention."""

    declared: list[Declaration] = field(default_factory=list)
    logged: list[Logged] = field(default_factory=list)
    mentioned: set[str] = field(default_factory=set)
    """Texts and names that stand anywhere but in a declaration."""
    patterns: set[re.Pattern[str]] = field(default_factory=set)
    """Names that are put together when they are logged."""
    constants: dict[str, str] = field(default_factory=dict)
    """Names of variables that hold an event, and that event."""
    prefixes: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    """Places where catalogues with a prefix are made."""
    unreadable: list[Finding] = field(default_factory=list)


def check(paths: Iterable[Path], known: Mapping[str, Event], *, messages: bool = False) -> list[Finding]:
    """Find disagreements of the Python files in `paths` with their catalogues.

    Args:
        paths: Files, and directories with all that is in them.
        known: Events that are declared elsewhere.
        messages: Whether a message, too, has to be declared: text with blanks, as old-style logging has it.
    """
    source = read(paths)
    declared = {each.name: each for each in source.declared}
    findings = [*source.unreadable, *_twice(source)]
    findings += _undeclared(source, declared.keys() | known.keys(), messages=messages)
    findings += _never_logged(source)
    for name, declaration in declared.items():
        findings += _disagreements(declaration, [each for each in source.logged if each.name == name])
    findings += _other_levels(source, {**known, **declared})
    return sorted(set(findings))


def read(paths: Iterable[Path]) -> Source:
    """Read what the Python files in `paths` declare and log."""
    source = Source()
    trees = []
    for file in _files(paths):
        try:
            trees.append((str(file), ast.parse(file.read_bytes(), str(file))))
        except (OSError, SyntaxError, ValueError) as error:
            source.unreadable.append(Finding(str(file), getattr(error, "lineno", 0) or 0, f"cannot be read: {error}"))
    for name, tree in trees:
        _declare(name, tree, source)
    for name, tree in trees:
        _Calls(name, tree, source).visit(tree)
    return source


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for file in sorted(path.rglob("*.py")):
            parts = file.relative_to(path).parts
            if not any(part.startswith(".") or part in _NOT_OURS for part in parts):
                yield file


# Findings


def _twice(source: Source) -> Iterator[Finding]:
    ids: dict[str, Declaration] = {}
    names: dict[str, Declaration] = {}
    for each in source.declared:
        first = ids.setdefault(each.id, each)
        if first is not each and each.prefix:
            yield Finding(each.file, each.line, f"{each.id} is {first.name!r} already ({first.file}:{first.line})")
        first = names.setdefault(each.name, each)
        if first is not each:
            yield Finding(each.file, each.line, f"{each.name!r} is {first.id} already ({first.file}:{first.line})")
    for prefix, ((file, line), *others) in source.prefixes.items():
        for other, at in others:
            yield Finding(other, at, f"the prefix {prefix!r} has a catalogue already ({file}:{line})")


def _undeclared(source: Source, declared: Iterable[str], *, messages: bool) -> Iterator[Finding]:
    declared = frozenset(declared)
    for each in source.logged:
        if each.name not in declared and (messages or looks_like_name(each.name)):
            yield Finding(each.file, each.line, f"{each.name!r} is logged and not declared")


def _never_logged(source: Source) -> Iterator[Finding]:
    logged = {each.name for each in source.logged} | source.mentioned
    logged |= {event for constant, event in source.constants.items() if constant in source.mentioned}
    for each in source.declared:
        if each.name not in logged and not any(pattern.fullmatch(each.name) for pattern in source.patterns):
            yield Finding(each.file, each.line, f"{each.name!r} ({each.id}) is declared and never logged")


def _disagreements(declaration: Declaration, places: Sequence[Logged]) -> Iterator[Finding]:
    for each in places:
        if not declaration.is_open and each.fields is not None:
            for name in sorted(each.fields - declaration.fields - _NO_FIELDS):
                yield Finding(each.file, each.line, f"{each.name!r} has no field {name!r} by its declaration")
    given = [each.fields for each in places]
    if given and not declaration.is_open:
        for name in sorted(declaration.fields - _NO_FIELDS):
            if all(fields is not None and name not in fields for fields in given):
                yield Finding(
                    declaration.file, declaration.line, f"the field {name!r} of {declaration.name!r} is never logged"
                )


def _other_levels(source: Source, declared: Mapping[str, Event | Declaration]) -> Iterator[Finding]:
    for each in source.logged:
        level = declared[each.name].level if each.name in declared else None
        if level and each.level and each.level != level:
            yield Finding(each.file, each.line, f"{each.name!r} is logged at {each.level} and declared at {level}")


# Reading declarations


def _declare(file: str, tree: ast.Module, source: Source) -> None:
    """Find the catalogues that a file makes, and the events that it declares."""
    assigned = [(target, value) for node in ast.walk(tree) for target, value in _assigned(node)]
    tuples = {target: value for target, value in assigned if isinstance(value, (ast.Tuple, ast.List))}
    prefixes: dict[str, str] = {}
    for target, value in assigned:
        if isinstance(value, ast.Call) and _last_name(value.func) == "Catalogue":
            prefix = _text(_argument(value, 0, "prefix"))
            if prefix:
                prefixes[target] = prefix
                source.prefixes.setdefault(prefix, []).append((file, value.lineno))
    variables = {id(value): target for target, value in assigned}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        number, name = _declared_number(call), _text(_argument(call, 1, "name"))
        if number is None or name is None or not isinstance(call.func, ast.Attribute):
            continue
        fields = list(_fields(_argument(call, 3, "fields"), tuples))
        source.declared.append(
            Declaration(
                file=file,
                line=call.lineno,
                prefix=prefixes.get(_last_name(call.func.value)),
                number=number,
                name=name,
                level=_text(_argument(call, 2, "level")),
                fields=frozenset(each for each in fields if isinstance(each, str)),
                is_open=... in fields,
            )
        )
        if id(call) in variables:
            source.constants[variables[id(call)]] = name


def _fields(node: ast.expr | None, tuples: Mapping[str, ast.expr]) -> Iterator[str | EllipsisType]:
    """The names; ``...`` for further ones, and for what cannot be read."""
    if isinstance(node, ast.Name):
        node = tuples.get(node.id, node)
    if node is None:
        return
    if not isinstance(node, (ast.Tuple, ast.List)):
        yield ...
        return
    for item in node.elts:
        if isinstance(item, ast.Constant) and isinstance(item.value, str):
            yield item.value
        elif isinstance(item, ast.Starred):
            yield from _fields(item.value, tuples)
        else:
            yield ...


def _declared_number(call: ast.Call) -> int | None:
    """The number of the event that a call declares; None if it declares none."""
    number = _argument(call, 0, "number")
    if not isinstance(call.func, ast.Attribute) or call.func.attr != "event" or not isinstance(number, ast.Constant):
        return None
    return number.value if type(number.value) is int else None


# Reading calls


class _Calls(ast.NodeVisitor):
    """Finds what a file logs and mentions."""

    def __init__(self, file: str, tree: ast.Module, source: Source) -> None:
        self._file = file
        self._source = source
        self._texts = {
            target: text for node in tree.body for target, value in _assigned(node) if (text := _text(value))
        }

    def visit_Call(self, node: ast.Call) -> None:  # the name is ast's
        """Look at a call, unless it declares something: what stands in that is no mention."""
        if _declared_number(node) is not None:
            return
        logged = self._logged(node)
        if logged is not None:
            self._source.logged.append(logged)
        self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> None:
        """Note a text, which may be the name of an event that is logged elsewhere, and a variable that may hold one."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            self._source.mentioned.add(node.value)
        elif isinstance(node, ast.Attribute) or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)):
            self._source.mentioned.add(_last_name(node))
        super().generic_visit(node)

    def _logged(self, call: ast.Call) -> Logged | None:
        method = _last_name(call.func)
        if method == "emit" and len(call.args) >= 4:
            return self._place(call, call.args[2], _level_name(call.args[0]), _keys(call.args[3]))
        if method == "timed_operation" and call.args:
            fields = _keywords(call)
            return self._place(call, call.args[0], None, fields | _OF_OPERATIONS if fields is not None else None)
        if not isinstance(call.func, ast.Attribute) or not call.args:
            return None
        if method == "event":
            return self._place(call, call.args[0], None, _keywords(call), is_name=True)
        if method not in _METHODS:
            return None
        is_logger = _is_logger(call.func.value)
        return self._place(call, call.args[0], _METHODS[method], _keywords(call), is_name=not is_logger)

    def _place(
        self, call: ast.Call, name: ast.expr, level: str | None, fields: frozenset[str] | None, *, is_name: bool = False
    ) -> Logged | None:
        if isinstance(name, ast.JoinedStr):
            self._source.patterns.update(_pattern(name))
        variable = _last_name(name)
        text = _text(name) or self._source.constants.get(variable) or self._texts.get(variable)
        if not text or (is_name and not ("." in text and looks_like_name(text))):
            return None
        return Logged(self._file, call.lineno, text, level, fields)


def _pattern(node: ast.JoinedStr) -> Iterator[re.Pattern[str]]:
    """Return the names that a format makes, if it tells them from others by a part behind or before a dot."""
    parts = [re.escape(text) if (text := _text(part)) else "[a-z0-9_.]+" for part in node.values]
    if any(re.fullmatch(r"(?:\\\.[a-z0-9_]+)+|(?:[a-z0-9_]+\\\.)+", part) for part in parts):
        yield re.compile("".join(parts))


def _is_logger(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return _last_name(node.func) in _MAKES_LOGGERS
    return _LOGGER.search(_last_name(node)) is not None


def _keywords(call: ast.Call) -> frozenset[str] | None:
    """The fields that a call gives by name; None if there may be others."""
    names: set[str] = set()
    for keyword in call.keywords:
        inside = _keys(keyword.value) if keyword.arg in (None, "extra") else frozenset((keyword.arg or "",))
        if inside is None:
            return None
        names |= inside
    return frozenset(names - {EVENT_ID})


def _keys(node: ast.expr) -> frozenset[str] | None:
    """The keys of a dictionary that is written out; None of any other."""
    if not isinstance(node, ast.Dict):
        return None
    keys = [_text(key) for key in node.keys]
    return frozenset(key for key in keys if key) if all(keys) else None


def _level_name(node: ast.expr) -> str | None:
    name = _last_name(node).lower()
    return name if name in LEVELS else None


def _assigned(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """The variables that a statement gives a value, and the value."""
    targets: Sequence[ast.expr] = ()
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    value = getattr(node, "value", None)
    for target in targets:
        if isinstance(value, ast.expr) and (name := _last_name(target)):
            yield name, value


def _argument(call: ast.Call, place: int, name: str) -> ast.expr | None:
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    return call.args[place] if len(call.args) > place else None


def _text(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _last_name(node: ast.expr) -> str:
    """``c`` of ``a.b.c``; empty for what is no name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
