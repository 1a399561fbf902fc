"""The application's default queue, a directory: a message is there as a whole, or not at all."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, transport
from kombu.transport.virtual import Empty

from examples.github_sync import directories


def test_a_message_is_never_seen_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread publishes, another takes all it sees at once: each comes once, and none is empty."""
    monkeypatch.setitem(transport.TRANSPORT_ALIASES, "filesystem", "")
    directories.install()
    names = ("data_folder_in", "data_folder_out", "processed_folder", "control_folder")
    folders = {name: str(tmp_path / ("queue" if name.startswith("data") else name)) for name in names}
    for folder in folders.values():
        Path(folder).mkdir(exist_ok=True)
    taken: list[int] = []
    with (
        Connection("filesystem://", transport_options=folders) as out,
        Connection("filesystem://", transport_options=folders) as into,
    ):
        sender: Any = out.default_channel
        receiver: Any = into.default_channel
        assert type(sender) is type(receiver) is directories.Channel

        def publish() -> None:
            for number in range(2_000):
                sender._put("celery", {"n": number})

        publishing = threading.Thread(target=publish)
        publishing.start()
        while publishing.is_alive() or any((tmp_path / "queue").iterdir()):
            try:
                taken.append(receiver._get("celery")["n"])
            except Empty:
                continue
        publishing.join()
    assert sorted(taken) == list(range(2_000))
