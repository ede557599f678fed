"""Whether one side will believe the other: rehearsed in memory by who holds a certificate, tried by who dials.

OpenSSL itself decides, as it will when it matters: names, dates, chains of any length.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from privacy.errors import ConfigError

EXPIRED, NOT_YET, OTHER_NAME, OTHER_ADDRESS = 10, 9, 62, 64
"""OpenSSL's X509_V_ERR_ numbers; whatever else it says means that the root does not vouch for the certificate."""


@dataclass(frozen=True)
class Remedies:
    """What to do when a certificate has expired, is not valid yet, names somebody else, or is a stranger's."""

    expired: str
    not_yet: str
    other_name: str
    stranger: str


def rehearse(certificate: Path, key: Path, root: Path, name: str, remedies: Remedies) -> None:
    """Let a client that trusts `root` alone shake hands in memory with who holds `certificate` and calls itself `name`.

    Raises ConfigError when it would not, or a file cannot be used.
    """
    holder = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        holder.load_cert_chain(certificate, key, password=lambda: b"")
    except (OSError, ssl.SSLError):
        raise ConfigError(
            f"{certificate} and {key} cannot be read, or do not belong together", remedy=remedies.stranger
        ) from None
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    dialling = trusting(root).wrap_bio(back, there, server_hostname=name)
    answering = holder.wrap_bio(there, back, server_side=True)
    try:
        for side in (dialling, answering, dialling, answering):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
    except ssl.SSLCertVerificationError as error:
        raise _explained(error, str(certificate), str(root), name, remedies) from None
    except ssl.SSLError as error:
        raise ConfigError(f"{certificate} cannot be used: {error.reason}", remedy=remedies.stranger) from None


def greet(host: str, port: int, root: Path, remedies: Remedies, seconds: float = 5.0) -> None:
    """Shake hands with whoever answers there. Raises ConfigError when it is not whom `root` vouches for.

    That nobody answers, or not in time, is no error: it may answer later.
    """
    context = trusting(root)
    try:
        with socket.create_connection((host, port), timeout=seconds) as plain:
            context.wrap_socket(plain, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        raise _explained(error, f"the certificate of {host}:{port}", str(root), host, remedies) from None
    except OSError:
        return


def trusting(root: Path) -> ssl.SSLContext:
    """A client's side that trusts the certificates in `root` and no other. Raises ConfigError."""
    try:
        return ssl.create_default_context(cafile=str(root))
    except (OSError, ssl.SSLError):
        raise ConfigError(f"{root} is not a readable certificate", remedy="Put the operator's ca.crt there.") from None


def _explained(error: ssl.SSLCertVerificationError, what: str, root: str, name: str, remedies: Remedies) -> ConfigError:
    said = {
        EXPIRED: (f"{what} has expired", remedies.expired),
        NOT_YET: (f"{what} is not valid yet", remedies.not_yet),
        OTHER_NAME: (f"{what} is not made out to {name}", remedies.other_name),
        OTHER_ADDRESS: (f"{what} is not made out to {name}", remedies.other_name),
    }
    stranger = (f"{what} was not issued by {root} ({error.verify_message})", remedies.stranger)
    cause, remedy = said.get(error.verify_code, stranger)
    return ConfigError(cause, remedy=remedy)
