"""The bound that OpenTelemetry's variables put on the values of log records, where there is one.

Those of spans are the SDK's own. Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from otelsync.bounds import LONGEST_TEXT, Allowance
from otelsync.otlp.encoding import AttributeEncoder, is_little
from otelsync.redaction import Redactor

_VARIABLES: Final = ("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT")
_NOTE: Final = 48
"""Characters for the note that something was cut, where the limit has room for it."""


class LimitedEncoder(AttributeEncoder):
    """Encodes attributes whose values have at most `longest` characters each."""

    __slots__ = ("_longest",)

    def __init__(
        self, tag: int, redactor: Redactor, otherwise: Callable[[object], object] | None, *, longest: int
    ) -> None:
        super().__init__(tag, redactor, otherwise)
        self._longest = longest

    def extend(self, parts: list[bytes], attributes: Mapping[str, Any]) -> None:
        """Append all attributes to `parts`, free of secrets and within the bounds of a record."""
        self.extend_with_clean(parts, self.clean(attributes))

    def clean(self, attributes: Mapping[Any, object]) -> Mapping[str, object]:
        """The attributes without secrets, within the bounds of a record and the limit."""
        clean = super().clean(attributes)
        longest = self._longest
        if any(isinstance(value, str) and len(value) > longest for value in clean.values()):
            return {key: value[:longest] if isinstance(value, str) else value for key, value in clean.items()}
        return clean

    def allowance(self) -> Allowance:
        """Return what one record can hold."""
        return Allowance(self._longest - _NOTE if self._longest >= 2 * _NOTE else self._longest)


def encoder_of_logs(
    tag: int, redactor: Redactor, otherwise: Callable[[object], object] | None
) -> tuple[AttributeEncoder, Callable[[object], bool]]:
    """Return what encodes the fields of log records, and what tells that they need no care."""
    longest = _longest()
    if longest is None:
        return AttributeEncoder(tag, redactor, otherwise), is_little
    return LimitedEncoder(tag, redactor, otherwise, longest=longest), lambda _: False


def _longest() -> int | None:
    """The limit, if it is lower than ours. One that is no number is none, as the SDK has complained of it."""
    given = next((value for name in _VARIABLES if (value := os.environ.get(name, "").strip())), "")
    return int(given) if given.isdecimal() and int(given[:9]) < LONGEST_TEXT else None
