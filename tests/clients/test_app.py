"""The ClientApp at its border: what it answers, what it refuses, and that nothing private leaves in an error."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clients.home import Home
from clients.ingestion import load_snapshot
from clients.preprocessing import find_features
from pipeline.language.config import Config
from pipeline.language.packing import INLINE, pack, unpack
from pipeline.language.protocol import Action, IngestReply, IngestRequest, JoinReply, JoinRequest, own_version
from pipeline.learning.contract import DataContract
from pipeline.learning.features import FeatureSpec
from privacy.errors import ContractRefused, ForbiddenColumn, ProtocolError
from tests.support import Federation, LocalGrid, ask, change, error, homes_for

SECRET = "Jane Doe, age 34"


@pytest.fixture
def grid(config: Config, tmp_path: Path) -> LocalGrid:
    return LocalGrid(homes_for(config, tmp_path / "clients"))


def home(grid: LocalGrid, client: int = 0) -> Home:
    return Home(Path(str(grid.contexts[sorted(grid.names)[client]].node_config["home"])))


def test_join_says_who_and_which_data(grid: LocalGrid) -> None:
    def joined() -> JoinReply:
        return unpack(JoinReply, ask(grid, Action.JOIN, pack(JoinRequest(version=own_version()))).content)[0]

    first = joined()
    assert (first.name, first.version) == ("centre", own_version())
    assert joined() == first
    source = home(grid).policy.source.path
    source.touch()
    assert joined() == first, "what was only touched is the same"
    frame = pd.read_parquet(source)
    frame.iloc[1:].to_parquet(source)
    changed = joined()
    assert changed.fingerprint != first.fingerprint
    frame.to_parquet(source)
    assert joined().fingerprint not in (first.fingerprint, changed.fingerprint), "and back again is another one"


def test_another_version_is_refused_with_both_named(grid: LocalGrid) -> None:
    code, text = error(ask(grid, Action.JOIN, pack(JoinRequest(version="9.9"))))
    assert code == "version-mismatch"
    assert "9.9" in text
    assert own_version() in text


def test_a_node_without_home_says_so(grid: LocalGrid) -> None:
    grid.contexts[sorted(grid.names)[0]].node_config["home"] = "/nonexistent"
    assert error(ask(grid, Action.JOIN, pack(JoinRequest(version=own_version()))))[0] == "config"


def test_missing_source_missing_column_too_few_rows_and_junk(grid: LocalGrid, config: Config) -> None:
    request = pack(IngestRequest(contract=config.data))
    source = home(grid).policy.source.path
    good = pd.read_parquet(source)

    good.drop(columns="lab").to_parquet(source)
    assert error(ask(grid, Action.INGEST, request)) == (
        "column-missing",
        "the data source has no column lab. Add it to the source, or take it out of data.columns.",
    )
    source.write_text(SECRET)
    assert error(ask(grid, Action.INGEST, request))[0] == "contract-violated"
    source.unlink()
    assert error(ask(grid, Action.INGEST, request))[0] == "source-missing"
    assert SECRET not in str(grid.replies)


def test_how_many_rows_there_are_decides_about_nothing(grid: LocalGrid, config: Config) -> None:
    """What is declared does: with more than a run or an owner demands, ten rows are as welcome as ten thousand."""
    request = pack(IngestRequest(contract=config.data))
    mine = home(grid)
    pd.read_parquet(mine.policy.source.path).head(10).to_parquet(mine.policy.source.path)
    assert not ask(grid, Action.INGEST, request).has_error()
    Home.write_policy(mine.root, mine.policy.model_copy(update={"rows": 49}))
    code, text = error(ask(grid, Action.INGEST, request))
    assert (code, "49 rows are declared" in text) == ("too-few-rows", True)


def test_the_owner_s_policy_outranks_the_contract(grid: LocalGrid, config: Config) -> None:
    mine = home(grid)
    Home.write_policy(mine.root, mine.policy.model_copy(update={"forbidden_columns": ("lab",)}))
    code, text = error(ask(grid, Action.INGEST, pack(IngestRequest(contract=config.data))))
    assert code == "forbidden-column"
    assert "lab" in text


def test_an_owner_s_contract_outranks_the_run_s(grid: LocalGrid, config: Config) -> None:
    mine, data = home(grid), config.data
    path = mine.root / "contract.yaml"

    def told(asked: DataContract) -> str:
        reply = ask(grid, Action.INGEST, pack(IngestRequest(contract=asked)))
        return "" if not reply.has_error() else " ".join(error(reply))

    def owned(**changes: object) -> None:
        path.write_text(yaml.safe_dump(change(data.model_dump(mode="json"), changes)))

    owned()
    assert told(data) == ""
    assert told(data.model_copy(update={"columns": {"age": data.columns["age"]}})) == "", "less is granted too"
    owned(holdout=0.5)
    assert "it holds out 0.2 of the records, not 0.5" in told(data)
    owned(min_rows=100_000)
    assert "at least 100,000 are needed" in told(data)
    owned(columns__age__high=60)
    assert "contract-refused" in told(data)
    assert "declares the column age otherwise" in told(data)
    owned(columns={"age": data.columns["age"].model_dump(mode="json")})
    assert "uses the column lab; it uses the column unit" in told(data)
    owned(task__positive=["no"])
    assert "it learns whether died is in (yes)" in told(data)
    assert "agree on one contract" in told(data).lower()


@pytest.mark.whole
def test_what_the_owner_forbids_later_is_refused_also_where_it_lies_prepared(federation: Federation) -> None:
    """A coordinator that names a snapshot or features of yesterday gets nothing either."""
    federation.run()
    mine = Home(federation.homes["north"])
    snapshot = next(mine.root.glob("snapshots/*")).name
    features = next(mine.root.glob("snapshots/*/features/*")).name
    spec = FeatureSpec.of(federation.config.data)
    assert len(load_snapshot(mine, snapshot).frame) > 0
    assert len(find_features(mine, features, spec, 0.2).split("training", 0.2).targets) > 0
    Home.write_policy(mine.root, mine.policy.model_copy(update={"forbidden_columns": ("lab",)}))
    for prepared in (
        lambda home: load_snapshot(home, snapshot),
        lambda home: find_features(home, features, spec, 0.2),
    ):
        with pytest.raises(ForbiddenColumn, match="lab"):
            prepared(Home(mine.root))
    Home.write_policy(mine.root, mine.policy)
    (mine.root / "contract.yaml").write_text(
        yaml.safe_dump(change(federation.config.data.model_dump(mode="json"), {"columns__age__low": 0}))
    )
    with pytest.raises(ContractRefused, match="age"):
        find_features(Home(mine.root), features, spec, 0.2)


def test_an_action_the_policy_does_not_allow_is_refused(grid: LocalGrid, config: Config) -> None:
    mine = home(grid)
    Home.write_policy(mine.root, mine.policy.model_copy(update={"allowed_actions": ("join", "validate")}))
    code, text = error(ask(grid, Action.INGEST, pack(IngestRequest(contract=config.data))))
    assert code == "action-forbidden"
    assert "ingest" in text


@pytest.mark.whole
def test_a_model_larger_than_the_owner_allows_is_refused_before_anything_is_charged(federation: Federation) -> None:
    mine = Home(federation.homes["north"])
    Home.write_policy(mine.root, mine.policy.model_copy(update={"max_parameters": 30}))
    federation.run()
    assert list(federation.excluded.values()) == ["action-forbidden"], "when it joins: nobody knows its name yet"
    assert federation.charges("north") == {}


def test_places_are_keyed_also_for_a_table_of_numbers(grid: LocalGrid) -> None:
    from clients.places import places

    numbers = pd.DataFrame({"a": range(500), "b": range(500)})
    mine, other = places(numbers, bytes(16)), places(numbers, bytes([1]) * 16)
    assert (mine != other).all()
    assert 0 <= mine.min() < 0.05
    assert 0.95 < mine.max() < 1
    assert len(home(grid).place_key) == 16


def test_a_score_that_is_not_a_number_is_counted_like_any_other() -> None:
    import numpy as np

    from pipeline.learning.queries.scores import score_counts

    counts = score_counts(np.array([np.nan, np.inf, -np.inf, 0.2]), np.array([1, 1, 0, 0], dtype=np.float32), 10)
    assert counts.sum() == 4


def test_digests_name_nothing_outside_the_home(grid: LocalGrid, config: Config) -> None:
    from pipeline.language.protocol import PreprocessRequest

    for outside in ("/etc", "../../other/snapshots/" + "0" * 32, "0" * 31, "0" * 33):
        with pytest.raises(ValueError, match="snapshot"):
            PreprocessRequest.model_validate({"spec": {}, "snapshot": outside, "holdout": 0.2})


class Panic(BaseException):
    """What a library written in Rust raises, and what `except Exception` lets through."""


@pytest.mark.parametrize("kind", [ValueError, Panic, SystemExit])
def test_nothing_private_travels_when_a_client_raises(
    grid: LocalGrid, config: Config, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    def explode(*_: object) -> None:
        raise kind(SECRET)

    monkeypatch.setattr("clients.ingestion.ingest", explode)
    reply = ask(grid, Action.INGEST, pack(IngestRequest(contract=config.data)))
    assert error(reply)[0] == "client-failed"
    assert SECRET not in str(reply.error)
    log = home(grid).root / "client.log"
    assert SECRET in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def test_a_home_in_use_by_another_process_is_busy(grid: LocalGrid) -> None:
    with home(grid).locked():
        assert error(ask(grid, Action.JOIN, pack(JoinRequest(version=own_version()))))[0] == "workspace-busy"


def test_a_damaged_ledger_keeps_the_client_out(grid: LocalGrid) -> None:
    ledger = home(grid).ledger.path
    ledger.write_bytes(ledger.read_bytes()[:-10] + b"!" * 9 + b"\n")
    assert error(ask(grid, Action.JOIN, pack(JoinRequest(version=own_version()))))[0] == "ledger-corrupt"
    ledger.unlink()
    assert error(ask(grid, Action.JOIN, pack(JoinRequest(version=own_version()))))[0] == "ledger-missing"


def test_a_snapshot_is_stable_and_follows_the_data(grid: LocalGrid, config: Config) -> None:
    def snapshot() -> str:
        return unpack(IngestReply, ask(grid, Action.INGEST, pack(IngestRequest(contract=config.data))).content)[
            0
        ].snapshot

    first = snapshot()
    source = home(grid).policy.source.path
    frame = pd.read_parquet(source)
    frame.sample(frac=1, random_state=1).to_parquet(source)
    assert snapshot() == first, "the order of rows is not content"
    frame.iloc[1:].to_parquet(source)
    assert snapshot() != first


def test_a_record_keeps_its_place_when_others_come_and_go(grid: LocalGrid, config: Config) -> None:
    from clients.ingestion import PLACE, load_snapshot

    def places() -> set[float]:
        reply = ask(grid, Action.INGEST, pack(IngestRequest(contract=config.data)))
        return set(load_snapshot(home(grid), unpack(IngestReply, reply.content)[0].snapshot).frame[PLACE])

    before = places()
    source = home(grid).policy.source.path
    pd.read_parquet(source).iloc[40:].to_parquet(source)
    assert places() < before
    assert 0.1 < sum(place < 0.2 for place in before) / len(before) < 0.35


@hypothesis_settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.one_of(st.text(max_size=60), st.just("{}"), st.just("[" * 5000)),
    blob=st.binary(max_size=40),
    action=st.sampled_from(list(Action)),
)
def test_hostile_messages_get_an_error_reply(grid: LocalGrid, text: str, blob: bytes, action: Action) -> None:
    import numpy as np

    array = np.frombuffer(blob, dtype=np.uint8)
    content = RecordDict({"message": ConfigRecord({"json": text}), "blobs": ArrayRecord([array])})
    assert error(ask(grid, action, content))[0] == "protocol"
    assert error(ask(grid, action, RecordDict()))[0] == "protocol"


def test_blobs_must_be_bytes_and_come_once() -> None:
    import numpy as np

    request = JoinRequest(version="1")
    wrong, text, twice = pack(request), pack(request), pack(request, {"sum": b"1"})
    wrong["blobs"] = ArrayRecord([np.zeros((2, 2))])
    text["message"] = ConfigRecord({"json": request.model_dump_json(), "sum": "1"})
    twice["blobs"] = ArrayRecord({"sum": Array(np.zeros(1, dtype=np.uint8))})
    for content in (wrong, text, twice):
        with pytest.raises(ProtocolError, match="malformed"):
            unpack(JoinRequest, content)


@given(sizes=st.lists(st.sampled_from([0, 1, INLINE, INLINE + 1, 3 * INLINE]), max_size=4))
def test_blobs_of_any_size_come_back_as_they_were(sizes: list[int]) -> None:
    blobs = {f"sum-{number}": bytes([number]) * size for number, size in enumerate(sizes)}
    assert unpack(JoinRequest, pack(JoinRequest(version="1"), blobs)) == (JoinRequest(version="1"), blobs)
