"""A program as a child process: started, sent the signals that its parent gets, waited for, and ended like.

Signals are blocked and waited for, never handled: between two of them nothing runs. The child stays in the parent's
process group, so the terminal is its own and sends it what is typed there.
"""

from __future__ import annotations

import errno
import os
import signal
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, NoReturn

from otelsync.errors import OtelsyncError

SI_KERNEL: Final = 0x80
"""``si_code`` of a signal that the kernel sent, as it does for a terminal; sigaction(2)."""


def _signals(*names: str) -> frozenset[signal.Signals]:
    """Those of these signals that the system has."""
    return frozenset(getattr(signal, name) for name in names if hasattr(signal, name))


_OF_ERRORS: Final = ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP", "SIGXCPU", "SIGXFSZ")
"""Names of signals about errors of the process that gets them."""
FORWARDED: Final = signal.valid_signals() - _signals("SIGCHLD", "SIGKILL", "SIGSTOP", "SIGPIPE", *_OF_ERRORS)
_JOB_CONTROL: Final = _signals("SIGTSTP", "SIGTTIN", "SIGTTOU")
_CHANGED_BY_PYTHON: Final = _signals("SIGPIPE", "SIGXFSZ")
_ERRNO: Final = struct.Struct("i")


class CannotStartError(OtelsyncError):
    """The command cannot be run. `exit_code` is what a shell ends with: 127 not found, 126 not executable."""

    def __init__(self, command: str, number: int) -> None:
        super().__init__(f"cannot run {command}: {os.strerror(number)}")
        self.command = command
        self.number = number
        self.exit_code = 127 if number in (errno.ENOENT, errno.ENOTDIR) else 126

    def __reduce__(self) -> tuple[type[CannotStartError], tuple[str, int]]:
        return type(self), (self.command, self.number)


class Child:
    """A running program.

    Args:
        command: The program, searched for in ``PATH``, and its arguments.
        environment: All of its environment.

    Raises:
        CannotStartError: There is no such program, or it cannot be executed.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        # What comes from now on waits, and the threads that are started later leave it to us.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED | {signal.SIGCHLD})
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would let children vanish unseen
        self._stopping = False
        try:
            self.pid = _start(command, environment, mask)
        except CannotStartError:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            raise

    def wait(self) -> int:
        """Hand on signals until the program ends, and reap every child that is ours meanwhile.

        Returns:
            Its wait status.
        """
        while True:
            info = signal.sigwaitinfo(FORWARDED | {signal.SIGCHLD})
            number = info.si_signo
            if number == signal.SIGCHLD:
                status = self._reap()
                if status is not None:
                    return status
                continue
            self._stopping = number in _JOB_CONTROL or (self._stopping and number != signal.SIGCONT)
            if info.si_code != SI_KERNEL:  # what the terminal sends, the child has got itself
                with suppress(ProcessLookupError):
                    os.kill(self.pid, number)

    def _reap(self) -> int | None:
        """The program's wait status, if it has ended."""
        ended = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return ended
            if pid == 0:
                return ended
            if pid == self.pid and os.WIFSTOPPED(status):
                self._stop_too(os.WSTOPSIG(status))
            elif pid == self.pid:
                ended = status

    def _stop_too(self, number: int) -> None:
        """The shell sees our state, not the program's. What a debugger has stopped is no matter of a shell."""
        if number in _JOB_CONTROL or self._stopping:
            self._stopping = False
            os.kill(os.getpid(), signal.SIGSTOP)


def run_instead(command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Become the program.

    Raises:
        CannotStartError: There is no such program, or it cannot be executed.
    """
    for number in _CHANGED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], [*command], environment)
    except OSError as error:
        raise CannotStartError(command[0], error.errno or errno.ENOENT) from None


def end_like(status: int) -> NoReturn:
    """End as the program did, and at once. As PID 1, which no signal of its own can end: with 128 + its number."""
    if os.WIFEXITED(status):
        os._exit(os.WEXITSTATUS(status))
    number = os.WTERMSIG(status)
    with suppress(OSError, ValueError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, most))  # the core that matters is the program's
    with suppress(OSError, ValueError):  # SIGKILL
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def _start(command: Sequence[str], environment: Mapping[str, str], mask: set[int | signal.Signals]) -> int:
    reads, writes = os.pipe()  # closed by a successful exec
    pid = os.fork()
    if pid == 0:
        _become(command, environment, mask, writes)
    os.close(writes)
    said = os.read(reads, _ERRNO.size)
    os.close(reads)
    if not said:
        return pid
    os.waitpid(pid, 0)
    raise CannotStartError(command[0], _ERRNO.unpack(said)[0])


def _become(
    command: Sequence[str], environment: Mapping[str, str], mask: set[int | signal.Signals], writes: int
) -> NoReturn:
    """In the forked child: the program, or the reason why not."""
    number = errno.ENOEXEC
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        run_instead(command, {**environment, **_addressed_to_us(environment)})
    except CannotStartError as error:
        number = error.number
    finally:
        os.write(writes, _ERRNO.pack(number))
        os._exit(127)


def _addressed_to_us(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave to the program what systemd says to one process alone: sd_listen_fds(3), sd_watchdog_enabled(3)."""
    ours = str(os.getppid())
    return {name: str(os.getpid()) for name in ("LISTEN_PID", "WATCHDOG_PID") if environment.get(name) == ours}
