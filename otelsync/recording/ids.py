"""Ids of spans and traces, drawn from a generator that no two processes share."""

from __future__ import annotations

import random
from typing import Final

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from otelsync.hooks.forking import when_forked

_chance: Final = random.Random()  # ids are no secrets; our own, so that a host's random.seed() repeats none
_random: random.Random = _chance
bits = _random.getrandbits
"""Draw so many random bits; rebound by :func:`draw_ids_from`, so it is looked up at each use."""


def draw_ids_from(source: random.Random | None = None) -> random.Random:
    """Draw the bits of all ids from `source` from now on; by default at random, as it is from the beginning.

    For tests. What a process forks draws at random in any case.

    Returns:
        What they were drawn from until now.
    """
    global _random, bits
    before, _random = _random, source or _chance
    bits = _random.getrandbits
    return before


def _draw_anew() -> None:
    """After a fork: two children must not draw the same ids."""
    _chance.seed()
    draw_ids_from()


when_forked(after_in_child=_draw_anew)


class IdGenerator(RandomIdGenerator):
    """Draws ids from a generator of our own: the host's ``random.seed()`` neither repeats them nor is disturbed."""

    def generate_span_id(self) -> int:
        """A random number of 64 bits, not 0."""
        return _random.getrandbits(64) or self.generate_span_id()

    def generate_trace_id(self) -> int:
        """A random number of 128 bits, not 0."""
        return _random.getrandbits(128) or self.generate_trace_id()
