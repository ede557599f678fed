"""The model registry on MLflow: immutable versions with everything needed to use and to judge them, and aliases.

A version is a folder of plain files (weights as safetensors, the rest JSON), named by their digests in the registry's
tags, so that whoever loads a version can tell that it is the one that was registered. No pickle.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import threading
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.host.environment import quiet_environment
from pipeline.host.locking import locked
from pipeline.store.traffic import CHALLENGER, CHAMPION, Traffic
from privacy.errors import NotFound, SottovoceError, StorageError, VersionRefused

ERROR = "_error"
"""What the name of a metric's standard error ends with."""
_SQLITE = "sqlite:///"
_TRAFFIC = "traffic"


@dataclass(frozen=True)
class Registered:
    """A version as the registry describes it."""

    name: str
    version: int
    folder: Path
    digests: Mapping[str, str]
    metrics: Mapping[str, float]
    errors: Mapping[str, float]
    blessed: bool = False
    dropped: str = ""
    """Why it is challenger no more; empty: it never was, or still is."""
    retired: str = ""
    """Why nobody is to use it any more; empty: it may be used."""
    registered: float = 0.0
    """When, in seconds since 1970."""
    said: Mapping[str, str] = field(default_factory=dict)
    """What was noted at it: reasons against it, and evidence."""

    def read(self, file: str) -> bytes:
        """A file of the version. Raises VersionRefused when it is missing or not what was registered."""
        try:
            content = (self.folder / file).read_bytes()
        except OSError:
            raise VersionRefused(f"{self.name} v{self.version}: {file} is missing from {self.folder}") from None
        if hashlib.sha256(content).hexdigest() != self.digests.get(file):
            raise VersionRefused(
                f"{self.name} v{self.version}: {file} was altered after registration",
                remedy="Restore the file, or register the model again.",
            )
        return content


@dataclass(frozen=True)
class Registry:
    """Where the registry is. Opens MLflow when first used; can be sent to another process."""

    url: str
    models: Path

    def _client(self) -> Any:
        quiet_environment()
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from mlflow import MlflowClient

            logging.getLogger("mlflow").setLevel(logging.ERROR)  # its import has set it to INFO
            if self.url.startswith(_SQLITE):
                _create_whole(Path(self.url.removeprefix(_SQLITE)), MlflowClient)
            return MlflowClient(tracking_uri=self.url, registry_uri=self.url)

    def warm(self) -> None:
        """Begin to open it: MLflow takes seconds to import, and who is asked soon has them by then. What goes wrong is
        said when it is asked."""

        def open_it() -> None:
            with suppress(Exception):
                self._client()

        threading.Thread(target=open_it, name="registry", daemon=True).start()

    def register(
        self,
        name: str,
        files: Mapping[str, bytes],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        errors: Mapping[str, float] | None = None,
    ) -> Registered:
        """A new version of `name`. Registering equal files again gives the version they already have.

        errors: one standard error of each metric.
        """
        from mlflow.exceptions import MlflowException

        client = self._client()
        digests = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
        identity = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        for found in self.versions(name):
            if found.folder.name == identity[:16]:
                return found
        folder = self.models / name / identity[:16]
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        experiment = client.get_experiment_by_name(name)
        experiment_id = (
            experiment.experiment_id if experiment else client.create_experiment(name, str(self.models / name))
        )
        run = client.create_run(experiment_id, tags=dict(tags))
        told = {f"{metric}{ERROR}": error for metric, error in (errors or {}).items()}
        for metric, value in {**metrics, **told}.items():
            client.log_metric(run.info.run_id, metric, value)
        client.set_terminated(run.info.run_id)
        made = client.create_model_version(
            name, source=str(folder), run_id=run.info.run_id, tags={**tags, "digests": json.dumps(digests)}
        )
        return self._describe(client, made)

    def versions(self, name: str) -> list[Registered]:
        """All versions, newest first; empty for an unknown name. What another tool registered is not looked at."""
        client = self._client()
        found = [version for version in client.search_model_versions(f"name='{name}'") if _ours(version)]
        return sorted((self._describe(client, version) for version in found), key=lambda v: -v.version)

    def champion(self, name: str) -> Registered | None:
        """The version that the alias points to, if any."""
        return self._aliased(name, CHAMPION)

    def _aliased(self, name: str, alias: str) -> Registered | None:
        from mlflow.exceptions import MlflowException

        client = self._client()
        try:
            found = client.get_model_version_by_alias(name, alias)
            return self._describe(client, found) if _ours(found) else None
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def challenger(self, name: str) -> Registered | None:
        """The version that has to earn its place, if any."""
        return self._aliased(name, CHALLENGER)

    def promote(self, name: str, version: int) -> None:
        """Point the alias `champion` at `version`. Raises NotFound."""
        self._point(name, CHAMPION, version)

    def challenge(self, name: str, version: int | None) -> None:
        """Point the alias `challenger` at `version`, or at none. Raises NotFound."""
        if version is None:
            self._client().delete_registered_model_alias(name, CHALLENGER)
        else:
            self._point(name, CHALLENGER, version)

    def _point(self, name: str, alias: str, version: int) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client().set_registered_model_alias(name, alias, str(version))
        except MlflowException as error:
            raise _refused(error, f"{name} has no version {version}") from None

    def traffic(self, name: str) -> Traffic:
        """Which versions answer: all by the champion, where nobody said otherwise. Raises NotFound, VersionRefused."""
        from mlflow.exceptions import MlflowException

        try:
            told = self._client().get_registered_model(name).tags.get(_TRAFFIC)
        except MlflowException as error:
            raise _refused(error, f"there is no model {name}") from None
        try:
            return Traffic.model_validate_json(told) if told else Traffic()
        except ValueError:
            raise VersionRefused(
                f"the registry says of {name}'s traffic what this version does not read",
                remedy="Say it anew: sottovoce traffic split champion=1",
            ) from None

    def direct(self, name: str, traffic: Traffic) -> None:
        """Move the traffic, in one write. Raises NotFound when it names a version that is not registered."""
        from mlflow.exceptions import MlflowException

        for version in traffic.versions:
            if version != CHAMPION:
                self.usable(name, int(version))
        try:
            self._client().set_registered_model_tag(name, _TRAFFIC, traffic.model_dump_json())
        except MlflowException as error:
            raise _refused(error, f"there is no model {name}") from None

    def version(self, name: str, number: int) -> Registered:
        """One version. Raises NotFound."""
        from mlflow.exceptions import MlflowException

        client = self._client()
        try:
            found = client.get_model_version(name, str(number))
            if _ours(found):
                return self._describe(client, found)
        except MlflowException as error:
            raise _refused(error, f"{name} has no version {number}") from None
        raise NotFound(f"version {number} of {name} was registered by another tool")

    def usable(self, name: str, number: int) -> Registered:
        """One version that is not retired. Raises NotFound, VersionRefused."""
        found = self.version(name, number)
        if found.retired:
            raise VersionRefused(
                f"version {number} of {name} is retired: {found.retired}",
                remedy=f"Choose another one: sottovoce models list --model {name}",
            )
        return found

    @property
    def stamp(self) -> tuple[int, int, int] | None:
        """Another one after each change of a registry in one file, also by a restored copy; None: ask to know.

        Raises FileNotFoundError when the file is away.
        """
        if not self.url.startswith(_SQLITE):
            return None
        found = Path(self.url.removeprefix(_SQLITE)).stat()
        return found.st_ino, found.st_mtime_ns, found.st_size

    def reopened(self, times: int) -> Registry:
        """The same registry by another spelling of its path: MLflow keeps a file open by its name, and would go on
        reading one that another has replaced."""
        if not self.url.startswith(_SQLITE):
            return self
        path = Path(self.url.removeprefix(_SQLITE))
        return Registry(f"{_SQLITE}{path.parent}/{'./' * times}{path.name}", self.models)

    def note(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Say of a version what changes with the others: its files, and what they say, never do."""
        client = self._client()
        for tag, value in tags.items():
            client.set_model_version_tag(name, str(version), tag, value)

    def names(self) -> list[str]:
        """All registered models."""
        return sorted(model.name for model in self._client().search_registered_models())

    @staticmethod
    def _describe(client: Any, version: Any) -> Registered:
        run = client.get_run(version.run_id)
        return Registered(
            name=version.name,
            version=int(version.version),
            folder=Path(version.source),
            digests=json.loads(version.tags.get("digests", "{}")),
            metrics={name: value for name, value in run.data.metrics.items() if not name.endswith(ERROR)},
            errors={
                name.removesuffix(ERROR): value for name, value in run.data.metrics.items() if name.endswith(ERROR)
            },
            blessed=version.tags.get("blessed") == "true",
            dropped=version.tags.get("dropped", ""),
            retired=version.tags.get("retired", ""),
            registered=version.creation_timestamp / 1000,
            said={name: value for name, value in version.tags.items() if name != "digests"},
        )


def _ours(version: Any) -> bool:
    """Whether it was registered here: others may use the same registry."""
    return bool(version.run_id) and "digests" in version.tags


def _refused(error: Any, missing: str) -> SottovoceError:
    """What MLflow's error means: something is not there, or the registry cannot be read or written."""
    if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
        return NotFound(missing)
    lines = str(error).splitlines() or [type(error).__name__]
    told = next((line for line in lines if "sqlite3." in line or "psycopg." in line), lines[0])
    return StorageError(
        f"the registry does not answer: {told.strip()[:200]}", remedy="Free its disk, or wait and retry."
    )


def _create_whole(path: Path, client: Any) -> None:
    """MLflow's tables in a file that appears whole or not at all, whoever comes first.

    MLflow makes them one by one: two processes at once, or a disk that is full, would leave a file it cannot use.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f"{path.name}.lock")):
        if path.exists():
            return
        building, whole = path.with_name(f".{path.name}.{os.getpid()}"), path.with_name(f".{path.name}.new")
        try:
            url = f"{_SQLITE}{building}"
            client(tracking_uri=url, registry_uri=url).search_registered_models()
            shutil.copyfile(building, whole)  # a copy, because MLflow keeps the first one open
            os.replace(whole, path)
        finally:
            building.unlink(missing_ok=True)
            whole.unlink(missing_ok=True)
