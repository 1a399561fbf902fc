"""Records as they were recorded: what takes the place of shaping where nothing goes to an OTLP endpoint."""

from __future__ import annotations

from collections.abc import Sequence

from otelsync.journal.batch import Batch
from otelsync.otlp.outcome import Outcome
from otelsync.shipping.outlet import Parcel


class AsRecorded:
    """Changes nothing. What an earlier shipper has kept back for an endpoint stays in the checkpoint."""

    def resume(self) -> None:
        """Go on from the checkpoint."""

    def note(self, batches: Sequence[Batch], traces: Parcel | None) -> None:
        """Take note of what the shipper itself has read."""

    def shape(self, sink: str, parcel: Parcel) -> None:
        """Leave a parcel as it is."""

    def is_behind(self) -> bool:
        """Nothing is kept back."""
        return False

    def settle(self, sink: str, outcome: Outcome) -> Outcome:
        """Return the outcome as it is."""
        del sink
        return outcome
