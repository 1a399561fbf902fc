"""The ledger as metrics: what has been added to its sums since they were last looked at, also while nobody did."""

from __future__ import annotations

import time

from otelsync.journal.format import DROP_REASONS
from otelsync.shipping.checkpoint import MetricMemory
from otelsync.shipping.ledger import Account, Ledger
from otelsync.shipping.metrics import catalogue
from otelsync.shipping.metrics.catalogue import Metric
from otelsync.shipping.metrics.series import Labels, MetricSeries


def count_ledger(ledger: Ledger, series: MetricSeries, memory: MetricMemory) -> bool:
    """Bring the counters up to date with a ledger; True if `memory`, which knows what they were told, has changed."""
    told = dict(memory.ledger)
    for signal, count in ledger.recorded.items():
        _count(catalogue.RECORDED, (signal,), count, series, memory)
    for account in ledger.accounts:
        labels = (account.signal, account.sink)
        _count(catalogue.SHIPPED, labels, account.shipped, series, memory)
        _count(catalogue.FOLDED, labels, account.folded, series, memory)
        for reason, count in account.dropped.items():
            _count(catalogue.DROPPED, (account.signal, _whose(account, reason), reason), count, series, memory)
        series.put(catalogue.PENDING, memory.service, labels, account.pending, time.time_ns())
    return memory.ledger != told


def _whose(account: Account, reason: str) -> str:
    """The sink that dropped a record; empty if its writer did, so that this counts once for all sinks."""
    return "" if reason in DROP_REASONS else account.sink


def _count(metric: Metric, labels: Labels, count: int, series: MetricSeries, memory: MetricMemory) -> None:
    key = " ".join((metric.name, *labels))
    told = memory.ledger.get(key, 0)
    if count != told or key not in memory.ledger:
        memory.ledger[key] = count
        series.add(metric, memory.service, labels, max(count - told, 0))  # less than told: it has begun anew
