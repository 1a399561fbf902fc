"""Ships a run's journal beside its program, and for as long as allowed after the program's end."""

from __future__ import annotations

import logging
import signal
import threading
import time
from typing import TYPE_CHECKING, Final

from otelsync.configuration import make_shipper
from otelsync.shipping.ledger import Ledger, read_ledger
from otelsync.shipping.ownership import owner
from otelsync.shipping.shipper_thread import ShipperThread
from otelsync.supervision.account import in_one_line

if TYPE_CHECKING:
    from otelsync.settings import Settings
    from otelsync.shipping.shipper import Shipper

_IMPATIENT: Final = frozenset((signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT))
_POLL: Final = 0.02

_log = logging.getLogger("otelsync")


class Attendance:
    """The shipper of one run. No method raises, and none takes longer than it may."""

    def __init__(self, settings: Settings) -> None:
        self._directory = settings.journal
        self._make = make_shipper(settings)
        self._before: Ledger | None = None
        self._said = ""
        self._thread = ShipperThread(settings.journal, self._begin, interval=settings.ship_interval)
        self._thread.start()

    def end(self, timeout: float) -> str:
        """Ship what is left, within `timeout` seconds; SIGINT, SIGTERM, SIGHUP or SIGQUIT cut that short.

        They are expected to be blocked.

        Returns:
            One line that says what became of the run's records; empty where nothing was recorded.
        """
        deadline = time.monotonic() + timeout
        self._said = f"not everything was shipped within {timeout:g} s; the rest stays in {self._directory}"
        closing = threading.Thread(target=self._close, args=(timeout,), name="otelsync-closing", daemon=True)
        closing.start()
        while closing.is_alive() and (left := deadline - time.monotonic()) > 0:
            if signal.sigtimedwait(_IMPATIENT, min(_POLL, left)) is not None:
                return f"not everything was shipped, as told; the rest stays in {self._directory}"
        return self._said

    def _begin(self) -> Shipper:
        if self._before is None:
            self._before = read_ledger(self._directory)
        return self._make()

    def _close(self, timeout: float) -> None:
        try:
            self._thread.stop(timeout * 0.95)
            ledger, other = read_ledger(self._directory), owner(self._directory)
            by = {} if other is None else {"shipped_by": f"process {other}" if other else "another container"}
            self._said = in_one_line(self._before or _NOTHING, ledger, **by)
        except Exception:
            _log.debug("the run could not be closed in order", exc_info=True)


_NOTHING: Final = Ledger(recorded={}, accounts=(), corrupted_bytes=0)
