"""GitHub's GraphQL API: queries held against the published schema, priced, and answered from the catalogue.

Errors have GitHub's shape: HTTP 200, ``errors[]`` with ``type``, ``path``, ``locations`` and ``message``, and the data
that there is.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from graphql import (
    DocumentNode,
    FieldNode,
    GraphQLError,
    GraphQLSchema,
    GraphQLSyntaxError,
    Node,
    OperationDefinitionNode,
    build_ast_schema,
    execute_sync,
    parse,
    print_ast,
    validate,
)
from graphql.execution import get_variable_values

from . import graph, published
from .catalogue import Catalogue
from .messages import Answer, Request, error, ok
from .query_cost import Cost, QueryRefusedError, cost_of
from .rate_limit import ANONYMOUS, Quota
from .shapes import JsonObject

_DOCS = "https://docs.github.com/graphql"
_UNDEFINED_FIELD = re.compile(r"Cannot query field '(?P<field>\w+)' on type '(?P<type>\w+)'")
_UNKNOWN_ARGUMENT = re.compile(r"Unknown argument '(?P<argument>\w+)' on field '(?P<type>\w+)\.(?P<field>\w+)'")
_MISSING_ARGUMENT = re.compile(r"Argument '\w+\.(?P<field>\w+)\((?P<argument>\w+):\)' of type .* is required")

_building = threading.Lock()
_source: list[Callable[[], str]] = [published.graphql_schema]


def take_schema(source: Callable[[], str]) -> None:
    """Take another schema than the published one, from now on."""
    with _building:
        _source[:] = [source]
        _schema.cache_clear()


@lru_cache(maxsize=1)
def _schema() -> GraphQLSchema:
    # No locations in it, and no checks of a schema that GitHub has published: half the time.
    document = parse(_source[0](), no_location=True)
    return build_ast_schema(document, assume_valid=True, assume_valid_sdl=True)


def schema() -> GraphQLSchema:
    """GitHub's schema, built when first asked for, which takes about a second; raises published.NotAvailableError."""
    with _building:
        return _schema()


@dataclass(frozen=True, slots=True)
class Query:
    """A request to the endpoint, as far as it can be told before it runs: refused, or with its cost."""

    document: DocumentNode | None = None
    operation: OperationDefinitionNode | None = None
    variables: JsonObject | None = None
    cost: Cost | None = None
    refused: Answer | None = None

    @property
    def paths(self) -> list[str]:
        """The paths under which a fault plan finds it."""
        return ["/graphql", *(f"/graphql/{name}" for name in self.cost.repositories)] if self.cost else ["/graphql"]


@dataclass(frozen=True, slots=True)
class Result:
    """An answered query: its content, and the repositories whose lists of pull requests it read."""

    content: JsonObject
    read: tuple[str, ...] = ()


def read(request: Request) -> Query:
    """Parse, check and price a request."""
    if request.method != "POST":
        return Query(refused=error(404, "Not Found"))
    try:
        asked = json.loads(request.body)
    except ValueError:
        return Query(refused=error(400, "Problems parsing JSON", docs=_DOCS))
    text, variables = (asked.get("query"), asked.get("variables") or {}) if isinstance(asked, dict) else (None, {})
    if not isinstance(text, str) or not text or not isinstance(variables, dict):
        return Query(refused=error(400, "A query attribute must be specified and must be a string.", docs=_DOCS))
    document, problems = _checked(text)
    if document is None or problems:
        return Query(refused=ok({"errors": list(problems)}, request))
    operation = _operation(document, asked.get("operationName"))
    if operation is None or operation.operation.value != "query":
        message = "The double answers one query a request, and no mutations"
        return Query(refused=ok({"errors": [{"message": message}]}, request))
    given = get_variable_values(schema(), operation.variable_definitions or (), variables)
    if isinstance(given, list):
        return Query(refused=ok({"errors": [_variable_problem(each, operation, variables) for each in given]}, request))
    try:
        cost = cost_of(schema(), document, operation, given.coerced)
    except QueryRefusedError as refused:
        return Query(refused=ok({"data": None, "errors": [refused.problem]}, request))
    return Query(document, operation, variables, cost)


def run(catalogue: Catalogue, query: Query, request: Request, quota: Quota) -> Result:
    """Answer a query that was not refused and that is paid for."""
    assert query.document is not None
    assert query.operation is not None
    assert query.cost is not None
    context = graph.Context(catalogue, login(request.token), quota, query.cost.points, query.cost.nodes)
    outcome = execute_sync(
        schema(),
        query.document,
        root_value=graph.root(),
        context_value=context,
        variable_values=query.variables,
        operation_name=query.operation.name.value if query.operation.name else None,
        field_resolver=graph.resolve,
    )
    content: JsonObject = {"data": outcome.data}
    if outcome.errors:
        content["errors"] = [_problem(each) for each in outcome.errors]
    return Result(content, tuple(context.read))


def login(token: str) -> str:
    """The name of the token's user."""
    return f"user-{hashlib.sha256(token.encode()).hexdigest()[:6]}" if token != ANONYMOUS else "ghost"


@lru_cache(maxsize=256)
def _checked(text: str) -> tuple[DocumentNode | None, tuple[JsonObject, ...]]:
    """The query's document, and what is wrong with it; clients repeat their queries, with other variables."""
    try:
        document = parse(text)
    except GraphQLSyntaxError as wrong:
        location = wrong.locations[0] if wrong.locations else None
        place = f" at [{location.line}, {location.column}]" if location else ""
        message = f"Parse error: {wrong.message.removeprefix('Syntax Error: ').rstrip('.')}{place}"
        return None, ({"message": message, "locations": _locations(wrong)},)
    paths = dict(_paths(document))
    return document, tuple(_invalid(each, paths) for each in islice(validate(schema(), document), 20))


def _operation(document: DocumentNode, name: object) -> OperationDefinitionNode | None:
    found = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    if name:
        found = [node for node in found if node.name and node.name.value == name]
    return found[0] if len(found) == 1 else None


def _invalid(wrong: GraphQLError, paths: dict[int, list[str]]) -> JsonObject:
    """What a query does against the schema, in GitHub's words where it has its own."""
    path = next((paths[id(node)] for node in wrong.nodes or () if id(node) in paths), [])
    told: JsonObject = {"path": path, "extensions": {}, "locations": _locations(wrong), "message": wrong.message}
    if match := _UNDEFINED_FIELD.match(wrong.message):
        told["message"] = f"Field '{match['field']}' doesn't exist on type '{match['type']}'"
        told["extensions"] = {"code": "undefinedField", "typeName": match["type"], "fieldName": match["field"]}
    elif match := _UNKNOWN_ARGUMENT.match(wrong.message):
        told["message"] = f"Field '{match['field']}' doesn't accept argument '{match['argument']}'"
        name = {"name": match["field"], "typeName": "Field", "argumentName": match["argument"]}
        told["extensions"] = {"code": "argumentNotAccepted", **name}
    elif match := _MISSING_ARGUMENT.match(wrong.message):
        told["message"] = f"Field '{match['field']}' is missing required arguments: {match['argument']}"
        name = {"className": "Field", "name": match["field"], "arguments": match["argument"]}
        told["extensions"] = {"code": "missingRequiredArguments", **name}
    if not told["extensions"]:
        del told["extensions"]
    return told


def _paths(document: DocumentNode) -> Iterator[tuple[int, list[str]]]:
    """The path from the operation to each field and its arguments, by the node's identity."""
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            name = f" {definition.name.value}" if definition.name else ""
            yield from _paths_below(definition, [definition.operation.value + name])


def _paths_below(node: Node, path: list[str]) -> Iterator[tuple[int, list[str]]]:
    selections = getattr(node, "selection_set", None)
    for selection in selections.selections if selections else ():
        below = path
        if isinstance(selection, FieldNode):
            below = [*path, selection.alias.value if selection.alias else selection.name.value]
            yield id(selection), below
            yield from ((id(each), [*below, each.name.value]) for each in selection.arguments or ())
        yield from _paths_below(selection, below)


def _variable_problem(wrong: GraphQLError, operation: OperationDefinitionNode, variables: JsonObject) -> JsonObject:
    match = re.search(r"[Vv]ariable '\$(?P<name>\w+)'(?: of required type '(?P<type>[^']+)')?", wrong.message)
    if match is None:
        return {"message": wrong.message, "locations": _locations(wrong)}
    value, name = variables.get(match["name"]), match["name"]
    kind = match["type"] or next(
        (_written(each.type) for each in operation.variable_definitions or () if each.variable.name.value == name), ""
    )
    explanation = "Expected value to not be null" if value is None else wrong.message
    return {
        "extensions": {"value": value, "problems": [{"path": [], "explanation": explanation}]},
        "locations": _locations(wrong),
        "message": f"Variable ${name} of type {kind} was provided invalid value",
    }


def _written(node: Node) -> str:

    return print_ast(node)


def _problem(wrong: GraphQLError) -> JsonObject:
    told: JsonObject = {"type": (wrong.extensions or {}).get("type")} if (wrong.extensions or {}).get("type") else {}
    return {**told, "path": wrong.path, "locations": _locations(wrong), "message": wrong.message}


def _locations(wrong: GraphQLError) -> list[JsonObject]:
    return [{"line": each.line, "column": each.column} for each in wrong.locations or ()]
