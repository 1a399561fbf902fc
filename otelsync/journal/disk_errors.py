"""Errors of the disk, told from exceptions that a signal handler raises, which may be an OSError as well."""

from __future__ import annotations

from otelsync.hooks.host_errors import hand_back


def expect(error: OSError) -> None:
    """Raise what is no error of a system call of ours, as it belongs to the host: it has no number, or another origin.

    A TimeoutError that a signal handler raises is an OSError.
    """
    if error.errno is None:
        raise error
    hand_back(error)
