"""preprocess: a snapshot as feature matrices on disk, by one spec. It fits nothing, so nothing is charged here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors.numpy import load_file, save

from clients.home import Home
from clients.ingestion import PLACE, load_snapshot
from pipeline.host.files import read_json, write_atomically
from pipeline.language.packing import Blobs
from pipeline.language.protocol import PreprocessReply, PreprocessRequest
from pipeline.learning.columns.column import Matrix
from pipeline.learning.features import FeatureSpec
from privacy.errors import ProtocolError
from privacy.noise import Integers, SecureNoise
from privacy.population import Population
from privacy.sampling import one_of_each


@dataclass(frozen=True)
class Split:
    """One split of the preprocessed data: features [rows, width], targets [rows], and the records it consists of.

    persons: rows of each person, one after the other; where the source names no persons, each row is one.
    """

    features: Matrix
    targets: Matrix
    population: Population
    persons: Integers

    def one_a_person(self, source: SecureNoise) -> Split:
        """One record of each person, drawn at random."""
        drawn = one_of_each(self.persons, source)
        ones = np.ones(len(drawn), dtype=np.int64)
        return Split(self.features[drawn], self.targets[drawn], self.population, ones)


@dataclass(frozen=True)
class Features:
    """Features on disk, made from a snapshot of the source as it is now. Nothing of them was read yet."""

    folder: Path
    basis: str

    def population(self, which: Literal["training", "held-out"], holdout: float) -> Population:
        """Records whose place is below `holdout` are held out; the others train."""
        low, high = (holdout, 1.0) if which == "training" else (0.0, holdout)
        return Population(low, high, self.basis)

    def split(self, which: Literal["training", "held-out"], holdout: float) -> Split:
        """The records themselves: to be called after the charge."""
        arrays = load_file(self.folder / "data.safetensors")
        cut = int(np.searchsorted(arrays["places"], holdout))
        rows = slice(cut, None) if which == "training" else slice(None, cut)
        persons = np.unique(arrays["places"][rows], return_counts=True)[1]
        return Split(arrays["features"][rows], arrays["targets"][rows], self.population(which, holdout), persons)


def preprocess(home: Home, request: PreprocessRequest, blobs: Blobs) -> tuple[PreprocessReply, Blobs]:
    """Features of every record, ordered by place, in a safetensors file named by its digest."""
    home.permit_data(request.spec, request.holdout)
    snapshot = load_snapshot(home, request.snapshot)
    digest = home.digest(b"features", request.snapshot.encode(), request.spec.model_dump_json().encode())
    folder = home.snapshots.features(request.snapshot, digest)
    if not (folder / "manifest.json").exists():
        arrays = {
            "features": request.spec.matrix(snapshot.frame),
            "targets": request.spec.targets(snapshot.frame),
            "places": snapshot.frame[PLACE].to_numpy(dtype=np.float64),
        }
        write_atomically(folder / "data.safetensors", save(arrays))
        spec = request.spec.model_dump(mode="json")
        manifest = {"snapshot": request.snapshot, "basis": snapshot.basis, "spec": spec}
        write_atomically(folder / "manifest.json", json.dumps(manifest).encode())
    return PreprocessReply(features=digest), {}


def find_features(home: Home, features: str, spec: FeatureSpec, holdout: float) -> Features:
    """Features of the source as it is now, for a run over `spec`.

    Raises SourceChanged; ForbiddenColumn, ContractRefused when the owner has changed what runs may have;
    ProtocolError when they were made by another spec.
    """
    home.permit_data(spec, holdout)
    found = next(home.root.glob(f"snapshots/*/features/{features}/manifest.json"), None)
    if found is None:
        raise home.snapshots.outdated()
    manifest = read_json(found)
    home.snapshots.current(str(manifest["snapshot"]))
    if manifest["spec"] != spec.model_dump(mode="json"):
        raise ProtocolError("the features were made by another spec than the request names", travels=True)
    return Features(found.parent, str(manifest["basis"]))
