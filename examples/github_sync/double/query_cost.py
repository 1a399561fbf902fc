"""Points and nodes that a GraphQL query costs, counted before it runs, as GitHub counts them.

Each connection needs as many requests as its parents have items; a hundred requests are a point, and every query costs
at least one. A query may ask for at most 500,000 nodes, and for at most 100 of each connection
(https://docs.github.com/graphql/overview/rate-limits-and-query-limits-for-the-graphql-api).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    get_named_type,
)

from .shapes import JsonObject

MOST_NODES = 500_000
MOST_ITEMS = 100

_ITEMS = frozenset(("nodes", "edges"))


class QueryRefusedError(Exception):
    """A query that GitHub does not run; `problem` is the error as GitHub writes it."""

    def __init__(self, problem: JsonObject) -> None:
        super().__init__(problem["message"])
        self.problem = problem


@dataclass(slots=True)
class Cost:
    """Requests and nodes of a query; `page_size` is the largest of its outermost connections or lists of aliases."""

    requests: int = 0
    nodes: int = 0
    page_size: int = 0
    repositories: list[str] = field(default_factory=list)

    @property
    def points(self) -> int:
        """What the rate limit counts."""
        return max(1, round(self.requests / 100))


def cost_of(
    schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode, variables: JsonObject
) -> Cost:
    """The cost of a valid query; raises QueryRefusedError where GitHub would not run it."""
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    walk = _Walk(schema, fragments, variables)
    root = schema.get_root_type(operation.operation)
    assert root is not None
    walk.into(operation.selection_set, root, 1, [])
    if walk.cost.nodes > MOST_NODES:
        raise QueryRefusedError(
            {
                "type": "MAX_NODE_LIMIT_EXCEEDED",
                "message": f"This query requests up to {walk.cost.nodes:,} possible nodes which exceeds the maximum "
                f"limit of {MOST_NODES:,}.",
            }
        )
    return walk.cost


class _Walk:
    """One way through a query, from the root to its leaves."""

    def __init__(
        self, schema: GraphQLSchema, fragments: dict[str, FragmentDefinitionNode], variables: JsonObject
    ) -> None:
        self._schema = schema
        self._fragments = fragments
        self._variables = variables
        self.cost = Cost()

    def into(self, selections: SelectionSetNode, parent: GraphQLNamedType, times: int, path: list[str]) -> None:
        """Count everything below a selection, which is asked for `times` times."""
        aliases = 0
        for node, holder in self._fields(selections, parent):
            definition = holder.fields.get(node.name.value)
            if definition is None or node.selection_set is None:
                continue
            inner = get_named_type(definition.type)
            below = [*path, node.alias.value if node.alias else node.name.value]
            if node.name.value == "repository" and not path:
                self._name_repository(node)
            if inner.name.endswith("Connection"):
                self._connection(node, inner, times, below)
            else:
                aliases += node.name.value == "pullRequest"
                self.into(node.selection_set, inner, times, below)
        self.cost.page_size = max(self.cost.page_size, aliases)

    def _connection(self, node: FieldNode, inner: GraphQLNamedType, times: int, path: list[str]) -> None:
        assert node.selection_set is not None
        self.cost.requests += times
        if not any(each.name.value in _ITEMS for each, _ in self._fields(node.selection_set, inner)):
            self.into(node.selection_set, inner, times, path)
            return
        size = self._size(node, path)
        if times == 1:
            self.cost.page_size = max(self.cost.page_size, size)
        self.cost.nodes += times * size
        self.into(node.selection_set, inner, times * size, path)

    def _size(self, node: FieldNode, path: list[str]) -> int:
        sizes = {name: self._argument(node, name) for name in ("first", "last")}
        asked = [(name, size) for name, size in sizes.items() if isinstance(size, int)]
        connection = node.name.value
        if not asked:
            raise self._refused(
                "MISSING_PAGINATION_BOUNDARIES",
                f"You must provide a `first` or `last` value to properly paginate the `{connection}` connection.",
                node,
                path,
            )
        name, size = asked[0]
        if size > MOST_ITEMS:
            message = f"Requesting {size} records on the `{connection}` connection exceeds the `{name}` limit of "
            raise self._refused("EXCESSIVE_PAGINATION", f"{message}{MOST_ITEMS} records.", node, path)
        if size < 1:
            message = f"`{name}` on the `{connection}` connection cannot be less than 1."
            raise self._refused("INVALID_PAGINATION", message, node, path)
        return size

    @staticmethod
    def _refused(kind: str, message: str, node: FieldNode, path: list[str]) -> QueryRefusedError:
        locations = [] if node.loc is None else [node.loc.source.get_location(node.loc.start)._asdict()]
        return QueryRefusedError({"type": kind, "path": path, "locations": locations, "message": message})

    def _argument(self, node: FieldNode, name: str) -> object:
        for argument in node.arguments or ():
            if argument.name.value == name:
                if isinstance(argument.value, VariableNode):
                    return self._variables.get(argument.value.name.value)
                if isinstance(argument.value, IntValueNode):
                    return int(argument.value.value)
                return getattr(argument.value, "value", None)
        return None

    def _name_repository(self, node: FieldNode) -> None:
        self.cost.repositories.append(f"{self._argument(node, 'owner')}/{self._argument(node, 'name')}")

    def _fields(
        self, selections: SelectionSetNode, parent: GraphQLNamedType
    ) -> Iterator[tuple[FieldNode, GraphQLObjectType | GraphQLInterfaceType]]:
        """The fields of a selection, those of its fragments among them, each with the type that has it."""
        for node in selections.selections:
            if isinstance(node, FieldNode):
                if isinstance(parent, GraphQLObjectType | GraphQLInterfaceType):
                    yield node, parent
                continue
            fragment = self._fragments[node.name.value] if isinstance(node, FragmentSpreadNode) else node
            assert isinstance(fragment, FragmentDefinitionNode | InlineFragmentNode)
            condition = fragment.type_condition
            inner = self._schema.get_type(condition.name.value) if condition else parent
            if inner is not None:
                yield from self._fields(fragment.selection_set, inner)
