"""Ids of spans and traces, drawn from a source that no two processes share, however one was forked from the other."""

from __future__ import annotations

import random
from typing import Final

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from otelsync.journal import forks
from otelsync.journal.native import native

_chance: Final = random.Random()  # ids are no secrets; our own, so that a host's random.seed() repeats none
_drawn_by = forks.generation()
_source: random.Random | None = None


def _bits_in_python(count: int) -> int:
    global _drawn_by
    if forks.mark[0] != _drawn_by:
        number = forks.generation()
        _chance.seed()
        _drawn_by = number
    return _chance.getrandbits(count)


_at_random: Final = _bits_in_python if native is None else native.random_bits
bits = _at_random
"""Draw 64 bits; rebound by :func:`draw_ids_from`, so it is looked up at each use."""


def draw_ids_from(source: random.Random | None = None) -> random.Random | None:
    """Draw the bits of all ids from `source` from now on; by default (None) at random, as it is from the beginning.

    For tests. What a process forks draws at random in any case.

    Returns:
        What they were drawn from until now.
    """
    global _source, bits
    before, _source = _source, source
    bits = _at_random if source is None else source.getrandbits
    return before


forks.in_child(draw_ids_from)


class IdGenerator(RandomIdGenerator):
    """Draws ids from a source of our own: the host's ``random.seed()`` neither repeats them nor is disturbed."""

    def generate_span_id(self) -> int:
        """A random number of 64 bits, not 0."""
        return bits(64) or self.generate_span_id()

    def generate_trace_id(self) -> int:
        """A random number of 128 bits, not 0."""
        number = bits(64) << 64 | bits(64) if _source is None else _source.getrandbits(128)
        return number or self.generate_trace_id()
