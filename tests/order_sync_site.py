"""A place in which the example `order_sync` runs: an environment, a database, reports, and a board in this process."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.order_sync.board import Answer, Board, Limits
from examples.order_sync.board_server import serving
from examples.order_sync.database import create
from examples.order_sync.demo_orders import orders, subitems

__all__ = ["Answer", "Board", "Limits", "Site", "serving"]

ROOT = Path(__file__).parents[1]
CUSTOMERS = ("GREYSON", "PELOTON")
ENVIRONMENT = """
url = ""
directory = "."
batch_size = {batch_size}
backoff_seconds = 0.01
[customers.GREYSON]
board = "1001"
[customers.PELOTON]
board = "{board}"
labels = {{ {labels} }}
"""


@dataclass
class Site:
    """A directory with all that a run needs; `url` is the board's."""

    home: Path
    url: str = ""

    def environment(self, *, board: str = "1002", labels: str = "", batch_size: int = 5) -> None:
        """Describe the environment `test.toml`."""
        (self.home / "test.toml").write_text(ENVIRONMENT.format(board=board, labels=labels, batch_size=batch_size))

    def fill(self, number: int = 12) -> None:
        """Make the database, with so many orders of each customer."""
        made = [order for customer in CUSTOMERS for order in orders(customer, number)]
        self.database.unlink(missing_ok=True)
        create(self.database, made, subitems(made))

    @property
    def database(self) -> Path:
        """The orders."""
        return self.home / "orders.db"

    def command(self, *arguments: str, environment: str = "test.toml") -> list[str]:
        """The command line of the example."""
        return [sys.executable, "-m", "examples.order_sync", "--environment", environment, *arguments]

    def variables(self, **more: str) -> dict[str, str]:
        """Variables of its process."""
        ours = {"PYTHONPATH": str(ROOT), "OTELSYNC_HOME": str(self.home / "home"), "OTELSYNC_REPORTS": "auto"}
        ours["OTELSYNC_SHUTDOWN_TIMEOUT"] = (
            "120"  # the reports are there when it has ended, however busy the machine is
        )
        return {**os.environ, **ours, "BOARD_API_URL": self.url, **more}

    def run(self, *arguments: str, environment: str = "test.toml", **more: str) -> subprocess.CompletedProcess[str]:
        """Run the example to its end."""
        command = self.command(*arguments, environment=environment)
        variables = self.variables(**more)
        return subprocess.run(command, cwd=self.home, env=variables, capture_output=True, text=True, check=False)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the example."""
        command, pipe = self.command(*arguments), subprocess.PIPE
        return subprocess.Popen(command, cwd=self.home, env=self.variables(), stdout=pipe, stderr=pipe, text=True)

    @property
    def reports(self) -> list[Path]:
        """The folders of reports, by the start of their runs."""
        read = [(json.loads(path.read_text()), path.parent) for path in self.home.glob("reports/sync/*/summary.json")]
        return [folder for _, folder in sorted((summary["started_at"], folder) for summary, folder in read)]

    def summary(self, number: int = -1) -> dict[str, Any]:
        """The figures of a report."""
        read: dict[str, Any] = json.loads((self.reports[number] / "summary.json").read_text())
        return read

    def page(self, customer: str, number: int = -1) -> str:
        """The file of a customer in a report."""
        (path,) = self.reports[number].glob(f"{customer.lower()}_2*.md")
        return path.read_text()

    def logged(self) -> list[dict[str, Any]]:
        """The log records of all runs."""
        return [json.loads(line) for line in (self.home / "order-sync.log").read_text().splitlines()]

    def ask(self, query: str, *values: object) -> list[Any]:
        """Ask the database."""
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(query, values).fetchall()

    def truth(self, sync_id: str, customer: str = "%") -> dict[str, int]:
        """The database's figures of a run: records that are synced and in error, orders and sub-items together."""
        rows = self.ask(
            "SELECT sync_state, count(*) FROM ("
            " SELECT customer, sync_state, sync_id FROM fact_order_list UNION ALL"
            " SELECT customer, s.sync_state, s.sync_id FROM fact_order_subitem AS s JOIN fact_order_list"
            " USING (order_number)) WHERE sync_id = ? AND customer LIKE ? GROUP BY 1",
            sync_id,
            customer,
        )
        return {"SYNCED": 0, "ERROR": 0, **dict(rows)}


def figures(counted: dict[str, Any]) -> dict[str, int]:
    """The same figures as a report has them."""
    items = counted["items"]
    return {"SYNCED": items["created"] + items["updated"], "ERROR": items["failed"]}
