"""Requests that were sent again: the number of physical sends beyond the first, however their spans tell of them."""

from __future__ import annotations

from otelsync.reports.sweep import CLIENT, Step
from otelsync.reports.values import whole
from otelsync.vocabulary import API, HTTP_REQUEST_RESEND_COUNT, SYNC_API_ATTEMPTS


def sent_again(step: Step) -> int:
    """Return how many sends beyond the first a span adds to those that have ended before it.

    A client span with the sends below it adds nothing to them. One without them holds the ordinal of its last send
    (`http.request.resend_count`), which the one before it may have had a part of, as where redirects are followed. An
    API call may say itself how often it was sent.
    """
    if step.sort == API:
        said = whole(step.attributes.get(SYNC_API_ATTEMPTS)) - 1
        return max(said - step.resent, 0)
    if step.kind != CLIENT:
        return 0
    again = _of_request(step)
    outer = step.parent
    while again and outer is not None and outer.sort != API:
        outer = outer.parent
    if again and outer is not None:
        outer.resent += again
    return again


def _of_request(step: Step) -> int:
    ordinal, outer = max(whole(step.attributes.get(HTTP_REQUEST_RESEND_COUNT)), 0), step.parent
    if outer is None:
        return min(ordinal, 1)
    if outer.kind == CLIENT:
        outer.has_sends = True
        return min(ordinal, 1)
    before, outer.last_send = outer.last_send, ordinal
    if step.has_sends:
        return 0
    return ordinal - before if ordinal > before else ordinal
