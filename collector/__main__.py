"""Runs the stack in the foreground: ``make stack``."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from collector.stack import Ports, Stack, StackError, running

STATE = Path(".stack")


def main() -> int:
    """Run until it is interrupted; returns the exit status."""
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    try:
        with running(STATE.absolute(), Ports()) as stack:
            print(_said(stack), flush=True)
            while not over.wait(1.0):
                for server in stack.servers:
                    if server.process is not None and server.process.poll() is not None:
                        raise StackError(f"{server.name} has ended: {server.last_words()}")
    except StackError as error:
        print(f"stack: {error}", file=sys.stderr)
        return 1
    return 0


def _said(stack: Stack) -> str:
    return f"""
All four are running; Ctrl-C ends them. Their data and logs are in {STATE}/.

  send to     export OTEL_EXPORTER_OTLP_ENDPOINT={stack.endpoint}
  traces      {stack.jaeger_url}
  logs        {stack.logs_url}/select/vmui
  metrics     {stack.prometheus_url}

Try it, in another terminal:  OTEL_EXPORTER_OTLP_ENDPOINT={stack.endpoint} make demo
"""


if __name__ == "__main__":
    sys.exit(main())
