"""Run a command to its end, and to that of all that it leaves behind, and print what each process took, as JSON.

It is run as a file, by ``python -I -S``, and small: the kernel counts the memory of who starts a process as that
process's own. A process that has become nobody's child, as a shipper beside a script does, is adopted, and waited for.
"""

import ctypes
import json
import os
import sys

_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Print wait status, milliseconds of CPU and greatest MB of each process, those of the command itself first."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    silence = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1)]
    command = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=silence)
    ended: list[tuple[int, float, float]] = []
    while True:
        try:
            pid, status, use = os.wait4(-1, 0)
        except ChildProcessError:
            break
        took = (status, (use.ru_utime + use.ru_stime) * 1e3, use.ru_maxrss / 1024)
        ended.insert(0 if pid == command else len(ended), took)
    print(json.dumps(ended))


if __name__ == "__main__":
    main()
