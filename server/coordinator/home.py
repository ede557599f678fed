"""The coordinator's home: what it needs to be reached and to know who may take part.

server.yaml       addresses and ports                ca.crt, ca.key    the root that clients know the gateway by
gateway.*         the gateway's certificate          link.*, link-ca.* the SuperLink's, on loopback, and its root
                                                     superexec.secret  shared by the SuperLink and its executor
roster.json       admitted clients                    bundle/           the thin app that Flower is given
state.db          Flower's own state                  logs/, flwr/      logs, and Flower's configuration
workspace/        artifacts, lineage, registry of the runs
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import Field, model_validator

from pipeline.host.files import write_atomically
from pipeline.host.locking import is_locked, locked
from pipeline.host.services import refuse_odd
from pipeline.host.tls import Remedies, rehearse
from pipeline.kinds import Frozen
from pipeline.language.configfile import parse, read_yaml
from pipeline.language.protocol import own_version
from privacy.errors import ConfigError, WorkspaceBusy
from privacy.keys import read_secret, write_secret
from server.coordinator import authority

LINK = "here"
"""Name of the SuperLink in Flower's own configuration."""
LOOPBACK = ("127.0.0.1", "localhost")
_RENEW = "Issue a new one: sottovoce server renew"
_REMEDIES = Remedies(
    expired=_RENEW,
    not_yet="Set this machine's clock.",
    other_name=f"Correct `addresses` in server.yaml, or the certificate. {_RENEW}",
    stranger=f"{_RENEW}; or put in yours: --certificate FILE --key FILE --ca FILE",
)


@dataclass(frozen=True)
class OwnCertificate:
    """A certificate for the gateway that somebody else issued: PEM files, the chain after the certificate itself.

    root: what clients will know the gateway by.
    """

    certificate: Path
    key: Path
    root: Path

    @classmethod
    def given(cls, certificate: Path | None, key: Path | None, root: Path | None) -> OwnCertificate | None:
        """What a command was given: nothing, or all three. Raises ConfigError."""
        if certificate is None and key is None:
            return None
        if certificate is None or key is None or root is None:
            raise ConfigError(
                "a certificate of your own needs its key, and the root that clients know it by",
                remedy="Give --certificate FILE --key FILE --ca FILE.",
            )
        return cls(certificate, key, root)

    def check(self, addresses: Sequence[str]) -> None:
        """Raise ConfigError unless clients would believe it at each of these addresses."""
        for address in addresses:
            rehearse(self.certificate, self.key, self.root, address, _REMEDIES)


class ServerSettings(Frozen):
    """`server.yaml`."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$", description="Name of the federation.")
    host: str = Field("127.0.0.1", description="Address the gateway listens on.")
    port: int = Field(9443, ge=1, le=65535, description="Port of the gateway: the only one clients need.")
    link_port: int = Field(9444, ge=1, le=65535, description="Port of the SuperLink, on loopback.")
    addresses: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9.:-]{1,64}$")], ...] = Field(
        ("localhost", "127.0.0.1"), min_length=1, description="Host names and addresses clients know the gateway by."
    )

    @model_validator(mode="after")
    def _two_ports(self) -> Self:
        if self.port == self.link_port:
            raise ValueError("port and link_port must differ")
        return self


class CoordinatorHome:
    """Raises ConfigError when the folder is none."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        if not (root / "server.yaml").exists():
            raise ConfigError(f"{root} is not a coordinator's home", remedy="Make one: sottovoce server init HOME")

    @classmethod
    def create(cls, root: Path, settings: ServerSettings, own: OwnCertificate | None = None) -> CoordinatorHome:
        """Keys, certificates and secret. Raises ConfigError if there is a home already, or `own` cannot be used."""
        if (root / "server.yaml").exists():
            raise ConfigError(f"{root} is a coordinator's home already", remedy="Choose another folder.")
        refuse_odd(root)
        if own:
            own.check(settings.addresses)
        root.mkdir(parents=True, exist_ok=True)
        root.chmod(0o700)
        if not own:
            authority.create_root(root / "ca", f"{settings.name} federation")
        write_secret(root / "superexec.secret", secrets.token_bytes(32))
        (root / "roster.json").write_text("{}\n")
        (root / "server.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False))
        made = cls(root)
        made.renew(own)
        return made

    @cached_property
    def settings(self) -> ServerSettings:
        return parse(ServerSettings, read_yaml(self.root / "server.yaml"), "server.yaml")

    @property
    def workspace(self) -> Path:
        return self.root / "workspace"

    def renew(self, own: OwnCertificate | None = None) -> None:
        """New certificates: the gateway's from the home's own root, so that clients notice nothing, or `own`.

        Raises ConfigError.
        """
        if own:
            own.check(self.settings.addresses)
            pem, secret, root = (path.read_bytes() for path in (own.certificate, own.key, own.root))
            write_secret(self.root / "gateway.key", secret)
            write_atomically(self.root / "gateway.crt", pem)
            write_atomically(self.root / "ca.crt", root)
        elif self._issues:
            authority.issue(self.root / "ca", self.root / "gateway", self.settings.addresses)
        else:
            raise ConfigError(
                "the gateway's certificate was issued by somebody else",
                remedy="Ask there for a new one: sottovoce server renew --certificate FILE --key FILE",
            )
        authority.create_root(self.root / "link-ca", "SuperLink on loopback")
        authority.issue(self.root / "link-ca", self.root / "link", LOOPBACK)

    @property
    def _issues(self) -> bool:
        return (self.root / "ca.key").exists()

    @property
    def days_left(self) -> int:
        """Until the first of the certificates expires."""
        return min(authority.days_left(self.root / f"{name}.crt") for name in ("gateway", "link"))

    def check(self) -> None:
        """Raise ConfigError or SecretExposed for what would fail later: certificates, permissions."""
        for name in ("gateway.key", "link.key", "superexec.secret", *(["ca.key"] if self._issues else [])):
            try:
                read_secret(self.root / name)
            except OSError as error:
                raise ConfigError(
                    f"{self.root / name} cannot be read: {error.strerror}", remedy="Put it back from its safe place."
                ) from None
        for name, root, addresses in (("gateway", "ca", self.settings.addresses), ("link", "link-ca", LOOPBACK)):
            stem = self.root / name
            for address in addresses:
                rehearse(
                    stem.with_suffix(".crt"), stem.with_suffix(".key"), self.root / f"{root}.crt", address, _REMEDIES
                )

    def write_flower_files(self) -> None:
        """Flower's configuration, and the bundle: components and settings, no code."""
        flwr, bundle, settings = self.root / "flwr", self.root / "bundle", self.settings
        flwr.mkdir(exist_ok=True, mode=0o700)
        (flwr / "config.toml").write_text(
            f'[superlink]\ndefault = "{LINK}"\n\n[superlink.{LINK}]\naddress = "127.0.0.1:{settings.link_port}"\n'
            f"root-certificates = {json.dumps(str(self.root / 'link-ca.crt'))}\n"
        )
        shutil.rmtree(bundle, ignore_errors=True)
        bundle.mkdir()
        (bundle / "README.md").write_text("Sottovoce: each side runs what its owner installed.\n")
        (bundle / "pyproject.toml").write_text(_BUNDLE.format(version=own_version().split("+")[0]))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Raises WorkspaceBusy while a coordinator runs on this home."""
        with locked(self.root / "lock", WorkspaceBusy(f"a coordinator runs in {self.root} already")):
            yield

    @property
    def running(self) -> bool:
        """Whether a coordinator runs on this home now."""
        return is_locked(self.root / "lock")


_BUNDLE = """[project]
name = "sottovoce"
version = "{version}"
license = "Apache-2.0"

[tool.flwr.app]
publisher = "sottovoce"
fab-include = ["README.md"]

[tool.flwr.app.components]
serverapp = "server.app:app"
clientapp = "clients.app:app"

[tool.flwr.app.config]
config = ""
workspace = ""
roster = ""
run = ""
of = ""
until = ""
"""
