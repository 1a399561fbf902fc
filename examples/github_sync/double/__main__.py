"""Run the double as a process of its own: ``python -m examples.github_sync.double --generated 50x1000``."""

from __future__ import annotations

import argparse
import json
import re
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

from .. import recordings
from .api import Api
from .catalogue import Catalogue
from .faults import Fault, FaultPlan
from .generator import GeneratedRepository, names
from .rate_limit import RateLimits
from .server import serving


def main(arguments: list[str] | None = None) -> int:
    """Serve until standard input ends (with --parent) or Ctrl-C; the first line of output is the address, as JSON."""
    options = _parser().parse_args(arguments)
    try:
        exchanges = [] if options.no_recordings else recordings.load()
    except recordings.RecordingsUnavailableError as error:
        print(error, file=sys.stderr)
        return 2
    catalogue = Catalogue(exchanges, options.generated)
    limits = RateLimits(options.limit, options.window)
    api = Api(catalogue, limits=limits, faults=FaultPlan(options.fault))
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.github_sync.double", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="default: any free port")
    parser.add_argument("--generated", type=generated, default=[], metavar="RxN", help="R repositories of N PRs each")
    parser.add_argument("--no-recordings", action="store_true", help="serve generated repositories only")
    parser.add_argument("--limit", type=int, default=5000, help="requests a window for a token")
    parser.add_argument("--window", type=int, default=3600, help="seconds of the rate limit's window")
    parser.add_argument(
        "--fault", type=Fault.parse, action="append", default=[], help="KIND[=SECONDS]@TARGET[#TIMES], see faults.py"
    )
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
