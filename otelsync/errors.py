"""The exceptions that otelsync raises: from setting up, dispatching or the command line, never while recording.

OtelsyncError
├── ConfigurationError      an option has a value that cannot work (also a ValueError)
├── CatalogueError          an event cannot be declared so (also a ValueError)
├── DispatchError           a pipeline cannot be dispatched
├── StoreError              the local store cannot be read or written
└── RunNotFoundError        no run, or more than one, answers to what was asked for (also a LookupError)
"""

from __future__ import annotations


class OtelsyncError(Exception):
    """The root of every exception that otelsync raises on purpose."""


class ConfigurationError(OtelsyncError, ValueError):
    """An option has a value that cannot work.

    Args:
        option: The option as the user wrote it: an environment variable or an argument of ``configure()``.
        value: What it was set to.
        fix: What to set it to instead.
    """

    def __init__(self, option: str, value: object, fix: str) -> None:
        super().__init__(f"{option}={value!r} cannot work: {fix}")
        self.option = option
        self.value = value
        self.fix = fix

    def __reduce__(self) -> tuple[type[ConfigurationError], tuple[str, object, str]]:
        return type(self), (self.option, self.value, self.fix)


class CatalogueError(OtelsyncError, ValueError):
    """An event cannot be declared so, or the catalogue of a module cannot be loaded; the message says why."""


class DispatchError(OtelsyncError):
    """A pipeline cannot be dispatched; the message says why, and what to do about it. Nothing was published."""


class StoreError(OtelsyncError):
    """The local store cannot be read or written; the message names the file, the cause and the fix."""


class RunNotFoundError(OtelsyncError, LookupError):
    """No run, or more than one, answers to what was asked for; the message lists the candidates."""
