"""The coordinator's home: what it needs to be reached and to know who may take part.

server.yaml       addresses and ports                ca.key, ca.crt    the federation's root; clients get ca.crt
gateway.*, link.* certificates                        superexec.secret  shared by the SuperLink and its executor
roster.json       admitted clients                    bundle/           the thin app that Flower is given
state.db          Flower's own state                  logs/, flwr/      logs, and Flower's configuration
workspace/        artifacts, lineage, registry of the runs
"""

from __future__ import annotations

import fcntl
import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import Field, model_validator

from pipeline.configfile import parse, read_yaml
from pipeline.contract import Frozen
from pipeline.protocol import own_version
from pipeline.services import refuse_odd
from privacy.errors import ConfigError, WorkspaceBusy
from privacy.keys import read_secret, write_secret
from server import authority

LINK = "here"
"""Name of the SuperLink in Flower's own configuration."""


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
    def create(cls, root: Path, settings: ServerSettings) -> CoordinatorHome:
        """Keys, certificates, secret and bundle. Raises ConfigError if there is a home already."""
        if (root / "server.yaml").exists():
            raise ConfigError(f"{root} is a coordinator's home already", remedy="Choose another folder.")
        refuse_odd(root)
        root.mkdir(parents=True, exist_ok=True)
        root.chmod(0o700)
        authority.create_root(root, settings.name)
        write_secret(root / "superexec.secret", secrets.token_bytes(32))
        (root / "roster.json").write_text("{}\n")
        (root / "server.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False))
        made = cls(root)
        made.renew()
        return made

    @cached_property
    def settings(self) -> ServerSettings:
        return parse(ServerSettings, read_yaml(self.root / "server.yaml"), "server.yaml")

    @property
    def workspace(self) -> Path:
        return self.root / "workspace"

    def renew(self) -> None:
        """New certificates of the gateway and of the SuperLink from the same root: clients notice nothing."""
        authority.issue(self.root, "gateway", self.settings.addresses)
        authority.issue(self.root, "link", ("127.0.0.1", "localhost"))

    def check(self) -> None:
        """Raise ConfigError or SecretExposed for what would fail later: certificates, permissions."""
        for name in ("ca.key", "gateway.key", "link.key", "superexec.secret"):
            try:
                read_secret(self.root / name)
            except OSError as error:
                raise ConfigError(
                    f"{self.root / name} cannot be read: {error.strerror}", remedy="Put it back from its safe place."
                ) from None
        for name in ("gateway", "link"):
            stem = self.root / name
            authority.check_certificate(stem.with_suffix(".crt"), stem.with_suffix(".key"), self.root / "ca.crt")

    def write_flower_files(self) -> None:
        """Flower's configuration, and the bundle: components and settings, no code."""
        flwr, bundle, settings = self.root / "flwr", self.root / "bundle", self.settings
        flwr.mkdir(exist_ok=True, mode=0o700)
        (flwr / "config.toml").write_text(
            f'[superlink]\ndefault = "{LINK}"\n\n[superlink.{LINK}]\naddress = "127.0.0.1:{settings.link_port}"\n'
            f"root-certificates = {json.dumps(str(self.root / 'ca.crt'))}\n"
        )
        shutil.rmtree(bundle, ignore_errors=True)
        bundle.mkdir()
        (bundle / "README.md").write_text("Sottovoce: each side runs what its owner installed.\n")
        (bundle / "pyproject.toml").write_text(_BUNDLE.format(version=own_version().split("+")[0]))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Raises WorkspaceBusy while a coordinator runs on this home."""
        with open(self.root / "lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WorkspaceBusy(f"a coordinator runs in {self.root} already") from None
            yield

    @property
    def running(self) -> bool:
        """Whether a coordinator runs on this home now."""
        path = self.root / "lock"
        if not path.exists():
            return False
        with open(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


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
"""
