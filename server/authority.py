"""The federation's certificate authority: one root, and certificates for the coordinator's own addresses."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from privacy.errors import ConfigError
from privacy.keys import write_secret

ROOT_YEARS, SERVER_DAYS = 10, 397
SOON = datetime.timedelta(days=30)

Key = ec.EllipticCurvePrivateKey


def create_root(folder: Path, name: str) -> None:
    """`ca.key` (0600) and `ca.crt`: what clients need to know the coordinator by."""
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} federation")])
    builder = _builder(subject, subject, key, datetime.timedelta(days=365 * ROOT_YEARS))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    _write(folder / "ca", key, builder.sign(key, hashes.SHA384()))


def issue(folder: Path, name: str, addresses: Sequence[str]) -> None:
    """`<name>.key` (0600) and `<name>.crt` for host names and IP addresses, signed by the root in `folder`."""
    root_key = _load_key(folder / "ca.key")
    root = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, addresses[0][:64])])
    builder = _builder(subject, root.subject, key, datetime.timedelta(days=SERVER_DAYS))
    names = x509.SubjectAlternativeName([_general_name(address) for address in addresses])
    builder = builder.add_extension(names, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    _write(folder / name, key, builder.sign(root_key, hashes.SHA384()))


def check_certificate(path: Path, key: Path, root: Path) -> datetime.timedelta:
    """How long the certificate is still good for.

    Raises ConfigError when it is unreadable, expired, not yet valid, not signed by `root`, or not that of `key`.
    """
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        authority = x509.load_pem_x509_certificate(root.read_bytes())
    except (OSError, ValueError):
        raise ConfigError(f"{path} or {root} is not a readable certificate", remedy=_RENEW) from None
    now = datetime.datetime.now(datetime.UTC)
    if now >= certificate.not_valid_after_utc:
        raise ConfigError(f"{path} expired on {certificate.not_valid_after_utc:%Y-%m-%d}", remedy=_RENEW)
    if now < certificate.not_valid_before_utc:
        raise ConfigError(f"{path} is valid only from {certificate.not_valid_before_utc:%Y-%m-%d}", remedy=_CLOCK)
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, Exception) as error:  # cryptography raises its own kinds here
        raise ConfigError(f"{path} was not issued by {root}", remedy=_RENEW) from error
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(path, key)
    except (OSError, ssl.SSLError):
        raise ConfigError(f"{key} cannot be read, or is not the key of {path}", remedy=_RENEW) from None
    return certificate.not_valid_after_utc - now


_RENEW = "Issue a new one: sottovoce server renew"
_CLOCK = "Set this machine's clock."


def _builder(subject: x509.Name, issuer: x509.Name, key: Key, age: datetime.timedelta) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + age)
    )


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _write(stem: Path, key: Key, certificate: x509.Certificate) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_secret(stem.with_suffix(".key"), pem)
    stem.with_suffix(".crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _load_key(path: Path) -> Key:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError):
        raise ConfigError(f"{path} is not a readable private key", remedy="Put it back from its safe place.") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{path} is not an elliptic-curve key")
    return key
