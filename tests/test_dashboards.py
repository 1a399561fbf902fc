"""Grafana's dashboards and data sources: made by the code beside them, of what there is, and linked both ways."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import grafana_parsers
import promql
import pytest
import yaml

from collector.grafana import generate

PROVISIONING: Final = promql.ROOT / "collector" / "grafana" / "provisioning"
BOARDS: Final[dict[str, dict[str, Any]]] = {
    path.name: json.loads(path.read_text()) for path in sorted(generate.FOLDER.glob("*.json"))
}
SOURCES: Final[dict[str, dict[str, Any]]] = {
    source["uid"]: source
    for path in sorted((PROVISIONING / "datasources").glob("*.yaml"))
    for source in yaml.safe_load(path.read_text())["datasources"]
}
each_board = pytest.mark.parametrize("name", BOARDS)
LANGUAGES: Final = {
    "prometheus": "promql",
    "loki": "logql",
    "tempo": "traceql",
    "jaeger": "tags",
    "victoriametrics-logs-datasource": "logsql",
}


def queries(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the language and the text of each query."""
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield LANGUAGES[panel["datasource"]["type"]], target.get("expr") or target.get("query") or target["tags"]


def linked_queries() -> Iterator[tuple[str, str]]:
    """Yield the queries that lead from one data source to another."""
    for source in SOURCES.values():
        data = source["jsonData"]
        if source["uid"] == "tempo":
            yield "logql", data["tracesToLogsV2"]["query"].replace("$${__tags}", 'service_name="x"')
        for field in data.get("derivedFields", ()):
            if field.get("datasourceUid") == "tempo" and "{ " in field["url"]:
                yield "traceql", field["url"]
        for query in data.get("tracesToMetrics", {}).get("queries", ()):
            yield "promql", query["query"].replace("$$__tags", 'service_name="x", sync_pipeline="y"')


def test_what_is_committed_is_what_the_code_makes() -> None:
    """`make docs` makes them."""
    assert {path.name: path.read_text(encoding="utf-8") for path in generate.FOLDER.iterdir()} == generate.files()


@each_board
def test_a_dashboard_can_be_found_and_understood(name: str) -> None:
    """It has an address that stays, and every panel says what it shows."""
    board = BOARDS[name]
    assert board["uid"] == f"otelsync-{name.removesuffix('.json')}"
    titles = [panel["title"] for panel in board["panels"]]
    assert len(set(titles)) == len(titles)
    assert all(panel["description"] for panel in board["panels"])
    assert [panel["id"] for panel in board["panels"]] == list(range(1, len(titles) + 1))
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(set(places)) == len(places)


@each_board
def test_a_dashboard_asks_for_what_there_is(name: str) -> None:
    """Each query can be parsed, its metrics and labels exist, and its variables are the dashboard's or Grafana's."""
    board = BOARDS[name]
    variables = {each["name"] for each in board["templating"]["list"]} if "templating" in board else set()
    for language, query in queries(board):
        used = set(re.findall(r"\$\{?(\w+)", query))
        assert used <= variables | {"__range", "__interval", "__rate_interval"}
        if language == "promql":
            metrics, labels = promql.asked(promql.without_variables(query))
            assert metrics - {"ALERTS"} <= promql.known_metrics()
            assert labels <= promql.known_labels()
    for each in board["templating"]["list"] if variables else ():
        if each["type"] == "query":
            asked = re.fullmatch(r"label_values\((.+), (\w+)\)", each["query"])
            assert asked
            metrics, _ = promql.asked(promql.without_variables(asked[1]))
            assert metrics <= promql.known_metrics()
            assert asked[2] in promql.known_labels()


@each_board
def test_a_dashboard_is_of_sources_that_are_provisioned(name: str) -> None:
    """By their uids, and of the type that they have."""
    refs = [panel["datasource"] for panel in BOARDS[name]["panels"]]
    assert all(SOURCES[ref["uid"]]["type"] == ref["type"] for ref in refs)


def test_links_of_data_sources_lead_somewhere() -> None:
    """To data sources and dashboards that are there, and back again."""
    uids = [
        uid for source in SOURCES.values() for uid in re.findall(r"'datasourceUid': '(\w+)'", str(source["jsonData"]))
    ]
    assert set(uids) == set(SOURCES)
    boards = re.findall(r"/d/([\w-]+)\?var-(\w+)=", str(SOURCES))
    assert {(board, variable) for board, variable in boards} == {
        ("otelsync-run", "sync_id"),
        ("otelsync-run-victorialogs", "sync_id"),
    }
    for traces, logs in (("tempo", "loki"), ("jaeger", "victorialogs")):
        assert SOURCES[traces]["jsonData"]["tracesToLogsV2"]["datasourceUid"] == logs
        assert traces in {field.get("datasourceUid") for field in SOURCES[logs]["jsonData"]["derivedFields"]}


def test_metrics_that_lead_from_a_span_exist() -> None:
    """As the dashboards' do."""
    for language, query in linked_queries():
        if language == "promql":
            metrics, labels = promql.asked(query)
            assert metrics <= promql.known_metrics()
            assert labels <= promql.known_labels()


@grafana_parsers.needed
def test_grafana_can_parse_what_is_asked_of_loki_and_tempo() -> None:
    """By its own parsers; and these do find faults."""
    asked = [
        (language, re.sub(r"\$\$?\{?\w+(\.\w+)?\}?", "5m", query))
        for source in (*map(queries, BOARDS.values()), linked_queries())
        for language, query in source
        if language in ("logql", "traceql")
    ]
    assert {language for language, _ in asked} == {"logql", "traceql"}
    assert grafana_parsers.errors([*asked, ("logql", "{a="), ("traceql", "{ oops")])[:-2] == [[]] * len(asked)
    assert all(grafana_parsers.errors([("logql", "{a="), ("traceql", "{ oops")]))
