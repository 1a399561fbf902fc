"""Other systems, simulated: what a program runs first, so that otelsync finds what it would find there.

Libraries that load parts for such a system, which are not here, are loaded before.
"""

from __future__ import annotations

from typing import Final

_LOADED: Final = (
    *(
        "asyncio",
        "celery.app.trace",
        "celery.bin.celery",
        "click",
        "httpx",
        "concurrent.futures.thread",
        "mmap",
        "multiprocessing",
        "os",
        "platform",
        "requests",
        "rich.console",
    ),
    *("rich.table", "shutil", "signal", "sqlite3", "structlog", "subprocess", "sys", "sysconfig", "tempfile"),
    *("urllib.request", "uuid"),
)
_FIRST: Final = f"import {', '.join(_LOADED)}\nsysconfig.get_config_vars()\n"

WINDOWS: Final = f"""{_FIRST}
for name in ("fcntl", "grp", "pwd", "resource", "termios", "otelsync.journal._native"):
    sys.modules[name] = None
for name in [name for name in vars(mmap) if name.startswith(("MAP_", "PROT_", "MADV_"))]:
    vars(mmap).pop(name)
for name in ("O_NOFOLLOW", "fchmod", "fork", "geteuid", "getuid", "posix_fallocate", "pwrite", "register_at_fork"):
    vars(os).pop(name, None)
for name in ("SIGCHLD", "SIGHUP", "SIGQUIT", "SIGTSTP", "pthread_sigmask", "sigtimedwait", "sigwaitinfo"):
    vars(signal).pop(name, None)
sys.platform = "win32"
"""

MACOS: Final = f"""{_FIRST}
vars(os).pop("posix_fallocate", None)
for name in ("sigtimedwait", "sigwaitinfo"):
    vars(signal).pop(name, None)
sys.platform = "darwin"
"""

SYSTEMS: Final = {"windows": WINDOWS, "macos": MACOS}


def command(arguments: list[str]) -> str:
    """A program that is `otelsync` with these arguments."""
    return f"import sys\nsys.argv = {['otelsync', *arguments]!r}\nfrom otelsync.cli import main\nmain()\n"
