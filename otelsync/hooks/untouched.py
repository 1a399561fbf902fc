"""State of the whole process that other packages change when they are imported, and that is the program's alone."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def random_untouched() -> Iterator[None]:
    """Leave the sequence of :mod:`random` as it was: ``import rich`` draws from it, and structlog imports rich."""
    before = random.getstate()
    try:
        yield
    finally:
        if random.getstate() != before:
            random.setstate(before)


@contextmanager
def warning_filters_untouched() -> Iterator[None]:
    """Take out the filters that were added inside: the SDK adds one each time that a tracer is asked for."""
    before = list(warnings.filters)
    try:
        yield
    finally:
        for added in [each for each in warnings.filters if each not in before]:
            warnings.filters.remove(added)  # type: ignore[attr-defined]  # a list, whatever typeshed says
