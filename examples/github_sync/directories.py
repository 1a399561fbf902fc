"""A directory as the queue: kombu's transport, with messages that appear whole.

kombu makes a message's file first and fills it then. A worker that takes it in between reads nothing, and ends by the
error that this is. Here a file gets its name when all is in it.
"""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

from kombu.exceptions import ChannelError
from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):  # type: ignore[misc, unused-ignore]  # kombu has no types
    """A connection to the directory."""

    def _put(self, queue: str, payload: Any, **_: Any) -> None:  # type: ignore[override, unused-ignore]
        name = f"{round(monotonic() * 1000)}_{uuid4()}.{queue}.msg"
        draft = Path(self.data_folder_out, f".{name}")
        try:
            draft.write_text(dumps(payload), encoding="utf-8")
            draft.replace(draft.with_name(name))
        except OSError as error:
            raise ChannelError(f"a message cannot be written to {draft.parent}: {error}") from error


class Transport(filesystem.Transport):  # type: ignore[misc, unused-ignore]
    """kombu's transport of that name, with channels of ours."""

    Channel = Channel


def install() -> None:
    """Let URLs that begin with ``filesystem:`` mean this transport."""
    TRANSPORT_ALIASES["filesystem"] = f"{__name__}:Transport"
