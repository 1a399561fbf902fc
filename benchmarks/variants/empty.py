"""The floor: the workload's loop with context managers that do nothing, and with structlog but no span."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from benchmarks.variants import structlog_setups
from benchmarks.workload import PR_LOGGED, PullRequest, Setting


class _Nothing:
    def __enter__(self) -> _Nothing:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Empty:
    """What the loop itself costs."""

    def __init__(self, _setting: Setting) -> None:
        self._nothing = _Nothing()

    def repo(self, _name: str) -> AbstractContextManager[object]:
        """Open nothing."""
        return nullcontext()

    def pull_request(self, _pr: PullRequest) -> None:
        """Enter and leave a context manager that does nothing."""
        with self._nothing:
            pass

    def flush(self) -> None:
        """Nothing is pending."""

    def close(self) -> None:
        """Nothing is open."""


class LogOnly(Empty):
    """What the log record costs without any tracing."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._log = structlog_setups.fastest(setting.log_file, [])

    def pull_request(self, pr: PullRequest) -> None:
        """Log one record."""
        with self._nothing:
            self._log.info(
                PR_LOGGED, number=pr.number, state=pr.state, action=pr.action, files=pr.files, title=pr.title
            )
