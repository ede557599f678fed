"""A workspace: the folder of one project's artifacts, metadata, registry and simulated clients. One run at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.host.locking import is_locked, locked
from pipeline.language.config import Config
from pipeline.language.configfile import parse
from pipeline.language.settings.storage import StorageConfig
from pipeline.store.artifacts import ArtifactStore
from pipeline.store.heads import Heads
from pipeline.store.metadata import Metadata
from privacy.errors import ConfigError, NotFound, WorkspaceBusy

DEFAULT = Path("sottovoce-workspace")


class Workspace:
    """Opens the stores that a configuration names, relative to one folder."""

    def __init__(self, root: Path, storage: StorageConfig | None = None) -> None:
        self.root = root.absolute()
        if found := [mark for mark in ("?", "#", "%", "::") if mark in str(self.root)]:
            raise ConfigError(
                f"{found[0]!r} in the workspace's path {self.root} means something else in the URLs of its stores",
                remedy="Choose a folder without ?, #, % and :: in its path.",
            )
        self.storage = storage or StorageConfig()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"the workspace {self.root} cannot be made: {error.strerror}",
                remedy="Give a folder, or the name of one that can be made, with --workspace.",
            ) from None

    @classmethod
    def existing(cls, root: Path) -> Workspace:
        """Raises NotFound."""
        if not root.is_dir():
            raise NotFound(
                f"there is no workspace {root}", remedy="Give its folder with --workspace, or run: sottovoce simulate"
            )
        return cls(root)

    def artifacts(self) -> ArtifactStore:
        return ArtifactStore(self._url(self.storage.artifacts, ""))

    def metadata(self) -> Metadata:
        return Metadata(self._url(self.storage.metadata, "sqlite:///"))

    def heads(self) -> Heads:
        return Heads(self._url(self.storage.metadata, "sqlite:///"))

    def recorded_config(self, run: str) -> Config:
        """The configuration an earlier run had. Raises NotFound; ConfigError when this version knows other settings."""
        metadata = self.metadata()
        try:
            return parse(Config, metadata.config_of(run), f"run {run}")
        finally:
            metadata.close()

    @property
    def registry_url(self) -> str:
        """MLflow tracking URL."""
        return self._url(self.storage.registry, "sqlite:///")

    @property
    def studies(self) -> str:
        """SQLAlchemy URL of the searches among settings."""
        return f"sqlite:///{self.root / 'tuning.db'}"

    @property
    def models(self) -> Path:
        """Where the files of registered versions are."""
        return self.root / "models"

    @property
    def scratch(self) -> Path:
        """Files that a running engine needs; nothing in it outlives the run."""
        return self.root / "scratch"

    @property
    def clients(self) -> Path:
        """Homes of simulated clients."""
        return self.root / "clients"

    def _url(self, place: str, scheme: str) -> str:
        return place if "://" in place else f"{scheme}{self.root / place}"

    @property
    def busy(self) -> bool:
        """Whether a run holds it now."""
        return is_locked(self.root / "lock")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the workspace for one run; a killed process lets go by itself. Raises WorkspaceBusy."""
        busy = WorkspaceBusy(
            f"another run is using {self.root}",
            remedy="Wait for it to end, or choose another folder with --workspace.",
        )
        with locked(self.root / "lock", busy):
            yield
