"""The command line: ``python -m examples.order_sync --environment demo sync --execute``.

Exit status: 0 all is on the boards, 2 partial, 1 failure, 64 wrong use, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import otelsync

from . import board_server, customer_reports, demo_orders
from .board import Limits
from .board_client import BoardClient, Boards, NoBoards
from .config import Customer, Environment, EnvironmentFileError, load
from .database import Database, create
from .sync_engine import OrderSync, Session

EXIT = {"success": 0, "partial": 2}
WRONG_USE = 64
STOPPED = 130

catalogue = otelsync.Catalogue("cl", source=__name__)
CALLED = catalogue.event(
    1, "command.called", level="info", fields=("environment", "customers"), says="A sync is called."
)
ENDED = catalogue.event(2, "command.ended", level="info", fields=("sync_id", "outcome"), says="The sync has ended.")
log = otelsync.get_logger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        environment = load(options.environment)
        customers = environment.chosen(getattr(options, "customer", None))
    except EnvironmentFileError as error:
        print(f"order_sync: {error}", file=sys.stderr)
        return WRONG_USE
    if options.command == "board":
        board_server.serve(environment.directory / "board.db", environment.limits or Limits())
        return 0
    with Database(options.database or environment.database) as orders:
        if options.command == "report":
            return _report(options, environment, orders)
        return _sync(options, environment, customers, orders)


def _sync(
    options: argparse.Namespace, environment: Environment, customers: tuple[Customer, ...], orders: Database
) -> int:
    session, called = None, ", ".join(options.customer or [customer_reports.ALL])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the run ends, and has its report
    with options.log.open("a", encoding="utf-8") as file:  # standard output is for people
        otelsync.configure(service_name="order-sync", store="on", reports_dir=options.reports, log_stream=file)
        otelsync.instrument("requests")
        try:
            log.info(CALLED, environment=environment.name, customers=called)
            _have_database(environment, options.database)
            with _boards(options, environment) as boards:
                session = _engine(options, environment, boards, orders).run(customers, called)
            log.info(ENDED, sync_id=session.sync_id, outcome=session.outcome)
        except KeyboardInterrupt:
            print("order_sync: stopped", file=sys.stderr)
        finally:
            otelsync.shutdown(timeout=10)  # the report comes with it
    _tell(session, options, environment, orders)
    return EXIT.get(session.outcome, 1) if session is not None else STOPPED


def _have_database(environment: Environment, elsewhere: Path | None) -> None:
    path = elsewhere or environment.database
    if environment.demo_orders and not path.exists():
        made = [o for each in environment.customers for o in demo_orders.orders(each.name, environment.demo_orders)]
        create(path, made, demo_orders.subitems(made))


@contextmanager
def _boards(options: argparse.Namespace, environment: Environment) -> Iterator[Boards]:
    if not options.execute:
        yield NoBoards()
    elif environment.url:
        with BoardClient(environment, environment.url) as client:
            yield client
    else:
        with board_server.started(options.environment) as url, BoardClient(environment, url) as client:
            yield client


def _engine(options: argparse.Namespace, environment: Environment, boards: Boards, orders: Database) -> OrderSync:
    return OrderSync(
        boards,
        orders,
        environment.name,
        environment.batch_size,
        execute=options.execute,
        limit=options.limit,
        subitems=not options.skip_subitems,
    )


def _tell(session: Session | None, options: argparse.Namespace, environment: Environment, orders: Database) -> None:
    """Add the customers' files to the run's report, and to those of runs before that were killed."""
    recorded = session is not None and session.sync_id
    if session is not None and recorded and not (options.reports / session.sync_id / "summary.json").exists():
        customer_reports.make(options.reports, session.sync_id)  # somebody else ships, or it is not done yet
    customer_reports.write_all(options.reports, environment, orders)
    if session is None:
        return
    where = f"report in {options.reports / session.sync_id}" if recorded else "tracing is off, so there is no report"
    print(f"{session.sync_id or 'sync'}: {session.outcome}; {where}")
    if options.generate_report and recorded:
        print(*customer_reports.table(options.reports / session.sync_id), sep="\n")


def _report(options: argparse.Namespace, environment: Environment, orders: Database) -> int:
    sync_id = customer_reports.make(options.reports, options.sync_id)
    written = customer_reports.write_all(options.reports, environment, orders, anew=sync_id)
    print(*written, sep="\n")
    return 0 if sync_id else 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Exit with another status than a partial sync."""
        self.print_usage(sys.stderr)
        self.exit(WRONG_USE, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m examples.order_sync", description="Sync order lists to boards, customer by customer."
    )
    reports = Path(os.environ.get("OTELSYNC_REPORTS_DIR") or "reports/sync")
    parser.add_argument("--environment", default="demo", metavar="NAME", help="default: demo; or a TOML file")
    parser.add_argument("--database", type=Path, help="SQLite; default: orders.db in the environment's directory")
    parser.add_argument("--reports", type=Path, default=reports, help="default: OTELSYNC_REPORTS_DIR, or reports/sync")
    commands = parser.add_subparsers(dest="command", required=True)
    sync = commands.add_parser("sync", help="say what would be synced; with --execute, do it")
    sync.add_argument("--execute", action="store_true", help="without it nothing is sent or changed")
    sync.add_argument("--customer", action="append", metavar="NAME", help="this one alone; may be repeated")
    sync.add_argument("--limit", type=_positive, metavar="N", help="at most N orders of each customer")
    sync.add_argument("--skip-subitems", action="store_true", help="orders alone")
    sync.add_argument("--generate-report", action="store_true", help="print the table of the report, too")
    sync.add_argument("--log", type=Path, default=Path("order-sync.log"), help="default: order-sync.log")
    report = commands.add_parser("report", help="make the report of a run again, such as of one that was killed")
    report.add_argument("sync_id", nargs="?", metavar="SYNC_ID", help="default: the latest")
    commands.add_parser("board", help="serve the environment's own board until standard input ends")
    return parser


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1")
    return int(text)
