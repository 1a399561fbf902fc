"""Certificate files: what is wrong with them is found before they are used, and replaced ones are taken into use."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]  # it has no stubs
import pytest
from cryptography.hazmat.primitives import serialization
from faulty_endpoints import GrpcService
from journal_files import resource, scope, span
from otlp_server import eventually, otlp_server
from plain_servers import certificate, closed_port, server_context

from otelsync.doctor.variables import read
from otelsync.errors import ConfigurationError
from otelsync.journal.batch import Batch, Group
from otelsync.otlp.exporter import OtlpSink
from otelsync.otlp.options import OtlpEndpoint, endpoints_from_environment
from otelsync.otlp.outcome import Outcome

OTLP = "OTEL_EXPORTER_OTLP_"
RECORDS = [Batch("test", 0, 1, [Group(resource(), scope(), spans=[span(1)])])]


class Files:
    """Certificate files in a folder: a good pair, and ways to spoil it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.both = certificate(folder)
        pem = self.both.read_bytes()
        self.chain = self._write("chain.pem", pem[: pem.index(b"-----BEGIN PRIVATE")])
        self.key = self._write("key.pem", pem[pem.index(b"-----BEGIN PRIVATE") :])

    def _write(self, name: str, content: bytes) -> str:
        path = self.folder / name
        path.write_bytes(content)
        return str(path)

    def nonsense(self) -> str:
        return self._write("nonsense.pem", b"no certificate\n")

    def der(self) -> str:
        return self._write("der.pem", ssl.PEM_cert_to_DER_cert(Path(self.chain).read_text()))

    def cut_short(self) -> str:
        return self._write("short.pem", Path(self.chain).read_bytes()[:200])

    def encrypted(self, form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8) -> str:
        key = serialization.load_pem_private_key(Path(self.key).read_bytes(), None)
        locked = serialization.BestAvailableEncryption(b"secret")
        return self._write("locked.pem", key.private_bytes(serialization.Encoding.PEM, form, locked))

    def of_another(self) -> str:
        other = self.folder / "other"
        other.mkdir()
        return str(certificate(other))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def endpoints(**variables: str) -> tuple[OtlpEndpoint, ...]:
    environment = {f"{OTLP}{name}": value for name, value in variables.items()}
    return endpoints_from_environment({f"{OTLP}ENDPOINT": "https://collector:4318"} | environment)


Spoil = Callable[[Files], dict[str, str]]
SPOILED: dict[str, tuple[Spoil, str, str]] = {
    "no PEM": (lambda files: {"CERTIFICATE": files.nonsense()}, "CERTIFICATE", "no PEM file"),
    "DER": (lambda files: {"CERTIFICATE": files.der()}, "CERTIFICATE", "openssl x509 -inform der"),
    "cut short": (lambda files: {"CERTIFICATE": files.cut_short()}, "CERTIFICATE", "whole certificates"),
    "a key": (lambda files: {"CERTIFICATE": files.key}, "CERTIFICATE", "no PEM file"),
    "no client PEM": (
        lambda files: {"CLIENT_CERTIFICATE": files.nonsense(), "CLIENT_KEY": files.key},
        "CLIENT_CERTIFICATE",
        "no PEM file",
    ),
    "no key": (lambda files: {"CLIENT_CERTIFICATE": files.chain}, "CLIENT_CERTIFICATE", "_CLIENT_KEY"),
    "a certificate as key": (
        lambda files: {"CLIENT_CERTIFICATE": files.chain, "CLIENT_KEY": files.chain},
        "CLIENT_KEY",
        "private key",
    ),
    "an encrypted key": (
        lambda files: {"CLIENT_CERTIFICATE": files.chain, "CLIENT_KEY": files.encrypted()},
        "CLIENT_KEY",
        "openssl pkey",
    ),
    "an encrypted key of the old form": (
        lambda files: {
            "CLIENT_CERTIFICATE": files.chain,
            "CLIENT_KEY": files.encrypted(serialization.PrivateFormat.TraditionalOpenSSL),
        },
        "CLIENT_KEY",
        "openssl pkey",
    ),
    "another's key": (
        lambda files: {"CLIENT_CERTIFICATE": files.chain, "CLIENT_KEY": files.of_another()},
        "CLIENT_KEY",
        "belong together",
    ),
    "one signal's": (
        lambda files: {"LOGS_CLIENT_CERTIFICATE": files.chain, "CLIENT_CERTIFICATE": str(files.both)},
        "LOGS_CLIENT_CERTIFICATE",
        "no private key",
    ),
}
each_fault = pytest.mark.parametrize(("spoil", "option", "fix"), SPOILED.values(), ids=SPOILED)


@each_fault
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_files_that_cannot_be_used_are_named_with_the_fix(
    files: Files, spoil: Spoil, option: str, fix: str, protocol: str
) -> None:
    """The option, the file, and what to do, before anything is sent; nobody is asked for a password."""
    variables = spoil(files)
    with pytest.raises(ConfigurationError) as caught:
        endpoints(PROTOCOL=protocol, **variables)
    assert caught.value.option == OTLP + option
    assert caught.value.value == variables[option]
    assert fix in caught.value.fix


def test_good_files_are_good(files: Files) -> None:
    """A pair in two files, in one, and several authorities in a bundle."""
    bundle = files.folder / "bundle.pem"
    bundle.write_bytes(Path(files.chain).read_bytes() + b"# another\n" + Path(files.of_another()).read_bytes())
    found = endpoints(CERTIFICATE=str(bundle), CLIENT_CERTIFICATE=files.chain, CLIENT_KEY=files.key)
    assert {(each.client_certificate, each.client_key) for each in found} == {(files.chain, files.key)}
    assert {each.client_key for each in endpoints(CLIENT_CERTIFICATE=str(files.both))} == {None}


def test_a_certificate_of_a_signal_s_own_does_not_borrow_the_general_key(files: Files) -> None:
    """It holds its key itself, or names one of its own."""
    general = {"CLIENT_CERTIFICATE": files.chain, "CLIENT_KEY": files.key}
    traces, logs = endpoints(TRACES_CLIENT_CERTIFICATE=files.of_another(), **general)
    assert (traces.client_key, logs.client_key) == (None, files.key)


def test_files_that_are_not_used_are_not_looked_into(files: Files) -> None:
    """An endpoint without TLS needs none."""
    assert endpoints(ENDPOINT="http://collector:4318", CERTIFICATE=files.nonsense())


def test_the_doctor_names_them_too(files: Files) -> None:
    """Also those of metrics, which have an endpoint of their own."""
    for signal in ("", "METRICS_"):
        variables = {f"{OTLP}ENDPOINT": "https://c:4318", f"{OTLP}{signal}CERTIFICATE": files.nonsense()}
        [finding] = [finding for finding in read(variables).findings if finding.status == "problem"]
        assert finding.code == "wrong_value"
        assert f"{OTLP}{signal}CERTIFICATE" in finding.message
        assert "PEM" in finding.fix


def test_ship_ends_with_one_line(files: Files) -> None:
    """Neither a traceback, nor a question on the terminal."""
    variables = {"ENDPOINT": "https://127.0.0.1:1", "CLIENT_CERTIFICATE": files.chain, "CLIENT_KEY": files.encrypted()}
    environment = {f"{OTLP}{name}": value for name, value in variables.items()}
    ended = subprocess.run(
        [sys.executable, "-m", "otelsync.cli", "ship", "--once"],
        env={**os.environ, "OTELSYNC_HOME": str(files.folder / "home"), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "openssl pkey" in ended.stderr


def test_a_file_that_is_spoiled_later_is_a_reason_to_wait(files: Files) -> None:
    """Nothing is raised, and everything is sent when the file is as it should be."""
    with otlp_server(server_context(files.both)) as server:
        trusted = files.folder / "trusted.pem"
        trusted.write_text("not yet")
        for protocol in ("http/protobuf", "grpc"):
            url = server.url if protocol == "grpc" else f"{server.url}/v1/traces"
            with closing(sink_to(url, protocol, certificate=str(trusted))) as sink:
                outcome = sink.send(RECORDS)
                assert outcome.retry
                assert "certificate files cannot be used: CERTIFICATE" in outcome.reason
        with closing(sink_to(f"{server.url}/v1/traces", "http/protobuf", certificate=str(trusted))) as sink:
            assert sink.send(RECORDS).retry
            shutil.copy(files.chain, trusted)
            assert sink.send(RECORDS) == Outcome(accepted=1)


def sink_to(url: str, protocol: str, **options: Any) -> OtlpSink:
    return OtlpSink(OtlpEndpoint("traces", url, protocol=protocol, timeout=120, **options))  # type: ignore[arg-type]


class Rotated(ExitStack):
    """A server behind TLS that wants a client certificate, and gets a new certificate and a new authority.

    Server, authority and client have one certificate, as everything here is signed by itself.
    """

    def __init__(self, protocol: str, folder: Path) -> None:
        super().__init__()
        self._protocol = protocol
        self._folder = folder
        self._pems = iter([certificate(self._subfolder(str(number))) for number in range(3)])
        self.pem = folder / "current.pem"
        self._port = closed_port()
        self.rotate()

    def _subfolder(self, name: str) -> Path:
        (self._folder / name).mkdir()
        return self._folder / name

    @property
    def url(self) -> str:
        return f"https://localhost:{self._port}{'' if self._protocol == 'grpc' else '/v1/traces'}"

    def rotate(self, *, client: bool = True) -> None:
        """Give the server another certificate, and the client too, as cert-manager does: by renaming."""
        self.close()
        self._pem = next(self._pems)
        self.enter_context(self._server())
        if client:
            self.rotate_client()

    def rotate_client(self) -> None:
        new = self._folder / "new.pem"
        shutil.copy(self._pem, new)
        new.rename(self.pem)

    @contextmanager
    def _server(self) -> Iterator[None]:
        if self._protocol == "grpc":
            pem = self._pem.read_bytes()
            credentials = grpc.ssl_server_credentials([(pem, pem)], pem, require_client_auth=True)
            with GrpcService().running(credentials, port=self._port):
                yield
            return
        context = server_context(self._pem)
        context.load_verify_locations(self._pem)
        context.verify_mode = ssl.CERT_REQUIRED
        with otlp_server(context, port=self._port):
            yield


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_replaced_certificates_are_taken_into_use(tmp_path: Path, protocol: str) -> None:
    """A process that lives for long uses the files as they are now, whoever is replaced first."""
    with Rotated(protocol, tmp_path) as place:
        pem = str(place.pem)
        own = {"certificate": pem, "client_certificate": pem, "client_key": pem if protocol == "grpc" else None}
        with closing(sink_to(place.url, protocol, **own)) as sink:
            assert sink.send(RECORDS) == Outcome(accepted=1)
            place.rotate()
            eventually(lambda: sink.send(RECORDS) == Outcome(accepted=1))
            place.rotate(client=False)
            assert sink.send(RECORDS).retry
            place.rotate_client()
            eventually(lambda: sink.send(RECORDS) == Outcome(accepted=1))


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_half_replaced_files_leave_the_old_ones_in_use(tmp_path: Path, protocol: str) -> None:
    """A new certificate without its key, for as long as that takes to be written, costs nothing."""
    with Rotated(protocol, tmp_path) as place:
        chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
        for path in (chain, key):
            shutil.copy(place.pem, path)
        own = {"certificate": str(place.pem), "client_certificate": str(chain), "client_key": str(key)}
        with closing(sink_to(place.url, protocol, **own)) as sink:
            assert sink.send(RECORDS) == Outcome(accepted=1)
            chain.write_bytes(certificate(tmp_path).read_bytes())
            assert sink.send(RECORDS) == Outcome(accepted=1)
            chain.unlink()
            assert sink.send(RECORDS) == Outcome(accepted=1)
