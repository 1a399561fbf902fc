"""requests: each send is a client span, with its route, its repeats and what it tells of rate limits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from foreign_hosts import Answer, Listener, listening
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.trace import Span
from recorded import Recorded
from requests.adapters import HTTPAdapter
from requests.auth import HTTPDigestAuth
from urllib3.util.retry import Retry

import otelsync
from otelsync.integrations.requests import Instrumentor

SHOWN = ("http.response.status_code", "http.request.resend_count")


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    monkeypatch.setenv("no_proxy", "*")
    with listening() as running:
        yield running


@pytest.fixture
def _on(recorded: Recorded) -> Iterator[None]:
    assert recorded
    Instrumentor().instrument()
    yield
    Instrumentor().uninstrument()


def retrying(**options: Any) -> requests.Session:
    """A session that retries below requests, in urllib3."""
    session = requests.Session()
    session.mount("http://", HTTPAdapter(max_retries=Retry(**{"total": 5, "allowed_methods": None, **options})))
    return session


def limited(remaining: int, **more: str) -> dict[str, str]:
    return {
        "X-RateLimit-Limit": "5000",
        "X-RateLimit-Remaining": str(remaining),
        "X-RateLimit-Used": str(5000 - remaining),
        "X-RateLimit-Reset": str(int(time.time()) + 600),
        "X-RateLimit-Resource": "core",
        "X-GitHub-Request-Id": "A:B",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }


pytestmark = pytest.mark.usefixtures("_on")


def test_inside_an_api_call_the_span_has_its_route_where_that_is_known(recorded: Recorded, listener: Listener) -> None:
    """A path that is not like GitHub's may hold anybody's name, and the stage says what is called."""
    with otelsync.pipeline("p"), otelsync.repo("acme/api"), otelsync.api_call("list_pull_requests"):
        requests.get(f"{listener.url}/repos/acme/api/pulls", timeout=60)
        requests.get(f"{listener.url}/people/ann", timeout=60)
        with otelsync.pull_request(7):
            requests.get(f"{listener.url}/repos/acme/api/pulls/7", timeout=60)
    assert (
        recorded.tree(*SHOWN)
        == """
sync.pipeline p                                   [success]
  sync.repo acme/api                              [success]
    sync.api list_pull_requests                   [success]
      GET /repos/{owner}/{repo}/pulls             status_code=200
      GET                                         status_code=200
      sync.pr
        GET /repos/{owner}/{repo}/pulls/{number}  status_code=200"""
    )


def test_outside_an_api_call_the_span_is_named_by_its_route(recorded: Recorded, listener: Listener) -> None:
    """Also inside a repo, and without any stage: a hundred pull requests are one name."""
    with otelsync.repo("acme/api"):
        requests.get(f"{listener.url}/repos/acme/api/pulls/7/files?page=2", timeout=60)
    requests.post(f"{listener.url}/items/42", timeout=60)
    assert (
        recorded.tree(*SHOWN)
        == """
sync.repo acme/api                                [success]
  GET /repos/{owner}/{repo}/pulls/{number}/files  status_code=200
POST /items/{id}                                  status_code=200"""
    )


def test_the_attributes_are_the_stable_conventions(recorded: Recorded, listener: Listener) -> None:
    """Those of OpenTelemetry's instrumentation, under their stable names."""
    requests.get(f"{listener.url}/x?page=2", timeout=60)
    (span,) = recorded.spans
    assert span.kind == 3
    assert {key: span.attributes[key] for key in span.attributes if key != "user_agent.original"} == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "network.peer.address": "127.0.0.1",
        "network.peer.port": listener.port,
        "network.protocol.version": "1.0",
        "server.address": "127.0.0.1",
        "server.port": listener.port,
        "url.full": f"{listener.url}/x?page=2",
        "url.template": "/x",
    }


def test_no_secret_of_a_url_is_recorded(recorded: Recorded, listener: Listener) -> None:
    """User, password, tokens and signatures are in no span; the server gets them all."""
    secrets = ("Sw0rdfish", "Hunt3r", "T0psecret", "S1gned")
    url = f"http://{secrets[0]}:{secrets[1]}@127.0.0.1:{listener.port}/x"
    with pytest.raises(requests.RequestException):
        requests.get(f"http://{secrets[0]}:{secrets[1]}@127.0.0.1:1/x?api_key={secrets[2]}", timeout=60)
    requests.get(f"{url}?access_token={secrets[2]}&X-Amz-Signature={secrets[3]}&page=2", timeout=60)
    assert all(secret in listener.paths[0] for secret in secrets[2:])
    assert [secret for secret in secrets if secret in str(recorded.spans[1])] == []
    assert recorded.spans[1].attributes["url.full"] == (
        f"http://REDACTED@127.0.0.1:{listener.port}/x?access_token=[redacted]&X-Amz-Signature=[redacted]&page=2"
    )


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "expected"),
        [(200, ("", None)), (304, ("", None)), (404, ("ERROR", "404")), (500, ("ERROR", "500"))],
    )
    def test_a_status_is_an_error_from_400_on(
        self, recorded: Recorded, listener: Listener, status: int, expected: tuple[str, str | None]
    ) -> None:
        """As OpenTelemetry has it; not modified is no error."""
        listener.answers["/x"] = [Answer(status)]
        requests.get(f"{listener.url}/x", timeout=60)
        (span,) = recorded.spans
        assert (span.status, span.attributes.get("error.type")) == expected

    def test_an_exception_passes_unchanged(self, recorded: Recorded, listener: Listener) -> None:
        """The connection that is closed without an answer is requests' own error, and the span's."""
        listener.answers["/x"] = [Answer(dropped=True)]
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{listener.url}/x", timeout=60)
        (span,) = recorded.spans
        assert (span.status, span.attributes["error.type"]) == ("ERROR", "ConnectionError")

    def test_a_wrong_call_fails_as_ever(self, recorded: Recorded) -> None:
        """What is no prepared request, or has no URL, is refused by requests itself."""
        with pytest.raises(ValueError, match="PreparedRequests"):
            requests.Session().send(requests.Request("GET", "http://127.0.0.1/"))  # type: ignore[arg-type]
        with pytest.raises(requests.exceptions.MissingSchema):
            requests.get("nonsense", timeout=60)
        assert recorded.spans == []


class TestRedirects:
    def test_each_is_a_send_of_its_own(self, recorded: Recorded, listener: Listener) -> None:
        """Siblings, counted from the second on."""
        listener.redirects |= {"/a": "/b", "/b": "/c"}
        with otelsync.api_call("get"):
            response = requests.get(f"{listener.url}/a", timeout=60)
        assert [each.status_code for each in response.history] == [302, 302]
        assert (
            recorded.tree(*SHOWN, roll=9)
            == """
sync.api get  [success]
  GET         status_code=302
  GET         status_code=302 resend_count=1
  GET         status_code=200 resend_count=2"""
        )

    def test_the_response_is_what_requests_would_give(self, recorded: Recorded, listener: Listener) -> None:
        """History, cookies, body and what comes next are the same with and without us."""
        assert recorded
        listener.redirects |= {"/a": "/b", "/b": "/c"}
        seen = []
        for on in (True, False):
            if not on:
                Instrumentor().uninstrument()
            for options in ({}, {"stream": True}, {"allow_redirects": False}):
                listener.answers["/b"] = [Answer(301, {"Location": "/c", "Set-Cookie": "k=v"}, b"moved")]
                session = requests.Session()
                response = session.get(f"{listener.url}/a", timeout=60, **options)  # type: ignore[arg-type]
                following = response.next.url if response.next else None
                histories = [[each.url for each in each.history] for each in response.history]
                seen.append((response.url, response.text, histories, dict(session.cookies), following))
                session.close()
        Instrumentor().instrument()
        assert seen[:3] == seen[3:]

    def test_too_many_are_too_many(self, recorded: Recorded, listener: Listener) -> None:
        """Requests' own limit and error."""
        listener.redirects["/a"] = "/a"
        session = requests.Session()
        session.max_redirects = 3
        with pytest.raises(requests.TooManyRedirects), otelsync.api_call("get"):
            session.get(f"{listener.url}/a", timeout=60)
        assert recorded.tree(roll=2) == "\nsync.api get  [failure]\n  GET         x4"

    def test_a_prepared_request_can_be_sent_bare(self, recorded: Recorded, listener: Listener) -> None:
        """The session's options hold for its redirects too, though only the request was given."""
        listener.redirects["/a"] = "/b"
        session = requests.Session()
        response = session.send(requests.Request("GET", f"{listener.url}/a").prepare())
        assert response.url.endswith("/b")
        assert len(recorded.spans) == 2

    def test_a_request_that_a_hook_makes_is_no_redirect(self, recorded: Recorded, listener: Listener) -> None:
        """One for a token, by the same session, in the middle, is not counted; it is made inside another's span."""
        listener.redirects["/a"] = "/b"
        session = requests.Session()

        def hook(response: requests.Response, *_: Any, **__: Any) -> None:
            if response.url.endswith("/b"):
                session.get(f"{listener.url}/token", timeout=60)

        session.get(f"{listener.url}/a", timeout=60, hooks={"response": hook})
        counts = {span.attributes["url.template"]: span.attributes.get(SHOWN[1]) for span in recorded.spans}
        assert counts == {"/a": None, "/b": 1}
        assert listener.paths == ["/a", "/b", "/token"]

    def test_authentication_that_asks_twice_is_counted(self, recorded: Recorded, listener: Listener) -> None:
        """Digest authentication sends again below the session."""
        challenge = {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'}
        listener.answers["/x"] = [Answer(401, challenge), Answer()]
        requests.get(f"{listener.url}/x", timeout=60, auth=HTTPDigestAuth("a", "b"))
        (span,) = recorded.spans
        assert (span.attributes[SHOWN[0]], span.attributes[SHOWN[1]]) == (200, 1)


class TestRetriesBelow:
    def test_each_send_and_each_sleep_is_a_span(self, recorded: Recorded, listener: Listener) -> None:
        """What urllib3 does unseen: a refusal, a wait as long as it asks for, a server error, a pause, an answer."""
        listener.answers["/x"] = [
            Answer(403, limited(4000, Retry_After="1")),
            Answer(502),
            Answer(503),
            Answer(headers=limited(3999)),
        ]
        session = retrying(status_forcelist=[403, 502, 503], backoff_factor=0.01)
        with otelsync.pipeline("p"), otelsync.api_call("get"):
            session.get(f"{listener.url}/x", timeout=60)
        session.close()
        assert (
            recorded.tree(
                *SHOWN, "sync.rate_limit.kind", "sync.rate_limit.planned_seconds", "sync.retry.reason", roll=9
            )
            == """
sync.pipeline p             [success]
  sync.api get              [success]
    GET                     status_code=200 resend_count=3
      GET                   ERROR status_code=403
      sync.rate_limit.wait  [success] kind=secondary planned_seconds=1.0
      GET                   ERROR status_code=502 resend_count=1
      sync.retry.wait       [success] reason=server
      GET                   ERROR status_code=503 resend_count=2
      sync.retry.wait       [success] reason=server
      GET                   status_code=200 resend_count=3"""
        )
        sends = [span for span in recorded.spans if span.name == "GET" and span.scope == "otelsync"]
        assert [span.attributes["sync.api.operation"] for span in sends] == ["get"] * 4
        retries = [line for line in recorded.lines if line["event"] == "sync.api.retry"]
        assert [(line["id"], line["reason"], line["attempt"], line["status"]) for line in retries] == [
            ("hc-001", "secondary", 1, 403),
            ("hc-001", "server", 2, 502),
            ("hc-001", "server", 3, 503),
        ]
        wait = recorded.span("sync.rate_limit.wait").attributes["sync.rate_limit.actual_seconds"]
        assert recorded.span("sync.pipeline p").attributes["sync.rate_limit.waited_seconds"] == pytest.approx(wait)

    def test_a_refusal_that_urllib3_hides_is_seen(self, recorded: Recorded, listener: Listener) -> None:
        """The exhausted limit is logged with the span of that send, though the caller only ever sees the answer."""
        listener.answers["/x"] = [Answer(403, limited(0)), Answer(headers=limited(4999))]
        session = retrying(status_forcelist=[403])
        session.get(f"{listener.url}/x", timeout=60, headers={"Authorization": "token ghp_" + "h" * 36})
        session.close()
        sent = next(span for span in recorded.spans if span.attributes[SHOWN[0]] == 403)
        assert recorded.line("sync.rate_limit.exhausted")["span_id"] == sent.span_id

    def test_a_connection_that_fails_is_a_send_too(self, recorded: Recorded, listener: Listener) -> None:
        """With the type of its error."""
        listener.answers["/x"] = [Answer(dropped=True), Answer()]
        session = retrying()
        session.get(f"{listener.url}/x", timeout=60)
        session.close()
        assert (
            recorded.tree(*SHOWN, "error.type")
            == """
GET /x  status_code=200 resend_count=1
  GET   ERROR type=ProtocolError
  GET   status_code=200 resend_count=1"""
        )

    @pytest.mark.parametrize("raises", [True, False])
    def test_when_all_fail_the_last_is_told_once(self, recorded: Recorded, listener: Listener, raises: bool) -> None:
        """Whether the exhausted retry raises or returns the last response."""
        listener.answers["/x"] = [Answer(502)] * 3
        session = retrying(total=2, status_forcelist=[502], raise_on_status=raises)
        try:
            session.get(f"{listener.url}/x", timeout=60)
            assert not raises
        except requests.exceptions.RetryError:
            assert raises
        session.close()
        sends = [span for span in recorded.spans if span.name == "GET"]
        assert [span.attributes.get(SHOWN[1]) for span in sends] == [None, 1, 2]

    def test_without_a_retry_there_is_one_span(self, recorded: Recorded, listener: Listener) -> None:
        """Requests' own adapter has a retry object as well, which allows none."""
        listener.answers["/x"] = [Answer(dropped=True)]
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{listener.url}/x", timeout=60)
        assert len(recorded.spans) == 1


class TestRateLimits:
    def test_headers_become_attributes_of_the_send(self, recorded: Recorded, listener: Listener) -> None:
        """Each has its own response's figures, and the API call around has not the same once more."""
        listener.answers["/x"] = [Answer(headers=limited(4000)), Answer(headers=limited(3999, Retry_After="7"))]
        with otelsync.api_call("list"):
            requests.get(f"{listener.url}/x", timeout=60)
            requests.get(f"{listener.url}/x", timeout=60)
        first, second = [span.attributes for span in recorded.spans if span.name == "GET"]
        stage = recorded.span("sync.api list").attributes
        assert first["sync.rate_limit.remaining"] == 4000
        limits = {name: value for name, value in second.items() if name.startswith("sync.rate_limit.")}
        assert limits.pop("sync.rate_limit.reset") > time.time()
        assert limits == {
            "sync.rate_limit.limit": 5000,
            "sync.rate_limit.remaining": 3999,
            "sync.rate_limit.used": 1001,
            "sync.rate_limit.resource": "core",
            "sync.rate_limit.host": "127.0.0.1",
            "sync.rate_limit.retry_after_seconds": 7.0,
        }
        assert not [name for name in stage if name.startswith("sync.rate_limit.")]

    def test_a_warning_comes_once_a_change(self, recorded: Recorded, listener: Listener) -> None:
        """Low, then exhausted; with the ids of the span of that response, and never a token."""
        listener.answers["/x"] = [Answer(headers=limited(n)) for n in (600, 400, 399, 0)]
        token = "token ghp_" + "w" * 36
        with otelsync.repo("acme/api"):
            for _ in range(4):
                requests.get(f"{listener.url}/x", timeout=60, headers={"Authorization": token})
        warned = [line for line in recorded.lines if line["level"] == "warning"]
        spans = [span for span in recorded.spans if span.name == "GET /x"]
        assert [(line["event"], line["span_id"]) for line in warned] == [
            ("sync.rate_limit.low", spans[1].span_id),
            ("sync.rate_limit.exhausted", spans[3].span_id),
        ]
        assert token.split()[1] not in recorded.text + str(recorded.spans)

    def test_graphql_bodies_are_read(self, recorded: Recorded, listener: Listener) -> None:
        """The limit in the data, and a refusal that comes with status 200."""
        body = b'{"data":{"rateLimit":{"limit":5000,"remaining":77,"resetAt":"2026-01-01T00:00:00Z"}}}'
        refusal = b'{"data":null,"errors":[{"type":"RATE_LIMITED","message":"API rate limit exceeded"}]}'
        listener.answers["/graphql"] = [Answer(body=body), Answer(body=refusal), Answer(body=b'{"rateLimit" broken')]
        with otelsync.api_call("prs", kind="graphql"):
            for _ in range(3):
                token = {"Authorization": f"token graphql-of-port-{listener.port}"}
                requests.post(f"{listener.url}/graphql", json={"query": "{}"}, timeout=60, headers=token)
        sends = [span for span in recorded.spans if span.name == "POST"]
        first, second, third = [span.attributes.get("sync.rate_limit.remaining") for span in sends]
        assert (first, second, third) == (77, 0, None)
        assert recorded.line("sync.rate_limit.exhausted")["resource"] == "graphql"

    def test_a_body_that_is_streamed_is_left_alone(self, recorded: Recorded, listener: Listener) -> None:
        """It is the caller's to read."""
        assert recorded
        listener.answers["/graphql"] = [Answer(body=b'{"data":{"rateLimit":{}}}')]
        with requests.get(f"{listener.url}/graphql", timeout=60, stream=True) as response:
            assert response.raw.read() == b'{"data":{"rateLimit":{}}}'


class TestSwitching:
    def test_everything_is_put_back(self) -> None:
        """``Session.send`` and urllib3's methods are the very objects that they were."""
        Instrumentor().uninstrument()
        before = (requests.Session.send, Retry.sleep, Retry.increment)
        Instrumentor().instrument()
        assert requests.Session.send is not before[0]
        Instrumentor().uninstrument()
        assert requests.Session.send is before[0]
        assert (Retry.sleep, Retry.increment) == before[1:]
        Instrumentor().instrument()

    def test_upstreams_own_cannot_come_beside_it(self, recorded: Recorded, listener: Listener) -> None:
        """While ours is on, OpenTelemetry's takes itself for switched on already."""
        RequestsInstrumentor().instrument()
        requests.get(f"{listener.url}/x", timeout=60)
        assert len(recorded.spans) == 1
        assert RequestsInstrumentor().is_instrumented_by_opentelemetry

    def test_upstreams_own_is_taken_over_and_given_back(self, recorded: Recorded, listener: Listener) -> None:
        """A call is recorded once, and afterwards upstream's instrumentation is on as it was."""
        Instrumentor().uninstrument()
        RequestsInstrumentor().instrument()
        theirs = requests.Session.send
        Instrumentor().instrument()
        requests.get(f"{listener.url}/x", timeout=60)
        Instrumentor().uninstrument()
        assert requests.Session.send is theirs
        requests.get(f"{listener.url}/x", timeout=60)
        RequestsInstrumentor().uninstrument()
        Instrumentor().instrument()
        assert [span.name for span in recorded.spans] == ["GET /x", "GET"]

    def test_what_was_put_over_it_stays(
        self, recorded: Recorded, listener: Listener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Somebody else's wrapper is not undone with ours, which does nothing any more."""
        ours = requests.Session.send

        def theirs(self: requests.Session, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
            return ours(self, request, **kwargs)

        with monkeypatch.context() as patched:
            patched.setattr(requests.Session, "send", theirs)
            Instrumentor().uninstrument()
            assert requests.Session.send is theirs
            requests.get(f"{listener.url}/x", timeout=60)
            assert recorded.spans == []
        requests.Session.send = ours.__wrapped__  # type: ignore[attr-defined, method-assign]
        Instrumentor().instrument()

    def test_the_users_hooks_and_options_hold(self, recorded: Recorded, listener: Listener) -> None:
        """They are called after our part, with the arguments of OpenTelemetry; excluded URLs are not recorded."""
        called: list[str] = []

        def request_hook(span: Span, request: requests.PreparedRequest) -> None:
            span.update_name("mine")
            called.append(str(request.method))

        def response_hook(_: Span, __: requests.PreparedRequest, response: requests.Response) -> None:
            called.append(str(response.status_code))

        Instrumentor().uninstrument()
        Instrumentor().instrument(request_hook=request_hook, response_hook=response_hook, excluded_urls="hidden")
        requests.get(f"{listener.url}/x", timeout=60)
        requests.get(f"{listener.url}/hidden", timeout=60)
        session = retrying(status_forcelist=[502])
        listener.answers["/hidden"] = [Answer(502)]
        session.get(f"{listener.url}/hidden", timeout=60)
        session.close()
        assert called == ["GET", "200"]
        assert [span.name for span in recorded.spans] == ["mine"]

    def test_the_older_conventions_can_be_asked_for(
        self, recorded: Recorded, listener: Listener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the user has set for the whole process holds; then the URL is clean under its older name."""
        monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "database")
        Instrumentor().uninstrument()
        Instrumentor().instrument()
        requests.get(f"{listener.url}/x?token=abcdef", timeout=60)
        (span,) = recorded.spans
        assert span.attributes["http.url"] == f"{listener.url}/x?token=[redacted]"
        assert "url.full" not in span.attributes

    def test_a_failure_of_ours_is_not_the_callers(
        self, recorded: Recorded, listener: Listener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What cannot be told is left out, and said at DEBUG."""

        def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError("ours")

        monkeypatch.setattr("otelsync.integrations.http.calls._routes.route", fail)
        monkeypatch.setattr("otelsync.integrations.http.calls.read_response", fail)
        assert requests.get(f"{listener.url}/x", timeout=60).status_code == 200
        assert [span.name for span in recorded.spans] == ["GET"]
        said = [line for line in recorded.lines if line["event"].startswith("Call.")]
        assert [line["level"] for line in said] == ["debug", "debug"]


def test_outside_any_configuration_calls_go_through(listener: Listener) -> None:
    """Switched on without a provider, it records nothing and changes nothing."""
    otelsync.shutdown()
    listener.redirects["/a"] = "/b"
    assert requests.get(f"{listener.url}/a", timeout=60).url.endswith("/b")


@pytest.mark.parametrize("method", ["FOO", "BAR1", "X" * 200])
def test_a_method_that_nobody_knows_names_no_span(recorded: Recorded, listener: Listener, method: str) -> None:
    """A program can send any word, so such spans are called HTTP; what was sent stands in an attribute."""
    requests.request(method, f"{listener.url}/items/7", timeout=60)
    (span,) = recorded.spans
    assert span.name == "HTTP /items/{id}"
    assert span.attributes["http.request.method"] == "_OTHER"
    assert str(span.attributes["http.request.method_original"]).upper() == method
