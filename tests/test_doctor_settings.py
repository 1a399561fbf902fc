from __future__ import annotations

import pytest

from otelsync.doctor import neighbours, variables, versions
from otelsync.doctor.findings import Finding, worst
from otelsync.doctor.neighbours import Company
from otelsync.doctor.versions import Installed

OTLP = "OTEL_EXPORTER_OTLP_"


def settings(**environment: str) -> dict[str, Finding]:
    """What is found of an environment, by code."""
    return {finding.code: finding for finding in variables.read(environment).findings}


def test_an_environment_with_nothing_wrong() -> None:
    """A service, an endpoint and a sampler that keeps something are no reason for a warning."""
    found = variables.read(
        {
            "OTEL_SERVICE_NAME": "github-sync",
            f"{OTLP}ENDPOINT": "http://collector:4318",
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.25",
        }
    ).findings
    assert worst(found) == "ok"
    assert found[0].message == (
        "github-sync: traces to http://collector:4318/v1/traces by http/protobuf, "
        "logs to http://collector:4318/v1/logs by http/protobuf"
    )


@pytest.mark.parametrize(
    ("environment", "code", "says", "fix"),
    [
        ({"OTELSYNC_STORE": "perhaps"}, "wrong_value", "OTELSYNC_STORE='perhaps' cannot work", "use auto, on or off"),
        ({f"{OTLP}PROTOCOL": "http/json", f"{OTLP}ENDPOINT": "http://c"}, "wrong_value", "PROTOCOL", "http/protobuf"),
        ({"OTEL_SDK_DISABLED": "true"}, "disabled", "OTEL_SDK_DISABLED", "unset"),
        ({"OTELSYNC_STORE": "off"}, "nowhere", "nowhere", f"{OTLP}ENDPOINT"),
        ({f"{OTLP}ENDPOINT": "http://c:4318/v1/traces"}, "path_twice", "ends in /v1/traces", "TRACES_ENDPOINT"),
        ({f"{OTLP}LOGS_ENDPOINT": "http://c/v1/traces"}, "path_of_other_signal", "/v1/traces", "end it in /v1/logs"),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, "sampler_drops_all", "always_off", "unset OTEL_TRACES_SAMPLER"),
    ],
)
def test_what_cannot_work(environment: dict[str, str], code: str, says: str, fix: str) -> None:
    """Each is a problem that names the variable and the fix."""
    finding = settings(**environment)[code]
    assert finding.status == "problem"
    assert says in finding.message
    assert fix in finding.fix


@pytest.mark.parametrize(
    ("environment", "code", "fix"),
    [
        ({"OTELSYNC_HOMME": "/x"}, "unknown_variable", "did you mean OTELSYNC_HOME?"),
        ({"OTEL_EXPORTER_OTEL_ENDPOINT": "http://c"}, "unknown_variable", f"did you mean {OTLP}ENDPOINT?"),
        ({f"{OTLP}ENDPOINT": "http://c:4317"}, "port_of_other_protocol", "4318"),
        ({f"{OTLP}ENDPOINT": "http://c:4318", f"{OTLP}PROTOCOL": "grpc"}, "port_of_other_protocol", "4317"),
        ({f"{OTLP}ENDPOINT": "c:4318", f"{OTLP}PROTOCOL": "grpc"}, "port_of_other_protocol", "http/protobuf"),
        ({f"{OTLP}TRACES_ENDPOINT": "http://c:4318"}, "no_path", "/v1/traces"),
        ({f"{OTLP}TRACES_ENDPOINT": "http://c:4318/v1/traces"}, "logs_without_endpoint", "OTEL_LOGS_EXPORTER=none"),
        ({f"{OTLP}ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, "no_traces", "OTEL_TRACES_EXPORTER"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "exporter_ignored", "otlp"),
    ],
)
def test_what_looks_wrong(environment: dict[str, str], code: str, fix: str) -> None:
    """What may be meant so is a warning, with what to do if it is not."""
    finding = settings(**environment)[code]
    assert finding.status == "warning"
    assert fix in finding.fix


def test_passwords_in_values_are_not_shown() -> None:
    """A URL that cannot work is shown without its user and password."""
    for url in ("ftp://user:pass@host", "http://tok3n@host:port", "http://user:pass@host/a b"):
        finding = settings(**{f"{OTLP}ENDPOINT": url})["wrong_value"]
        assert "pass@" not in finding.message
        assert "tok3n" not in finding.message


def neighbour(company: Company) -> dict[str, Finding]:
    return {finding.code: finding for finding in neighbours.examine(company)}


def test_nobody_is_in_the_way() -> None:
    """Without others there is one finding, which says so."""
    assert set(neighbour(Company({}, modules=["json"], provider="otelsync.recording.provider.TracerProvider"))) == {
        "alone"
    }


@pytest.mark.parametrize(
    ("company", "code", "fix"),
    [
        (Company({"OTEL_PYTHON_DISTRO": "distro"}, []), "other_distro", "OTEL_PYTHON_DISTRO=otelsync"),
        (Company({}, [], provider="opentelemetry.sdk.trace.TracerProvider"), "other_provider", "otelsync run"),
        (Company({"PYTHONPATH": "/x:/site/ddtrace/bootstrap"}, []), "other_tracer", "ddtrace-run"),
        (Company({"PYTHONPATH": "/site/newrelic/bootstrap"}, []), "other_tracer", "newrelic-admin"),
        (Company({}, ["sentry_sdk"]), "other_tracer", "sitecustomize"),
        (
            Company({"OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": "true"}, []),
            "two_log_bridges",
            "unset OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED",
        ),
        (
            Company({}, [], bridges=["opentelemetry.sdk._logs.LoggingHandler"]),
            "two_log_bridges",
            "take the handler off",
        ),
    ],
)
def test_who_is_in_the_way(company: Company, code: str, fix: str) -> None:
    """Another provider, tracer, log bridge or exporter is a problem that says how to be rid of it."""
    finding = neighbour(company)[code]
    assert finding.status == "problem"
    assert fix in finding.fix


def test_tracing_of_celery_that_is_switched_off() -> None:
    """Where Celery is installed, that is a warning."""
    off = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "redis, celery"}
    assert neighbour(Company(off, [], has_celery=True))["celery_switched_off"].status == "warning"
    assert set(neighbour(Company(off, []))) == {"alone"}


def test_what_is_installed_here_fits() -> None:
    """The packages of this environment have no misfit."""
    assert worst(versions.examine(versions.installed())) == "ok"


@pytest.mark.parametrize(
    ("packages", "code", "says"),
    [
        (
            [
                Installed("opentelemetry-sdk", "1.45.2", ["opentelemetry-api==1.45.2"]),
                Installed("opentelemetry-api", "1.40.0"),
            ],
            "misfit",
            "opentelemetry-sdk 1.45.2 needs opentelemetry-api==1.45.2, and 1.40.0 is installed",
        ),
        (
            [
                Installed(
                    "opentelemetry-instrumentation-celery", "0.66b2", ["celery<6.0,>=4.0 ; extra == 'instruments'"]
                ),
                Installed("Celery", "3.1.0"),
            ],
            "misfit",
            "needs celery<6.0,>=4.0, and 3.1.0 is installed",
        ),
        ([Installed("otelsync", "0.1.0", ["orjson>=3.10"])], "missing_package", "needs orjson>=3.10"),
    ],
)
def test_what_does_not_fit(packages: list[Installed], code: str, says: str) -> None:
    """Packages of OpenTelemetry that do not match, and libraries outside an instrumentation's range, are named."""
    finding = {finding.code: finding for finding in versions.examine(packages)}[code]
    assert finding.status == "problem"
    assert says in finding.message
    assert finding.fix.startswith("pip install")


def test_what_is_not_asked_for_need_not_fit() -> None:
    """Other extras, other platforms and libraries that are not installed are no misfits."""
    packages = [
        Installed(
            "opentelemetry-instrumentation-x",
            "1",
            ["celery<6 ; extra == 'instruments'", "y==1 ; extra == 'z'", "w==1 ; sys_platform == 'win32'", "not a ("],
        ),
        Installed("other", "1", ["missing==2"]),
    ]
    assert worst(versions.examine(packages)) == "ok"
