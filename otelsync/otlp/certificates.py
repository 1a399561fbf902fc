"""Certificate files of endpoints: what is wrong with them, and the TLS contexts that are made of them.

Certificates are replaced while programs run, by cert-manager or Vault every few hours. So files are read again when
they have changed, or when a handshake has failed; as long as new ones do not fit together, the old ones stay in use.
"""

from __future__ import annotations

import re
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, NamedTuple, NoReturn

Option = Literal["CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"]

_LONGEST: Final = 16 * 1024 * 1024
_CERTIFICATE: Final = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----")
_KEY: Final = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----")
_ENCRYPTED: Final = re.compile(rb"-----BEGIN ENCRYPTED PRIVATE KEY-----|\nProc-Type: *4, *ENCRYPTED")


class CertificateFiles(NamedTuple):
    """Paths of PEM files, of which any may be missing."""

    authorities: str | None
    chain: str | None
    """The client's certificate, and perhaps its key."""
    key: str | None

    def stamp(self) -> tuple[object, ...]:
        """Return what changes whenever somebody replaces one of the files."""
        return tuple(map(_stamp, self))


class CertificateFault(NamedTuple):
    """One thing that is wrong with certificate files."""

    option: Option
    fix: str


class _PasswordNeededError(Exception):
    """A key is encrypted, and there is nobody to ask."""


def find_fault(files: CertificateFiles) -> CertificateFault | None:
    """Return what is wrong with the files, or None. Never asks for a password. Raises OSError if one cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if files.authorities:
        if not _CERTIFICATE.search(_content(files.authorities)):
            return CertificateFault("CERTIFICATE", _no_certificate(files.authorities))
        try:
            context.load_verify_locations(files.authorities)
        except ssl.SSLError as error:
            return CertificateFault("CERTIFICATE", f"set it to a PEM file with whole certificates ({_words(error)})")
    return _fault_of_pair(context, files.chain, files.key) if files.chain else None


def _fault_of_pair(context: ssl.SSLContext, certificate: str, key: str | None) -> CertificateFault | None:
    if not _CERTIFICATE.search(_content(certificate)):
        return CertificateFault("CLIENT_CERTIFICATE", _no_certificate(certificate))
    holds_key: Option = "CLIENT_KEY" if key else "CLIENT_CERTIFICATE"
    content = _content(key or certificate)
    if _ENCRYPTED.search(content):
        return CertificateFault(holds_key, _encrypted(key or certificate))
    if not _KEY.search(content):
        if key:
            return CertificateFault("CLIENT_KEY", "set it to a PEM file with the certificate's private key")
        return CertificateFault("CLIENT_CERTIFICATE", "it holds no private key; name its file in _CLIENT_KEY")
    try:
        context.load_cert_chain(certificate, key, _refuse)
    except _PasswordNeededError:
        return CertificateFault(holds_key, _encrypted(key or certificate))
    except ssl.SSLError as error:
        if "MISMATCH" in str(error.reason):
            fix = f"it is not the key of the certificate in {certificate}: set both to files that belong together"
            return CertificateFault(holds_key, fix)
        fix = f"set _CLIENT_CERTIFICATE and _CLIENT_KEY to whole PEM files ({_words(error)})"
        return CertificateFault(holds_key, fix)
    return None


def _content(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(_LONGEST)


def _no_certificate(path: str) -> str:
    return f"it is no PEM file with a certificate; if it is DER: openssl x509 -inform der -in {path} -out NEW.pem"


def _encrypted(path: str) -> str:
    return f"its key is encrypted, and nobody is there to be asked: openssl pkey -in {path} -out NEW.pem"


def _words(error: ssl.SSLError) -> str:
    return (error.reason or "not readable").replace("_", " ").lower()


def _refuse(*_: object) -> NoReturn:
    raise _PasswordNeededError


def make_context(files: CertificateFiles) -> ssl.SSLContext:
    """Return a context of the files. Raises OSError, with what is wrong, when they cannot be used."""
    try:
        context = ssl.create_default_context(cafile=files.authorities)
        if files.chain:
            context.load_cert_chain(files.chain, files.key, _refuse)
    except (OSError, _PasswordNeededError) as error:
        raise OSError(_describe(error, files)) from error
    return context


def read_files(files: CertificateFiles) -> tuple[bytes | None, bytes | None, bytes | None]:
    """Return authorities, key and certificate chain. Raises OSError, with what is wrong."""
    try:
        fault = find_fault(files)
        if fault is not None:
            raise OSError(f"the certificate files cannot be used: {fault.option}: {fault.fix}")
        authorities, key, chain = (
            _content(path) if path else None for path in (files.authorities, files.key or files.chain, files.chain)
        )
    except FileNotFoundError as error:
        raise OSError(_describe(error, files)) from error
    return authorities, key, chain


def _describe(error: Exception, files: CertificateFiles) -> str:
    with suppress(OSError):
        fault = find_fault(files)
        if fault is not None:
            return f"the certificate files cannot be used: {fault.option}: {fault.fix}"
    name = getattr(error, "filename", None)
    words = getattr(error, "strerror", None) or str(error)
    return f"the certificate files cannot be used: {f'{name}: ' if name else ''}{words}"


def _stamp(path: str | None) -> object:
    if path is None:
        return None
    try:
        found = Path(path).stat()
    except OSError as error:
        return error.errno
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
