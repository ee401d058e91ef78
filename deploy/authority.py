"""The certificate authority of a stack, and the certificates that it signs."""

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

TRUST = "spiffe://aimass/"
LIFETIME = timedelta(days=90)  # of a certificate
_SOON = timedelta(days=30)  # before its expiry a certificate is renewed
_OWN_LIFETIME = timedelta(days=3650)
_EARLIER = timedelta(minutes=5)  # clocks of machines differ


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, both as PEM."""

    cert: bytes
    key: bytes


class Authority:
    """Signs certificates. Its certificate is `pem`."""

    def __init__(self, key: EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key, self._certificate = key, certificate
        self.pem = certificate.public_bytes(Encoding.PEM)

    @classmethod
    def new(cls) -> "Authority":
        """A new authority."""
        key, name = generate_private_key(SECP256R1()), _name("AI Mass authority")
        builder = _builder(name, name, key, _OWN_LIFETIME).add_extension(x509.BasicConstraints(True, 0), critical=True)
        usage = _usage(key_cert_sign=True, crl_sign=True)
        return cls(key, builder.add_extension(usage, critical=True).sign(key, SHA256()))

    @classmethod
    def load(cls, key: bytes, certificate: bytes) -> "Authority":
        """The authority of these PEM files. Raises ValueError for invalid ones."""
        loaded = load_pem_private_key(key, None)
        if not isinstance(loaded, EllipticCurvePrivateKey):
            raise ValueError("the key of the authority must be an elliptic curve key")
        return cls(loaded, x509.load_pem_x509_certificate(certificate))

    @property
    def key(self) -> bytes:
        """Its private key as PEM."""
        return _pem(self._key)

    def issue(self, names: Sequence[str], hosts: Sequence[str] = (), lifetime: timedelta = LIFETIME) -> Issued:
        """A certificate for services by name, and for further host names and addresses."""
        alternatives = [*(_host(host) for host in (*names, *hosts)), *(_uri(name) for name in names)]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._issue(names[0], alternatives, usages, lifetime)

    def issue_public(self, hosts: Sequence[str], lifetime: timedelta = LIFETIME) -> Issued:
        """A certificate for clients of the gateway, which names no service."""
        return self._issue(hosts[0], [_host(host) for host in hosts], [ExtendedKeyUsageOID.SERVER_AUTH], lifetime)

    def must_renew(self, certificate: bytes) -> bool:
        """Whether a certificate, as PEM, is of this authority and expires soon."""
        found = self._own(certificate)
        return found is not None and found.not_valid_after_utc < datetime.now(UTC) + _SOON

    def hosts(self, certificate: bytes) -> list[str]:
        """The hosts of a certificate of this authority; none for one of another authority."""
        found = self._own(certificate)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value if found else ()
        return [str(name.value) for name in names]

    def _own(self, certificate: bytes) -> x509.Certificate | None:
        try:
            found = x509.load_pem_x509_certificate(certificate)
            found.verify_directly_issued_by(self._certificate)
        except (ValueError, TypeError, InvalidSignature):
            return None  # of another authority, which renews it
        return found

    def _issue(
        self,
        common: str,
        alternatives: list[x509.GeneralName],
        usages: list[x509.ObjectIdentifier],
        lifetime: timedelta,
    ) -> Issued:
        key = generate_private_key(SECP256R1())
        builder = (
            _builder(_name(common), self._certificate.subject, key, lifetime)
            .add_extension(x509.BasicConstraints(False, None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        return Issued(builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM), _pem(key))


def write(path: Path, content: bytes, mode: int = 0o640) -> None:
    """Writes a file atomically, never readable for more than `mode` permits."""
    passing = path.with_name(f".{path.name}.{os.getpid()}")
    passing.unlink(missing_ok=True)
    with os.fdopen(os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    passing.chmod(mode)
    passing.rename(path)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _uri(name: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(f"{TRUST}{name}")


def written(host: str) -> str:
    """A host name or address in the form of certificates."""
    return str(_host(host).value)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now, public = datetime.now(UTC), key.public_key()
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - _EARLIER)
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    return builder.not_valid_after(now + lifetime).add_extension(identifier, critical=False)


def _usage(digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature, key_cert_sign=key_cert_sign, crl_sign=crl_sign, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _pem(key: EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
