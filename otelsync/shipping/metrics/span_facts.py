"""Facts that metrics need of a span: a few of its attributes, each decoded once, as most of them repeat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from otelsync import vocabulary
from otelsync.otlp.decoding import value_of
from otelsync.text.limits import Limit, limits_of

COUNTED: Final = vocabulary.SYNC_COUNTED_
_WANTED: Final = frozenset(
    (
        vocabulary.SYNC_PIPELINE,
        vocabulary.SYNC_REPO,
        vocabulary.SYNC_OUTCOME,
        vocabulary.SYNC_ACTION,
        vocabulary.SYNC_ATTEMPT,
        vocabulary.SYNC_RECOVERED,
        vocabulary.SYNC_STAGE_KIND,
        vocabulary.SYNC_API_OPERATION,
        vocabulary.SYNC_API_ATTEMPTS,
        vocabulary.SYNC_RATE_LIMIT_LIMIT,
        vocabulary.SYNC_RATE_LIMIT_REMAINING,
        vocabulary.SYNC_RATE_LIMIT_RESET,
        vocabulary.SYNC_RATE_LIMIT_RESOURCE,
        vocabulary.SYNC_RATE_LIMIT_HOST,
        vocabulary.SYNC_RATE_LIMIT_TOKEN,
        vocabulary.SYNC_RATE_LIMIT_OTHERS,
        vocabulary.SYNC_RATE_LIMIT_KIND,
        vocabulary.SYNC_RETRY_REASON,
        vocabulary.SYNC_QUEUE_WAIT_SECONDS,
        vocabulary.SYNC_RUN_SECONDS,
        vocabulary.CELERY_TASK_NAME,
        vocabulary.HTTP_REQUEST_METHOD,
        vocabulary.HTTP_REQUEST_RESEND_COUNT,
        vocabulary.HTTP_RESPONSE_STATUS_CODE,
        "http.method",
        "http.status_code",
        vocabulary.ERROR_TYPE,
    )
)
_HEADS: Final = frozenset(bytes((0x0A, len(name))) + name.encode() for name in _WANTED)
_COUNTED_BEGINS: Final = COUNTED.encode()
_ALWAYS_ANEW: Final = frozenset(
    (
        *(b"\x0a\x0dvcs.chan", b"\x0a\x10vcs.chan", b"\x0a\x08url.full"),
        *(b"\x0a\x0csync.ite", b"\x0a\x0esync.ite", b"\x0a\x0fsync.ite", b"\x0a\x10sync.ite"),
        b"\x0a\x0dsync.par",
    )
)
"""Beginnings of attributes that are not wanted and differ in each span: not worth a place in the memory."""
_LONGEST: Final = 256
"""Bytes of an attribute that is worth remembering."""


class Facts:
    """The facts of one span. What a program puts into its spans is taken with care."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def text(self, *names: str) -> str:
        """The first of these that is a text or an integer, as text; empty if none is."""
        for name in names:
            value = self._values.get(name)
            if isinstance(value, str | int):
                return str(value)
        return ""

    def number(self, name: str) -> int | float | None:
        """A number that is neither negative nor absurd; None if there is none."""
        value = self._values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e15:
            return None
        return value

    def whole(self, name: str) -> int:
        """The same as an integer; 0 if there is none."""
        return int(self.number(name) or 0)

    def has(self, *names: str) -> bool:
        """Return whether one of these is there."""
        return not self._values.keys().isdisjoint(names)

    def counted(self) -> dict[str, int]:
        """Return what was counted by hand on this very stage, by fate, without ``fetched``, which is the sum."""
        counted = {name[len(COUNTED) :]: self.whole(name) for name in self._values if name.startswith(COUNTED)}
        return {action: count for action, count in counted.items() if count and action != "fetched"}

    def group(self) -> tuple[str, str]:
        """Return kind and name of the innermost group around; empty for none."""
        groups = vocabulary.groups_of(self._values)
        return groups[-1] if groups else ("", "")

    def limits(self) -> Iterator[Limit]:
        """Return the rate limits that it tells of."""
        return limits_of(self._values)

    def of_a_failure(self) -> Facts:
        """The same of an item that has failed, whatever its action was before, unless it says how it ended."""
        if self.text(vocabulary.SYNC_OUTCOME) not in ("", vocabulary.SUCCESS, vocabulary.PARTIAL):
            return self
        return Facts({**self._values, vocabulary.SYNC_ACTION: "failed", vocabulary.SYNC_OUTCOME: vocabulary.FAILURE})

    def retries(self) -> int:
        """Return of how many earlier attempts of the same part this one tells."""
        return 1 if self.whole(vocabulary.SYNC_ATTEMPT) > 1 else self.whole(vocabulary.SYNC_RECOVERED)


def read_facts(attributes: Iterable[bytes]) -> Facts:
    """The wanted ones among a span's attributes, each a KeyValue message."""
    values: dict[str, object] = {}
    for encoded in attributes:
        if encoded[:10] not in _ALWAYS_ANEW:
            fact = _known(encoded) if len(encoded) <= _LONGEST else _fact(encoded)
            if fact is not None:
                values[fact[0]] = fact[1]
    return Facts(values)


def _fact(encoded: bytes) -> tuple[str, object] | None:
    """The attribute's name and value, if it is wanted and can be read."""
    end = encoded[1] + 2 if len(encoded) > 1 else 0
    if encoded[:end] not in _HEADS and not encoded.startswith(_COUNTED_BEGINS, 2) and not _names_group(encoded[2:end]):
        return None
    try:
        pair = KeyValue.FromString(encoded)
    except DecodeError:
        return None
    return pair.key, value_of(pair.value)


def _names_group(key: bytes) -> bool:
    return key.startswith(b"sync.") and key.isascii() and bool(vocabulary.group_kind(key.decode()))


_known = lru_cache(4_096)(_fact)
