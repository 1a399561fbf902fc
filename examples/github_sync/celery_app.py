"""The Celery application: its broker, its results and its timetable.

Without a server the queue is a directory and results are files. In earnest: ``CELERY_BROKER_URL=redis://...`` or
``amqp://...``.
"""

from __future__ import annotations

from typing import Final

from celery import Celery
from celery.schedules import crontab

from . import directories
from .settings import Settings

EXPIRES: Final = 4 * 3600
"""Seconds after which a daily sync that has not begun is dropped: the next one does its work."""

settings: Final = Settings.from_environment()
app: Final = Celery("github_sync", include=["examples.github_sync.tasks"])
app.conf.update(
    broker_url=settings.broker_url,
    result_backend=settings.result_backend,
    result_chord_retry_interval=0.5,
    broker_connection_retry_on_startup=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    timezone="UTC",
    beat_schedule_filename=str(settings.home / "beat"),
    beat_schedule={
        "incremental-sync": {
            "task": "github_sync.sync_all",
            "schedule": crontab(minute="0", hour="4"),
            "options": {"expires": EXPIRES},
        },
        "queued-batches": {"task": "github_sync.take_up_batches", "schedule": crontab(minute="*/15")},
    },
)
if settings.broker_url.startswith("filesystem"):
    directories.install()
    _folders = {
        "data_folder_in": "queue",
        "data_folder_out": "queue",
        "control_folder": "control",
        "processed_folder": "done",
    }
    app.conf.broker_transport_options = {name: str(settings.home / place) for name, place in _folders.items()}


def make_folders() -> None:
    """Make the directories that the default broker and results need."""
    for name in ("queue", "control", "done", "results"):
        (settings.home / name).mkdir(mode=0o700, parents=True, exist_ok=True)
