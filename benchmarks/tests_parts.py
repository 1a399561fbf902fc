"""Parts of the tests that benchmarks use too: the GitHub sync with its double, and real brokers."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from brokers import rabbitmq_server
from github_app import CLI, App, app

__all__ = ["CLI", "App", "app", "rabbitmq_server"]
