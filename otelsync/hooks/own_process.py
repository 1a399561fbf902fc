"""A process that is otelsync's own: what the environment says to the program's Pythons is not meant for it."""

from __future__ import annotations

import warnings


def ignore_warnings_of_the_program() -> None:
    """Let no warning be an error, or be shown: ``PYTHONWARNINGS`` is there for the program that is being developed."""
    warnings.resetwarnings()
    warnings.simplefilter("ignore")
