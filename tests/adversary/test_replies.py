"""Every reply that depends on data is a release: charged, or a function of what the owner fixed.

Two clients that differ in nothing but their table are asked the same, action by action. Where no ledger was charged,
all that comes back is equal, refusals and their words included; digests under the client's own key tell nobody.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from flwr.app import Message

from clients.home import Home
from clients.sources.parquet import Parquet
from pipeline.language.config import Config
from pipeline.language.lines import Lines
from pipeline.language.packing import pack
from pipeline.language.protocol import Action, JoinRequest, PreprocessRequest, ValidateRequest, own_version
from pipeline.language.protocol import IngestRequest as Ingest
from tests.adversary.coordinator import Coordinator
from tests.support import configured, homes_for

Table = Callable[[pd.DataFrame], pd.DataFrame]


def broken(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(age="old", lab="???", unit="garden", died="perhaps")


TABLES: dict[str, Table] = {
    "no row": lambda frame: frame.iloc[:0],
    "one row": lambda frame: frame.iloc[:1],
    "ten times the rows": lambda frame: pd.concat([frame] * 10, ignore_index=True),
    "one record less": lambda frame: frame.iloc[1:],
    "nothing that is declared": broken,
    "one class": lambda frame: frame.assign(died="yes"),
    "numbers": lambda frame: frame.assign(age=frame["age"].astype(float), lab=frame["lab"].astype(float)),
    "infinities": lambda frame: frame.assign(age=np.inf, lab=-np.inf),
    "gaps": lambda frame: frame.assign(age=None, unit=None),
}


class Asked:
    """One client under one table, and what it said: documents and errors with keyed digests taken out."""

    def __init__(self, liar: Coordinator, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.liar, self.name = liar, name
        self.keyed: list[str] = []
        real = Home.digest

        def digest(home: Home, *parts: bytes) -> str:
            made = real(home, *parts)
            self.keyed.append(made)
            return made

        monkeypatch.setattr(Home, "digest", digest)

    def __call__(self, action: Action, request: Any, blobs: dict[str, bytes] | None = None) -> tuple[Any, int]:
        """What came back, and how much was charged for it."""
        before = self.charges()
        node = self.liar.nodes[self.name]
        (reply,) = self.liar.grid.send_and_receive([Message(pack(request, blobs or {}), node, action.value)])
        if reply.has_error():
            said: Any = ("error", reply.error.code, reply.error.reason)
        else:
            document = str(reply.content.config_records["message"]["json"])
            for digest in self.keyed:
                document = document.replace(digest, "<keyed>")
            said = ("reply", json.loads(document))
        return said, self.charges() - before

    def charges(self) -> int:
        return sum(row.kind == "reserve" for row in self.liar.home(self.name).ledger.rows())


def walk(folder: Path, config: Config, change: Table | None, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Everything that can be asked of one client; the others are as they are."""
    liar = Coordinator({path.name: path for path in sorted(folder.iterdir()) if path.is_dir()}, config)
    source = liar.home("east").policy.source.path
    if change is not None:
        change(pd.read_parquet(source)).astype(str).to_parquet(source) if change is broken else change(
            pd.read_parquet(source)
        ).to_parquet(source)
    others = sorted(set(liar.homes) - {"east"})
    names = sorted(liar.homes)
    liar.prepare(*others)
    with monkeypatch.context() as patch:
        ask = Asked(liar, "east", patch)
        said: dict[str, Any] = {}
        said["join"] = ask(Action.JOIN, JoinRequest(version=own_version()))
        said["ingest"] = ask(Action.INGEST, Ingest(contract=config.data))
        liar.prepare("east")
        snapshot = liar.snapshots["east"]
        said["preprocess"] = ask(
            Action.PREPROCESS, PreprocessRequest(spec=liar.spec, snapshot=snapshot, holdout=config.data.holdout)
        )
        fields: dict[str, Any] = {"contract": config.data, "checks": config.validation, "privacy": config.privacy}
        fields["lines"] = Lines.of(config).lines
        request = ValidateRequest.model_validate({**fields, "snapshot": snapshot})
        said["validate"] = ask(Action.VALIDATE, request)
        said["validate again"] = ask(Action.VALIDATE, request)
        liar.group("s1", "statistics", names)
        said["statistics"] = ask(Action.STATISTICS, liar.statistics_request("s1", "east", names))
        said["keys"] = ask(Action.KEYS, liar.keys_request("f1", names, leader="east"))
        terms = liar.group("e1", "train", names)
        first = {"initial": liar.initial}
        said["train"] = ask(Action.TRAIN, liar.train_request("e1", "east", names), first)
        for number, dead in enumerate(({"delta": 0.5}, {"epsilon": 1e4}, {"clipping_norm": 1e-3}), start=2):
            privacy = config.privacy.model_copy(update=dead)  # type: ignore[union-attr]
            liar.group(f"e{number}", "train", names)
            refused = liar.train_request(f"e{number}", "east", names, privacy=privacy)
            said[f"train {dead}"] = ask(Action.TRAIN, refused, first)
        uploads = {name: liar.train("e1", name, names) for name in names}
        from privacy.statement import agreed

        total = liar.add(terms, 1, uploads, names, agreed(liar.basis, ""))
        said["train again"] = ask(Action.TRAIN, liar.train_request("e1", "east", names), first)
        liar.group("g1", "evaluate", names)
        said["evaluate"] = ask(Action.EVALUATE, liar.evaluate_request("g1", "east", names), {"weights": liar.initial})
        liar.reveal("east", "e1", "model", [total])
    return said


def test_what_is_not_charged_depends_on_nothing_but_what_the_owner_fixed(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(dataset, statistics__epsilon_share=0.3)
    homes_for(config, tmp_path / "as-it-is")
    said: dict[str, dict[str, Any]] = {}
    for number, (what, change) in enumerate([("as it is", None), *TABLES.items()]):
        folder = tmp_path / f"t{number}"
        shutil.copytree(tmp_path / "as-it-is", folder)
        for home in (path for path in folder.iterdir() if path.is_dir()):
            policy = Home(home).policy
            Home.write_policy(
                home, policy.model_copy(update={"source": Parquet(path=home / "source" / "data.parquet")})
            )
        said[what] = walk(folder, config, change, monkeypatch)
    expected = said.pop("as it is")
    assert {action for action, (_, charged) in expected.items() if charged} >= {
        "validate",
        "statistics",
        "train",
        "evaluate",
    }
    for what, of in said.items():
        for action, (reply, charged) in of.items():
            told, cost = expected[action]
            assert charged == cost, f"{action} with {what}"
            if not charged and action != "validate again":
                assert reply == told, f"{action} with {what}"
            assert reply[0] == told[0], f"{action} with {what}: {reply}"


def test_every_action_is_walked() -> None:
    """Whoever adds an action adds it above."""
    assert {action.name for action in Action} == {
        "JOIN",
        "KEYS",
        "INGEST",
        "VALIDATE",
        "STATISTICS",
        "PREPROCESS",
        "TRAIN",
        "EVALUATE",
        "REVEAL",
    }
