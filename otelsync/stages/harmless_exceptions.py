"""Exceptions that leave a stage and are no failure, such as Celery's ``Retry``."""

from __future__ import annotations

_harmless: dict[type[BaseException], str] = {}


def no_failure(exception_type: type[BaseException], outcome: str | None) -> None:
    """Define what an exception means that leaves a stage and is no failure, such as Celery's ``Retry``.

    Args:
        exception_type: It and its subclasses.
        outcome: Of the stages that it leaves, such as ``retry`` or ``cancelled``. None: it is a failure again.
    """
    if outcome is None:
        _harmless.pop(exception_type, None)
    else:
        _harmless[exception_type] = outcome


def outcome_without_failure(error: BaseException) -> str | None:
    """Return the outcome that an exception stands for; None if it is a failure."""
    if not _harmless:
        return None
    return next((_harmless[kind] for kind in type(error).__mro__ if kind in _harmless), None)
