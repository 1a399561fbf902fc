"""The fate of a run's records, in one line."""

from __future__ import annotations

from collections.abc import Mapping

from otelsync.shipping.ledger import Account, Ledger
from otelsync.text.quantities import counted

_NAMES = {"span": "span", "log": "log record"}


def in_one_line(
    before: Ledger, after: Ledger, *, shipped_by: str = "the next `otelsync run` or `otelsync ship`"
) -> str:
    """Describe what was recorded between two looks at a journal, and its fate; empty where nothing was.

    Where records go to several sinks, the one that has taken least of them is the one that counts. `shipped_by` names
    who takes over what is pending.
    """
    recorded = {signal: max(0, count - before.recorded.get(signal, 0)) for signal, count in after.recorded.items()}
    worst = [_worst(after, signal) for signal in recorded]
    accounts = [account for account in worst if account is not None]
    pending = sum(account.pending for account in accounts)
    if not any(recorded.values()) and not pending:
        return ""
    said = " and ".join(counted(count, _NAMES[signal]) for signal, count in recorded.items()) + " recorded"
    dropped = _dropped(before, accounts)
    shipped, folded = _shipped_and_folded(before, accounts)
    fates = [f"{sum(dropped.values()):,} dropped ({', '.join(dropped)})"] if dropped else []
    if not accounts:
        fates.append("waiting for a shipper")
    elif pending:
        fates.append(f"{pending:,} pending, which {shipped_by} ships")
    if folded:
        fates.insert(0, f"{shipped:,} shipped, {folded:,} folded")
    elif accounts and not pending:
        fates.insert(0, "the rest shipped" if dropped else "all shipped")
    return f"{said}: {', '.join(fates)}"


def _worst(ledger: Ledger, signal: str) -> Account | None:
    accounts = [account for account in ledger.accounts if account.signal == signal]
    return max(accounts, key=_troubles, default=None)


def _troubles(account: Account) -> tuple[int, int, int]:
    return account.pending, sum(account.dropped.values()), account.folded


def _shipped_and_folded(before: Ledger, accounts: list[Account]) -> tuple[int, int]:
    """Numbers of records since the run began."""
    earlier = {(account.sink, account.signal): account for account in before.accounts}
    shipped = folded = 0
    for account in accounts:
        then = earlier.get((account.sink, account.signal))
        shipped += account.shipped - (then.shipped if then else 0)
        folded += account.folded - (then.folded if then else 0)
    return max(shipped, 0), max(folded, 0)


def _dropped(before: Ledger, accounts: list[Account]) -> dict[str, int]:
    """By reason, without what was dropped before the run."""
    earlier = {(account.sink, account.signal): account.dropped for account in before.accounts}
    dropped: dict[str, int] = {}
    for account in accounts:
        then: Mapping[str, int] = earlier.get((account.sink, account.signal), {})
        for reason, count in account.dropped.items():
            if count > then.get(reason, 0):
                dropped[reason] = dropped.get(reason, 0) + count - then.get(reason, 0)
    return dropped
