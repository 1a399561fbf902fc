"""Runs the stack in the foreground: ``make stack``; with the demo in it: ``make demo STACK=1``."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from collector import demo
from collector.addresses import variables
from collector.stack import Ports, Stack, StackError, answers, running

STATE = Path(".stack")


def main(arguments: list[str] | None = None) -> int:
    """Run until it is interrupted; returns the exit status."""
    options = _parser().parse_args(arguments)
    ports = Ports.free() if options.free_ports else Ports()
    over = threading.Event()
    if options.command == "demo" and answers(f"http://127.0.0.1:{ports.health}"):
        return demo.run(ports, options.home)  # in the servers that `make stack` runs in another terminal
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    status = 0
    try:
        with running(options.state.absolute(), ports) as stack:
            if options.command == "demo":
                status = demo.run(ports, options.home)
            print(_said(stack, options.state), flush=True)
            while not over.wait(1.0):
                for server in stack.servers:
                    if server.process is not None and server.process.poll() is not None:
                        raise StackError(f"{server.name} has ended: {server.last_words()}")
    except StackError as error:
        print(f"stack: {error}", file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m collector", description=__doc__)
    parser.add_argument("command", nargs="?", choices=["stack", "demo"], default="stack")
    parser.add_argument("--state", type=Path, default=STATE, help="where data and logs are; default: .stack")
    parser.add_argument("--home", type=Path, default=demo.HOME, help="of the demo; default: .demo")
    parser.add_argument("--free-ports", action="store_true", help="not the usual ports, but some that nobody has")
    return parser


def _said(stack: Stack, state: Path) -> str:
    exports = "\n".join(f"  export {name}='{value}'" for name, value in variables(stack.ports).items())
    return f"""
All four servers are running; Ctrl-C ends them. Their data and logs are in {state}/.

  traces      {stack.jaeger_url}
  logs        {stack.logs_url}/select/vmui
  metrics     {stack.prometheus_url}/api/v1/query?query=sync_items_total

Jaeger's Go module has no page of its own in it, only its API; the one of its releases looks at the same addresses.
Send a program's data there, or `make demo STACK=1`, from another terminal:

{exports}
"""


if __name__ == "__main__":
    sys.exit(main())
