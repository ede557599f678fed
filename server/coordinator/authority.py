"""The federation's certificate authorities: roots, and certificates for the coordinator's own addresses."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from privacy.errors import ConfigError
from privacy.keys import write_secret

ROOT_YEARS, SERVER_DAYS = 10, 397

Key = ec.EllipticCurvePrivateKey


def create_root(stem: Path, name: str) -> None:
    """`<stem>.key` (0600) and `<stem>.crt`: what the other side needs to know the holder by."""
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, subject, key, datetime.timedelta(days=365 * ROOT_YEARS))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    _write(stem, key, builder.sign(key, hashes.SHA384()))


def issue(root: Path, stem: Path, addresses: Sequence[str]) -> None:
    """`<stem>.key` (0600) and `<stem>.crt` for host names and IP addresses, signed by the root with that stem.

    Raises ConfigError when the root's key is not there.
    """
    root_key = _load_key(root.with_suffix(".key"))
    issuer = x509.load_pem_x509_certificate(root.with_suffix(".crt").read_bytes())
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, addresses[0][:64])])
    builder = _builder(subject, issuer.subject, key, datetime.timedelta(days=SERVER_DAYS))
    names = x509.SubjectAlternativeName([_general_name(address) for address in addresses])
    builder = builder.add_extension(names, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    _write(stem, key, builder.sign(root_key, hashes.SHA384()))


def days_left(path: Path) -> int:
    """For how many whole days a certificate is still good. Raises ConfigError."""
    return (_load(path).not_valid_after_utc - datetime.datetime.now(datetime.UTC)).days


def addresses_of(path: Path) -> tuple[str, ...]:
    """The host names and addresses a certificate is made out to, wildcards left out. Raises ConfigError."""
    try:
        names = _load(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    found = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    return tuple(name for name in found if "*" not in name)


def _load(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        raise ConfigError(f"{path} is not a readable certificate", remedy="It has to be a file in PEM form.") from None


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
