"""A shipper in a thread of the program, with the reports of its runs: where there can be no process beside it."""

from __future__ import annotations

import time

from otelsync.configuration.destinations import make_reports, make_shipper
from otelsync.settings import Settings
from otelsync.shipping.shipper_thread import ShipperThread


class ShipperInProgram:
    """Ships the journal of a program from within. No method raises, and none waits longer than its timeout."""

    def __init__(self, settings: Settings) -> None:
        self._reports = make_reports(settings)
        make = make_shipper(settings, reports=self._reports, within_program=True)
        self._thread = ShipperThread(settings.journal, make)

    def start(self) -> None:
        """Start shipping."""
        self._thread.start()

    def flush(self, timeout: float) -> bool:
        """Wait until every sink has taken what was recorded here so far; False: not within `timeout` seconds."""
        return self._thread.flush(timeout)

    def stop(self, timeout: float) -> bool:
        """Ship what is left, and have reports made, within `timeout` seconds; False: not everything was shipped."""
        deadline = time.monotonic() + timeout
        shipped = self._thread.stop(timeout)
        if self._reports is not None:
            self._reports.close(deadline)
        return shipped
