"""Celery: every publish and every run of a task is a span, and those of one canvas are one trace."""

from otelsync.integrations.celery.instrumentor import Instrumentor

__all__ = ["Instrumentor"]
