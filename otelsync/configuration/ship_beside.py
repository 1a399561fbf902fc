"""The shipper of a journal directory as a process of its own. `shipper_process` starts it, beside a program.

It is run as a file, by ``python -I -S``, and begins without the package ``otelsync``, whose public names load what only
recording needs: the start costs about as much as loading the same modules into the program would. It ships while a
process writes a journal in the directory, then what is left, and ends.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
from types import ModuleType

TYPE_CHECKING = False  # typing is not loaded for it
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

VARIABLE = "OTELSYNC_SHIPPER"
"""The variable that says, in JSON, what to ship: `path` and `package` of the program, its `journal` and `settings`."""

_NAME = "otelsync-ship"
"""Name of the process, as ``ps -o comm`` shows it."""


def main() -> None:
    """Ship the directory that the environment tells of, unless somebody does already."""
    told: list[int] = []
    _leave_the_program(told)
    given = json.loads(os.environ.pop(VARIABLE))
    gc.disable()  # nothing of what is loaded now is ever garbage
    _find_modules(given["path"], given["package"])
    from pathlib import Path

    from otelsync.shipping.ownership import owner

    directory = Path(given["journal"])
    if owner(directory) is None:
        _attend(directory, given, told)


def is_one(pid: int) -> bool:
    """Return whether a process is such a shipper, which ends by itself, and no program or service that ships."""
    try:
        with open(f"/proc/{pid}/comm") as comm:  # noqa: PTH123
            return comm.read().rstrip("\n") == _NAME
    except OSError:
        return False


def _leave_the_program(told: list[int]) -> None:
    """Be nobody's child, of no terminal, and hold nothing of the program's."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: told.append(number))
    try:
        names = os.listdir("/proc/self/fd")  # noqa: PTH208  (pathlib is not loaded yet)
        with open("/proc/self/comm", "w") as comm:  # noqa: PTH123
            comm.write(_NAME)
    except OSError:
        return
    for name in names:
        if int(name) > 2:
            try:
                os.close(int(name))
            except OSError:
                continue  # the list's own


def _find_modules(path: list[str], package: str) -> None:
    """Find what the program finds, after Python's own modules, and of otelsync each module by itself."""
    sys.path += [place for place in path if place not in sys.path]
    bare = ModuleType("otelsync")
    bare.__path__ = [package]
    sys.modules["otelsync"] = bare
    from otelsync.hooks.putting_off import UNUSED_BY_SHIPPERS, put_off

    put_off(*UNUSED_BY_SHIPPERS)
    try:
        import orjson  # noqa: F401
    except ImportError:  # the program has it by a finder of its own, as those of editable installs are
        import site

        site.main()


def _attend(directory: Path, given: dict[str, Any], told: list[int]) -> None:
    import logging

    from otelsync.shipping.messages import MessageFile

    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[MessageFile(directory)])
    logging.getLogger("otelsync.shipping.metrics.server").setLevel(logging.INFO)  # which port it has
    try:
        from otelsync.configuration.attending import Attending

        attending = Attending(directory, given["settings"], told)
        gc.enable()
        gc.freeze()
        attending.run()
    except Exception:
        logging.getLogger("otelsync.shipping").exception("the shipper ends after an unexpected error; the records stay")


def leave_word(error: BaseException) -> None:
    """Leave word why nothing could be loaded, as :mod:`otelsync.shipping.messages` does."""
    text = f"the shipper cannot begin: {type(error).__name__}: {error}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(os.path.join(sys.argv[1], "shipper.log"), flags, 0o600)  # noqa: PTH118  (pathlib may not be loaded)
    os.write(fd, (json.dumps([time.time(), 30, "otelsync.shipping", text]) + "\n").encode())


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        leave_word(error)
    finally:
        os._exit(0)  # there is nothing to tear down
