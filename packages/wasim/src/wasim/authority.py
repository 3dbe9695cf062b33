"""wasim's own certificate authority, so that clients reach its media host by TLS as they reach the real one.

It is created once for each state directory and stored there, so that clients still trust it after a restart.
The key never leaves that directory.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CERTIFICATE_FILE = "ca.pem"
_KEY_FILE = "ca.key"
_HOST_FILE = "media-host.pem"
_VALID = timedelta(days=3650)
_CLOCK_SKEW = timedelta(days=1)


class BadAuthority(Exception):
    """The files of an existing authority can't be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    directory: Path
    certificate: x509.Certificate
    key: EllipticCurvePrivateKey

    @property
    def file(self) -> Path:
        """The file with the certificate that clients must trust."""
        return self.directory / CERTIFICATE_FILE

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def server_context(self, host: str, *, now: float) -> ssl.SSLContext:
        """The TLS context for a server on that host."""
        key = generate_private_key(SECP256R1())
        certificate = _host_certificate(self, host, key, datetime.fromtimestamp(now, UTC))
        path = self.directory / _HOST_FILE
        _write_private(path, _pem_of(key) + certificate.public_bytes(Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


def open_authority(directory: Path, *, now: float) -> Authority:
    """The authority of this directory, created if there is none. Raises BadAuthority for damaged files."""
    certificate, key = directory / CERTIFICATE_FILE, directory / _KEY_FILE
    if not certificate.exists() or not key.exists():
        return _make(directory, datetime.fromtimestamp(now, UTC))
    try:
        loaded = load_pem_private_key(key.read_bytes(), None)
        loaded_certificate = x509.load_pem_x509_certificate(certificate.read_bytes())
    except ValueError as error:
        raise BadAuthority(f"{certificate} or {key} can't be read ({error}); remove both and start again") from error
    if not isinstance(loaded, EllipticCurvePrivateKey):
        raise BadAuthority(f"{key} holds another kind of key; remove it and {certificate}, and start again")
    return Authority(directory=directory, certificate=loaded_certificate, key=loaded)


def _make(directory: Path, now: datetime) -> Authority:
    directory.mkdir(parents=True, exist_ok=True)
    key = generate_private_key(SECP256R1())
    name = _name("wasim media authority")
    usage = _usage(signs_certificates=True)
    certificate = (
        _builder(name, name, key, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_private(directory / _KEY_FILE, _pem_of(key))
    (directory / CERTIFICATE_FILE).write_bytes(certificate.public_bytes(Encoding.PEM))
    return Authority(directory=directory, certificate=certificate, key=key)


def _host_certificate(authority: Authority, host: str, key: EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    issuer = authority.certificate.subject
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    return (
        _builder(_name("wasim media host"), issuer, key, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_names_of(host)), critical=False)
        .add_extension(identifier, critical=False)
        .sign(authority.key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALID)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _names_of(host: str) -> list[x509.GeneralName]:
    """The host itself, and the names of the loopback interface."""
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    try:
        addresses = {ipaddress.ip_address(host), ipaddress.ip_address("127.0.0.1")}
    except ValueError:
        return [*names, x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    return names + [x509.IPAddress(address) for address in addresses]


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem_of(key: EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
