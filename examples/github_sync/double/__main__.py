"""Run the double as a process of its own: ``python -m examples.github_sync.double --repos 50 --pulls 1000``."""

from __future__ import annotations

import argparse
import json
import re
import sys
import threading
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from .. import recordings
from . import asked_schema, graphql_endpoint, published
from .api import Api
from .app_tokens import AppTokens
from .catalogue import Catalogue
from .faults import Fault, FaultPlan
from .generator import GeneratedRepository, names
from .groq import GroqBatches
from .rate_limit import RateLimits
from .server import serving
from .witness import Witness


def main(arguments: list[str] | None = None) -> int:
    """Serve until standard input ends (with --parent) or Ctrl-C; the first line of output is the address, as JSON."""
    options = _parser().parse_args(arguments)
    try:
        exchanges = [] if options.no_recordings else recordings.load()
    except recordings.RecordingsUnavailableError as error:
        print(error, file=sys.stderr)
        return 2
    if options.asked_schema:
        graphql_endpoint.take_schema(asked_schema.text)
    try:
        if options.graphql:
            graphql_endpoint.schema()
    except published.NotAvailableError as error:
        print(error, file=sys.stderr)
        return 2
    catalogue = Catalogue(exchanges, _repositories(options))
    for name, condition in options.condition:
        catalogue.set_condition(name, condition)
    for name, new_name in options.renamed:
        catalogue.rename(name, new_name)
    api = Api(
        catalogue,
        limits=RateLimits(options.limit, options.window, graphql_limit=options.graphql_limit),
        faults=FaultPlan(options.fault),
        witness=Witness(least_wait=options.least_wait),
        apps=AppTokens(options.app_token_seconds),
        groq=GroqBatches(stage_seconds=options.batch_seconds),
    )
    log = options.log.open("a", encoding="utf-8") if options.log else nullcontext(None)
    with log as access_log, serving(api, port=options.port, log=access_log) as server:
        found = {repository.full_name: len(repository.numbers()) for repository in catalogue.repositories()}
        print(json.dumps({"url": server.url, "repositories": found}), flush=True)
        _wait(parent=options.parent)
    return 0


def generated(text: str) -> list[GeneratedRepository]:
    """``50x1000``: fifty repositories of a thousand pull requests each."""
    match = re.fullmatch(r"(\d{1,4})x(\d{1,6})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not REPOSITORIESxPULL_REQUESTS, such as 50x1000")
    return [GeneratedRepository(name, index, int(match[2])) for index, name in enumerate(names(int(match[1])))]


def _repositories(options: argparse.Namespace) -> list[GeneratedRepository]:
    """The generated repositories that the options ask for, moved to the time that they ask for."""
    wanted = options.generated or generated(f"{options.repos}x{options.pulls}")
    until: datetime | None = options.until or (datetime.now(UTC) if options.repos else None)
    moved = [replace(each, hours=options.hours[each.index % len(options.hours)], seed=options.seed) for each in wanted]
    return [each if until is None else replace(each, epoch=each.epoch + (until - each.last)) for each in moved]


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _hours(text: str) -> list[int]:
    return [max(1, int(hours)) for hours in text.split(",")]


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.github_sync.double", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="default: any free port")
    parser.add_argument("--generated", type=generated, default=[], metavar="RxN", help="R repositories of N PRs each")
    parser.add_argument("--repos", type=int, default=0, help="the same with --pulls, the newest of them of now")
    parser.add_argument("--pulls", type=int, default=1000, help="pull requests for each of --repos")
    parser.add_argument("--until", type=_moment, metavar="DATE", help="about the date of the newest pull requests")
    parser.add_argument("--hours", type=_hours, default=[9], metavar="H,H", help="from one to the next, by repository")
    parser.add_argument("--seed", type=int, default=0, help="other content for another number")
    parser.add_argument("--no-recordings", action="store_true", help="serve generated repositories only")
    parser.add_argument(
        "--graphql", action="store_true", help="build GitHub's schema before the start, and fail where it cannot be had"
    )
    parser.add_argument(
        "--asked-schema",
        action="store_true",
        help="serve the part of the schema that the sync asks for, without npm",
    )
    parser.add_argument("--limit", type=int, default=5000, help="requests a window for a token")
    parser.add_argument("--graphql-limit", type=int, help="points a window for a token; default: as --limit")
    parser.add_argument("--window", type=int, default=3600, help="seconds of the rate limit's window")
    parser.add_argument(
        "--fault", type=Fault.parse, action="append", default=[], help="KIND[=X]@TARGET[%%EVERY][#TIMES], see faults.py"
    )
    parser.add_argument("--condition", type=_pair, action="append", default=[], help="NAME=hidden|empty|gone|blocked")
    parser.add_argument("--renamed", type=_pair, action="append", default=[], help="NAME=NEW_NAME")
    parser.add_argument("--least-wait", type=float, default=60.0, help="seconds after a limit that names no time")
    parser.add_argument("--app-token-seconds", type=float, default=3600.0, help="life of an installation's token")
    parser.add_argument("--batch-seconds", type=float, default=0.2, help="seconds of each stage of a Groq batch")
    parser.add_argument("--log", type=Path, help="write the access log to this file, one JSON object a request")
    parser.add_argument("--parent", action="store_true", help="end when standard input ends")
    return parser


def _wait(*, parent: bool) -> None:
    try:
        if parent:
            sys.stdin.read()
        else:
            threading.Event().wait()
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    sys.exit(main())
