"""The series of all metrics: what was counted since the start, by labels, within bounds. Safe to use from threads."""

from __future__ import annotations

import socket
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from otelsync.journal.instance import instance_id
from otelsync.recording.resource import resource_of
from otelsync.shipping.metrics.catalogue import CATALOGUE, SERVICE, Metric
from otelsync.shipping.metrics.durations import Durations, Exemplar, a_moment_ago
from otelsync.vocabulary import HOST_NAME, SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_NAMESPACE

MOST_VALUES: Final = 1_000
"""Values of one label that are told apart, by default."""
MOST_SERIES: Final = 10_000
"""Series of one metric. Labels multiply, so that bounds of theirs alone would not do."""

OTHER: Final = "other"
"""Stands for every value beyond the bound."""
LONGEST: Final = 128
"""Characters of a value; a longer one is cut."""

_WHICH: Final = frozenset((HOST_NAME, SERVICE_INSTANCE_ID))
IDENTITY: Final = frozenset(
    (
        *_WHICH,
        SERVICE_NAME,
        SERVICE_NAMESPACE,
        "service.version",
        "deployment.environment",
        "deployment.environment.name",
    )
)
"""Attributes of a resource that metrics of all processes of a service have."""

Labels = tuple[str, ...]
_Key = tuple[str, Labels]
_Value = TypeVar("_Value", "_Amount", Durations)
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
    since: int = field(default_factory=a_moment_ago)
    """Unix nanoseconds: when it was 0."""
    number: int = 0
    """Its place in the order in which series began."""


class Point(NamedTuple):
    """One series, as it stands."""

    service: str
    labels: Mapping[str, str]
    """By name; those without a value are left out."""
    value: Number | Durations
    since: int = 0
    """Unix nanoseconds: when a counter or histogram was 0."""
    number: int = 0
    """Its place in the order in which series began, from 1."""
    at: int = 0
    """Unix nanoseconds: when it stood so; 0: now."""


@dataclass(slots=True)
class Family:
    """One metric with all its series."""

    metric: Metric
    points: list[Point] = field(default_factory=list)


class MetricSeries:
    """Counters, gauges and histograms. Counters begin with 0.

    At most so many values are told apart of each label, and series of each metric; the rest becomes ``other``.
    `place`: what tells this source of a service's metrics from others on the host.
    """

    def __init__(self, most_values: int = MOST_VALUES, most_series: int = MOST_SERIES, *, place: str = "") -> None:
        self.lock = threading.RLock()
        """Held by whoever adds several things that belong together."""
        self._place = place
        self._begun = 0
        self._resources: dict[str, Mapping[str, str]] = {}
        self._expected: dict[str, Mapping[str, str]] = {}
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

    def describe(self, service: str, resource: Mapping[str, str]) -> None:
        """Note what is known of a service. Its host and id stay what they were first: its counters go on."""
        with self.lock:
            known = self._resources.get(service)
            if known is not None:
                self._resources[service] = {**resource, **{key: known[key] for key in _WHICH & known.keys()}}
            elif len(self._resources) < self._most_values:
                self._resources[service] = resource

    def resource(self, service: str) -> dict[str, str]:
        """Return the attributes of what a service's metrics are of: the same id as in its spans and log records."""
        with self.lock:
            known = self._resources.get(service) or self._expect(service)
        host = known.get(HOST_NAME) or socket.gethostname()
        instance = known.get(SERVICE_INSTANCE_ID) or instance_id(host, self._place, service)
        return {**known, SERVICE_NAME: service, SERVICE_INSTANCE_ID: instance, HOST_NAME: host}

    def _expect(self, service: str) -> Mapping[str, str]:
        """Return what records of a service would say that were made in this process: none has been seen."""
        if service not in self._expected:
            self._expected[service] = {}
            try:
                found = resource_of(self._place, service).attributes
                self._expected[service] = {key: str(found[key]) for key in IDENTITY & found.keys()}
            except ValueError:  # a variable of the SDK has a value that it refuses
                pass
        return self._expected[service]

    def families(self) -> list[Family]:
        """All metrics that have been counted, as they stand, in the order of the catalogue."""
        found = []
        with self.lock:
            for metric in CATALOGUE:
                amounts, histograms = self._amounts[metric.name], self._durations[metric.name]
                points = [_point(metric, key, each.value, each) for key, each in amounts.items()]
                points += [_point(metric, key, each.copy(), each) for key, each in histograms.items()]
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
            if key not in held:
                held[key] = new()
                self._begun = held[key].number = self._begun + 1
            found = held[key]
        return found


def _point(metric: Metric, key: _Key, value: Number | Durations, held: _Amount | Durations) -> Point:
    service, labels = key
    told = {name: text for name, text in zip(metric.labels, labels, strict=True) if text}
    return Point(service, told, value, held.since, held.number)
