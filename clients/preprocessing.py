"""preprocess: a snapshot as feature matrices on disk, by the declared spec. Nothing is fitted, nothing is charged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
from safetensors.numpy import load_file, save

from clients.home import Home
from clients.ingestion import PLACE, load_snapshot
from pipeline.features import FeatureSpec, Matrix
from pipeline.files import read_json, write_atomically
from pipeline.packing import Blobs
from pipeline.protocol import PreprocessReply, PreprocessRequest
from privacy.errors import SourceMissing
from privacy.population import Population


@dataclass(frozen=True)
class Split:
    """One split of the preprocessed data: features [rows, width], labels [rows], and the records it consists of."""

    features: Matrix
    labels: Matrix
    population: Population


def preprocess(home: Home, request: PreprocessRequest, blobs: Blobs) -> tuple[PreprocessReply, Blobs]:
    """Features of every record, ordered by place, in a safetensors file named by its digest."""
    home.permit_data(request.spec)
    snapshot = load_snapshot(home, request.snapshot)
    digest = home.digest(b"features", request.snapshot.encode(), request.spec.model_dump_json().encode())
    folder = home.root / "features" / digest
    if not (folder / "manifest.json").exists():
        arrays = {
            "features": request.spec.matrix(snapshot.frame),
            "labels": request.spec.labels(snapshot.frame),
            "places": snapshot.frame[PLACE].to_numpy(dtype=np.float64),
        }
        write_atomically(folder / "data.safetensors", save(arrays))
        spec = request.spec.model_dump(mode="json")
        manifest = {"snapshot": request.snapshot, "basis": snapshot.basis, "spec": spec}
        write_atomically(folder / "manifest.json", json.dumps(manifest).encode())
    return PreprocessReply(features=digest), {}


def load_split(home: Home, features: str, which: Literal["training", "held-out"], holdout: float) -> Split:
    """Records whose place is below `holdout` are held out; the others train.

    Raises SourceMissing; ForbiddenColumn, ContractRefused when the owner has changed what runs may have.
    """
    folder = home.root / "features" / features
    try:
        manifest = read_json(folder / "manifest.json")
        home.permit_data(FeatureSpec.model_validate(manifest["spec"]))
        arrays = load_file(folder / "data.safetensors")
        basis = str(manifest["basis"])
    except FileNotFoundError:
        raise SourceMissing("this client does not have those features", travels=True) from None
    cut = int(np.searchsorted(arrays["places"], holdout))
    rows = slice(cut, None) if which == "training" else slice(None, cut)
    low, high = (holdout, 1.0) if which == "training" else (0.0, holdout)
    return Split(arrays["features"][rows], arrays["labels"][rows], Population(low, high, basis))
