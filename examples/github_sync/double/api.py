"""GitHub's APIs without the wire: a request in, an answer out, within limits and as far as the fault plan lets it.

Limits are GitHub's: a 304 and ``/rate_limit`` cost nothing, a GraphQL query costs its points, and each kind of resource
has its own quota.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

from . import app_tokens, control, graphql_endpoint, planned, published, rest
from .catalogue import Catalogue
from .editing import drift
from .faults import Fault, FaultPlan
from .graphql_endpoint import Query
from .groq import GroqBatches
from .messages import Answer as Answer
from .messages import Request as Request
from .messages import error, ok
from .rate_limit import ANONYMOUS, RESOURCES, Quota, RateLimits, Resource
from .shapes import JsonObject
from .witness import Witness

_REPOSITORY = re.compile(r"/repos/([^/]+/[^/]+)|/repositories/(\d{1,18})")


class Api:
    """Answers requests from a catalogue, within rate limits, as far as the fault plan lets it."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        limits: RateLimits | None = None,
        faults: FaultPlan | None = None,
        witness: Witness | None = None,
        apps: app_tokens.AppTokens | None = None,
        groq: GroqBatches | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.limits = limits or RateLimits()
        self.faults = faults or FaultPlan()
        self.witness = witness or Witness(clock=self.limits.clock)
        self.counts: Counter[str] = Counter()
        self._apps = apps or app_tokens.AppTokens(clock=self.limits.clock)
        self._groq = groq or GroqBatches()
        self._shapes: dict[tuple[str, Resource], str] = {}

    def account(self, request: Request) -> str:
        """Whose limits the request draws from: a token's, or those of the installation that the token is for."""
        return self._apps.account(request.token) or request.token

    def answer(self, request: Request) -> Answer:
        """The answer to one request, with addresses of api.github.com still in it."""
        if request.path.startswith(control.PREFIX):
            return control.answer(request, self.catalogue, self.faults, self.witness, self.counts)
        if not request.headers.get("user-agent"):
            return error(403, "Request forbidden by administrative rules: it has no User-Agent header.")
        if request.path.startswith("/openai/"):
            return self._groq.answer(request, self.faults.next(request.path))
        self.counts[request.resource] += 1
        account = self.account(request)
        answer = self._github(request, account)
        self.counts["304"] += answer.status == 304
        self.witness.observe(account, request, answer)
        return answer

    def _github(self, request: Request, account: str) -> Answer:
        query, size = Query(), 0
        if request.resource == "graphql":
            try:
                query = graphql_endpoint.read(request)
            except published.NotAvailableError as missing:
                return error(501, str(missing))
            size = query.cost.page_size if query.cost else 0
        elif request.asked("per_page").isdigit():
            size = int(request.asked("per_page"))
        fault = self.faults.next(*(query.paths if query.cost else [request.path]), size=size)
        facts: dict[str, object] = {"resource": request.resource, "page_size": size or None}
        if query.cost:
            facts["cost"] = query.cost.points
        if fault is None:
            return replace(self._limited(request, account, query, None), facts=facts)
        answer = self._faulty(fault, request, account, query)
        return replace(answer, facts={**facts, "fault": fault.kind})

    def _faulty(self, fault: Fault, request: Request, account: str, query: Query) -> Answer:
        quota = self.limits.look(account, request.resource)
        answer = planned.instead(fault, request, account, quota)
        if answer is not None:
            return answer
        if fault.kind in ("primary", "primary-429", "primary-code"):
            self.limits.exhaust(account, fault.amount or 1.0, request.resource)
            self._shapes[account, request.resource] = fault.kind
        return planned.afterwards(fault, self._limited(request, account, query, fault))

    def _limited(self, request: Request, account: str, query: Query, fault: Fault | None) -> Answer:
        """Answer within the token's limit; a 304 and ``/rate_limit`` cost nothing."""
        resource = request.resource
        quota = self.limits.look(account, resource)
        if self._apps.account(request.token) is None:
            return error(401, "Bad credentials", *self.limits.look(ANONYMOUS).headers())
        given = self._apps.give(request, quota)
        if given is not None:
            return given
        if request.path == "/rate_limit":
            return ok(_rate_limit({name: self.limits.look(account, name) for name in RESOURCES}), request, quota)
        if quota.remaining == 0:
            return self._exhausted(request, account, quota)
        if resource == "graphql":
            return self._graphql(request, account, query, fault)
        answer = rest.found(self.catalogue, request)
        if _unchanged(request, answer):
            kept = [(name, value) for name, value in answer.headers if name.lower() != "content-type"]
            return Answer(304, (*kept, *quota.headers()))
        allowed, quota = self.limits.spend(account, resource)
        if not allowed:
            return self._exhausted(request, account, quota)
        if fault is not None and fault.kind == "drift":
            self._drift(request)
        return replace(answer, headers=(*answer.headers, *quota.headers()))

    def _graphql(self, request: Request, account: str, query: Query, fault: Fault | None) -> Answer:
        if request.token == ANONYMOUS:
            return error(401, "This endpoint requires you to be authenticated.", docs="https://docs.github.com/graphql")
        cost = query.cost.points if query.cost else 1
        allowed, quota = self.limits.spend(account, "graphql", cost)
        if not allowed:
            return self._exhausted(request, account, quota)
        self.counts["points"] += cost
        if query.refused is not None:
            return replace(query.refused, headers=(*query.refused.headers, *quota.headers()))
        result = graphql_endpoint.run(self.catalogue, query, request, quota)
        content = result.content
        if fault is not None and fault.kind in ("resource-limits", "forbidden"):
            content = planned.partial(fault, content)
        if fault is not None and fault.kind == "drift":
            for full_name in result.read:
                drift(self.catalogue, full_name)
        return ok(content, request, quota)

    def _exhausted(self, request: Request, account: str, quota: Quota) -> Answer:
        return planned.primary(request, account, quota, self._shapes.get((account, request.resource), "primary"))

    def _drift(self, request: Request) -> None:
        match = _REPOSITORY.match(request.path)
        repository = self.catalogue.repository(match[1] or int(match[2])) if match else None
        if repository is not None:
            drift(self.catalogue, repository.full_name)


def _unchanged(request: Request, answer: Answer) -> bool:
    """Weak comparison of the entity tags, as RFC 9110, section 13.1.2 asks."""
    etag, known = answer.header("ETag"), request.headers.get("if-none-match", "")
    if etag is None or answer.status != 200:
        return False
    return etag.removeprefix("W/") in {one.strip().removeprefix("W/") for one in known.split(",")}


def _rate_limit(quotas: dict[Resource, Quota]) -> JsonObject:
    told = {
        name: {"limit": quota.limit, "used": quota.used, "remaining": quota.remaining, "reset": quota.reset}
        for name, quota in quotas.items()
    }
    return {"resources": told, "rate": told["core"]}
