"""The part of GitHub's GraphQL schema that the sync asks for: ``asked.graphql``, so that the demo needs no npm.

``python -m examples.github_sync.double.asked_schema`` makes it of the published one (MIT-licensed), where that can be
had. A query that the sync does not make is refused by it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Final

from graphql import (
    FieldNode,
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
    GraphQLUnionType,
    TypeInfo,
    TypeInfoVisitor,
    Visitor,
    build_ast_schema,
    get_named_type,
    is_specified_scalar_type,
    parse,
    print_ast,
    visit,
)

from .. import queries
from . import published

FILE: Final = Path(__file__).parent / "asked.graphql"
_HEAD: Final = "# The part of GitHub's published schema that the sync asks for, made by asked_schema.py.\n"
Fields = dict[str, set[str]]
"""Names of types, and of those of their fields that are asked for."""


def text() -> str:
    """Return the schema that is kept here."""
    return FILE.read_text(encoding="utf-8")


def made() -> str:
    """Return it, made of the published one; raises published.NotAvailableError."""
    whole = build_ast_schema(parse(published.graphql_schema(), no_location=True), assume_valid=True)
    return _HEAD + "\n".join(_printed(whole, _asked(whole, _queries())))


def _queries() -> list[str]:
    details = [queries.details(kind) for kind in ("reviews", "commits", "files")]
    return [queries.PULL_REQUESTS, *details, queries.by_number([1]), queries.activity(["a/b"], date.min)[0]]


def _asked(schema: GraphQLSchema, texts: Iterable[str]) -> Fields:
    """Return the fields that queries ask for, by type; of an interface also those of the types that have it."""
    fields: Fields = {}
    info = TypeInfo(schema)

    class Collector(Visitor):
        def enter_field(self, node: FieldNode, *_: object) -> None:
            parent = info.get_parent_type()
            if parent is not None and not node.name.value.startswith("__"):
                fields.setdefault(parent.name, set()).add(node.name.value)

    for each in texts:
        visit(parse(each), TypeInfoVisitor(info, Collector()))
    for name in list(fields):
        interface = schema.get_type(name)
        if isinstance(interface, GraphQLInterfaceType):
            for kind in schema.get_possible_types(interface):
                fields.setdefault(kind.name, set()).update(fields[name])
    return fields


def _printed(schema: GraphQLSchema, fields: Fields) -> Iterable[str]:
    """Yield the types with these fields, and what their arguments and results are made of."""
    found: dict[str, GraphQLNamedType] = {}
    waiting = [schema.get_type(name) for name in fields]
    while waiting:
        kind = waiting.pop()
        if kind is None or kind.name in found or is_specified_scalar_type(kind):
            continue
        found[kind.name] = kind
        waiting += _needed(kind, fields)
    for name in sorted(found):
        yield _type_text(found[name], fields, found)


def _needed(kind: GraphQLNamedType, fields: Fields) -> Iterable[GraphQLNamedType]:
    if isinstance(kind, GraphQLInputObjectType):
        return [get_named_type(field.type) for field in kind.fields.values()]
    if isinstance(kind, (GraphQLObjectType, GraphQLInterfaceType)):
        own = [kind.fields[name] for name in fields.get(kind.name, ())]
        return [get_named_type(each.type) for field in own for each in (field, *field.args.values())]
    return []


def _type_text(kind: GraphQLNamedType, fields: Fields, found: dict[str, GraphQLNamedType]) -> str:
    if isinstance(kind, GraphQLScalarType):
        return f"scalar {kind.name}\n"
    if isinstance(kind, GraphQLEnumType):
        return f"enum {kind.name} {{\n" + "".join(f"  {name}\n" for name in sorted(kind.values)) + "}\n"
    if isinstance(kind, GraphQLUnionType):
        members = sorted(each.name for each in kind.types if each.name in found)
        return f"union {kind.name} = {' | '.join(members)}\n"
    if isinstance(kind, GraphQLInputObjectType):
        inner = "".join(f"  {name}: {field.type}\n" for name, field in sorted(kind.fields.items()))
        return f"input {kind.name} {{\n{inner}}}\n"
    assert isinstance(kind, (GraphQLObjectType, GraphQLInterfaceType))
    interfaces = sorted(each.name for each in kind.interfaces if each.name in found)
    word = "interface" if isinstance(kind, GraphQLInterfaceType) else "type"
    is_a = f" implements {' & '.join(interfaces)}" if interfaces else ""
    inner = "".join(f"  {_field_text(name, kind.fields[name])}\n" for name in sorted(fields.get(kind.name, ())))
    return f"{word} {kind.name}{is_a} {{\n{inner}}}\n"


def _field_text(name: str, field: GraphQLField) -> str:
    arguments = ", ".join(_argument_text(each, argument) for each, argument in sorted(field.args.items()))
    return f"{name}({arguments}): {field.type}" if arguments else f"{name}: {field.type}"


def _argument_text(name: str, argument: GraphQLArgument) -> str:
    default = argument.ast_node.default_value if argument.ast_node is not None else None
    return f"{name}: {argument.type}" + (f" = {print_ast(default)}" if default is not None else "")


if __name__ == "__main__":
    FILE.write_text(made(), encoding="utf-8")
