"""Ships a run's journal beside its program, and for as long as allowed after its end; then come the reports."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING, Final

from otelsync.configuration.destinations import make_reports, make_shipper
from otelsync.hooks.own_messages import own_logger
from otelsync.run.account import in_one_line
from otelsync.shipping.ledger import Ledger, read_ledger
from otelsync.shipping.ownership import owner
from otelsync.shipping.shipper_thread import ShipperThread

if TYPE_CHECKING:
    from otelsync.settings import Settings
    from otelsync.shipping.shipper import Shipper

_IMPATIENT: Final = {number for number in signal.Signals if number.name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")}
_POLL: Final = 0.02

_log = own_logger("otelsync")


class Attendance:
    """The shipper of one run. No method raises, and none takes longer than it may."""

    def __init__(self, settings: Settings) -> None:
        self._directory = settings.journal
        self._reports = make_reports(settings)
        self._make = make_shipper(settings, reports=self._reports)
        self._before: Ledger | None = None
        self._account: str | None = None
        self._thread = ShipperThread(settings.journal, self._begin)
        self._thread.start()

    @property
    def reporting(self) -> list[int]:
        """The processes that make reports, and may outlive us."""
        return [] if self._reports is None else self._reports.pids

    def end(self, timeout: float) -> str:
        """Ship what is left, and have the reports made, within `timeout` seconds.

        SIGINT, SIGTERM, SIGHUP and SIGQUIT cut that short; they are expected to be blocked.

        Returns:
            One line that says what became of the run's records; empty where nothing was recorded.
        """
        deadline = time.monotonic() + timeout
        closing = threading.Thread(target=self._close, args=(timeout,), name="otelsync-closing", daemon=True)
        closing.start()
        while closing.is_alive() and (left := deadline - time.monotonic()) > 0:
            if signal.sigtimedwait(_IMPATIENT, min(_POLL, left)) is not None:
                return self._said(", as told")
        return self._said(f" within {timeout:g} s")

    def _said(self, how: str) -> str:
        """The account, or that there is none yet."""
        account = self._account
        if account is None:
            return f"not everything was shipped{how}; the rest stays in {self._directory}"
        return account

    def _begin(self) -> Shipper:
        if self._before is None:
            self._before = read_ledger(self._directory)
        return self._make()

    def _close(self, timeout: float) -> None:
        begun = time.monotonic()
        try:
            self._thread.stop(timeout * 0.95)
            ledger, other = read_ledger(self._directory), owner(self._directory)
            by = {} if other is None else {"shipped_by": f"process {other}" if other else "another container"}
            self._account = in_one_line(self._before or _NOTHING, ledger, **by)
        except Exception:
            _log.debug("the run could not be closed in order", exc_info=True)
        if self._reports is not None:
            self._reports.close(begun + timeout * 0.98)


_NOTHING: Final = Ledger(recorded={}, accounts=(), corrupted_bytes=0)
