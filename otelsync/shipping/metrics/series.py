"""The series of all metrics: what was counted since the start, by labels, within bounds. Safe to use from threads."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from otelsync.shipping.metrics.catalogue import CATALOGUE, SERVICE, Metric
from otelsync.shipping.metrics.durations import Durations, Exemplar

MOST_VALUES: Final = 1_000
"""Values of one label that are told apart, by default."""
MOST_SERIES: Final = 10_000
"""Series of one metric. Labels multiply, so that bounds of theirs alone would not do."""

OTHER: Final = "other"
"""Stands for every value beyond the bound."""
LONGEST: Final = 128
"""Characters of a value; a longer one is cut."""

Labels = tuple[str, ...]
_Key = tuple[str, Labels]
_Value = TypeVar("_Value")
Number = int | float


class BoundedLabel:
    """A label whose values are told apart up to a bound: nothing that others name makes series without end.

    It takes values as they come. The first `most` stay what they are; later ones become `OTHER`.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: set[str] = set()

    def __call__(self, value: str) -> str:
        """The value to use in place of `value`."""
        if value in self._values or not value:
            return value
        value = value[:LONGEST]
        if value in self._values or value == OTHER:
            return value
        if len(self._values) >= self._most:
            return OTHER
        self._values.add(value)
        return value


@dataclass(slots=True)
class _Amount:
    """A counter's or gauge's value."""

    value: Number = 0
    at: int = 0
    """A gauge: Unix nanoseconds of what it was last set by."""


class Point(NamedTuple):
    """One series, as it stands."""

    service: str
    labels: Mapping[str, str]
    """By name; those without a value are left out."""
    value: Number | Durations


@dataclass(slots=True)
class Family:
    """One metric with all its series."""

    metric: Metric
    points: list[Point] = field(default_factory=list)


class MetricSeries:
    """Counters, gauges and histograms. Counters begin with 0 at `started`.

    At most so many values are told apart of each label, and series of each metric; the rest becomes ``other``.
    """

    def __init__(self, most_values: int = MOST_VALUES, most_series: int = MOST_SERIES) -> None:
        self.started = time.time_ns()
        self.lock = threading.RLock()
        """Held by whoever adds several things that belong together."""
        self.resources: dict[str, Mapping[str, object]] = {}
        """Attributes of each service beside its name."""
        self._most_values = most_values
        self._most_series = most_series
        self._bounds: defaultdict[str, BoundedLabel] = defaultdict(lambda: BoundedLabel(most_values))
        self._amounts: dict[str, dict[_Key, _Amount]] = {metric.name: {} for metric in CATALOGUE}
        self._durations: dict[str, dict[_Key, Durations]] = {metric.name: {} for metric in CATALOGUE}

    def add(self, metric: Metric, service: str, labels: Labels, amount: Number = 1) -> None:
        """Add to a counter."""
        with self.lock:
            self._one(metric, service, labels, self._amounts[metric.name], _Amount).value += amount

    def put(self, metric: Metric, service: str, labels: Labels, value: Number, at: int) -> None:
        """Set a gauge, unless it was set by something later than `at` (Unix nanoseconds)."""
        now = time.time_ns()
        at = min(at, now)  # a clock that is ahead must not have the last word for ever
        with self.lock:
            amount = self._one(metric, service, labels, self._amounts[metric.name], _Amount)
            if at >= amount.at or amount.at > now:  # the clock has been set back
                amount.value, amount.at = value, at

    def observe(
        self, metric: Metric, service: str, labels: Labels, durations: Sequence[int], slowest: Exemplar | None = None
    ) -> None:
        """Add durations, in nanoseconds, at least one, to a histogram."""
        with self.lock:
            histogram = self._one(metric, service, labels, self._durations[metric.name], Durations)
            histogram.add(durations)
            if slowest is not None:
                histogram.show(slowest)

    def describe(self, service: str, resource: Mapping[str, object]) -> None:
        """Note what is known of a service."""
        with self.lock:
            if service in self.resources or len(self.resources) < self._most_values:
                self.resources[service] = resource

    def families(self) -> list[Family]:
        """All metrics that have been counted, as they stand, in the order of the catalogue."""
        found = []
        with self.lock:
            for metric in CATALOGUE:
                amounts, histograms = self._amounts[metric.name], self._durations[metric.name]
                points = [_point(metric, key, amount.value) for key, amount in amounts.items()]
                points += [_point(metric, key, durations.copy()) for key, durations in histograms.items()]
                if points:
                    found.append(Family(metric, points))
        return found

    def _one(self, metric: Metric, service: str, labels: Labels, held: dict[_Key, _Value], new: type[_Value]) -> _Value:
        """The value of these labels, or of those that they become within the bounds."""
        found = held.get((service, labels))
        if found is None:
            key = (
                self._bounds[SERVICE](service),
                tuple(self._bounds[name](value) for name, value in zip(metric.labels, labels, strict=True)),
            )
            if key not in held and len(held) >= self._most_series:
                key = OTHER, tuple(OTHER if value else "" for value in labels)
            found = held.setdefault(key, new())
        return found


def _point(metric: Metric, key: _Key, value: Number | Durations) -> Point:
    service, labels = key
    return Point(service, {name: text for name, text in zip(metric.labels, labels, strict=True) if text}, value)
