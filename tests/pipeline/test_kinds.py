"""Own classes: allowed by the owner before they are imported, of one code on both sides, sound from the start."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from clients.home import Home
from pipeline.kinds import INSTALLED, check_codes, codes_of, kinds_in
from pipeline.language.config import Config
from pipeline.language.configfile import load_config
from pipeline.language.packing import pack, unpack
from pipeline.language.protocol import Action, IngestRequest, JoinReply, JoinRequest, own_version
from pipeline.learning.contract import DataContract
from pipeline.learning.features import FeatureSpec
from pipeline.learning.models.model import Model
from pipeline.learning.models.net import PROBED
from pipeline.stages.design import design
from privacy.errors import ConfigError, KindDiffers, KindMissing, KindNotAllowed, KindUnfit, PlanInvalid
from tests.own import nets
from tests.support import LocalGrid, ask, change, configured, error, homes_for

OWN = {"kind": "tests.own.nets:Small", "width": 4}


@pytest.fixture
def grid(config: Config, tmp_path: Path) -> LocalGrid:
    return LocalGrid(homes_for(config, tmp_path / "clients"))


def allow(grid: LocalGrid, *kinds: str) -> None:
    root = Path(str(grid.contexts[min(grid.names)].node_config["home"]))
    Home.write_policy(root, Home(root).policy.model_copy(update={"allowed_kinds": kinds}))


def test_own_classes_are_read_only_where_they_are_allowed() -> None:
    adapter: TypeAdapter[Model] = TypeAdapter(Model)
    assert adapter.validate_python(OWN, context=INSTALLED) == nets.Small(width=4)
    assert Model.of(OWN, ["tests.own.nets:Small"]) == nets.Small(width=4)
    for allowed in ((), ("tests.own.nets:Adapted",), ("tests.own.nets",), ("tests.own.nets:Smal",)):
        with pytest.raises(KindNotAllowed, match=r"does not allow the class tests\.own\.nets:Small"):
            adapter.validate_python(OWN, context={"allowed_kinds": allowed})
    with pytest.raises(KindNotAllowed):
        adapter.validate_python(OWN)
    assert Model.of({}).kind == "mlp"
    assert Model.of(nets.Small()) == nets.Small()


def test_what_is_not_allowed_is_not_even_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dangerous_when_imported.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(KindNotAllowed):
        Model.of({"kind": "dangerous_when_imported:Net"})
    assert "dangerous_when_imported" not in sys.modules


@pytest.mark.parametrize(
    ("kind", "error_class", "told"),
    [
        ("tests.own.absent:Net", KindMissing, "is not installed here"),
        ("no_such_package.at_all:Net", KindMissing, "is not installed here"),
        ("tests.own.nets:Absent", KindMissing, "has no class Absent"),
        ("tests.own.nets:NoModel", KindUnfit, "is no model"),
        ("os:system", KindUnfit, "is no model"),
        ("pipeline.learning.models.model:Model", KindUnfit, "is no model"),
        ("pipeline.learning.tasks.binary:Binary", KindUnfit, "is no model"),
    ],
)
def test_what_is_no_model_here_is_named_apart(kind: str, error_class: type[Exception], told: str) -> None:
    with pytest.raises(error_class, match=told):
        Model.of({"kind": kind}, ["*"])


@pytest.mark.parametrize("kind", ["perceptron", "os.system", "a b:C", "a:b:c", ":C", "a:", "../x:C", 7, None, ["mlp"]])
def test_what_is_no_name_is_refused_with_those_that_are(kind: Any) -> None:
    with pytest.raises(ValueError, match="known are linear, mlp, conv, text, additive, trees, or `package"):
        Model.of({"kind": kind}, ["*"])


def test_settings_of_an_own_class_are_checked_like_any_other(dataset: Path) -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        Model.of({**OWN, "depth": 1}, ["*"])
    with pytest.raises(ConfigError, match=r"model\.width"):
        configured(dataset, model={**OWN, "width": "wide"})


def test_the_schema_knows_every_kind() -> None:
    schema = Config.model_json_schema()
    text = str(schema)
    for name in ("Mlp", "Linear", "Conv", "Text", "Binary", "Classes", "Regression", "Numeric", "Image", "Tokens"):
        assert f"'{name}'" in text or f"title': '{name}" in text, name


def test_a_client_answers_only_what_its_owner_allows(grid: LocalGrid, config: Config) -> None:
    def told(request: JoinRequest) -> tuple[str, str]:
        return error(ask(grid, Action.JOIN, pack(request)))

    own = JoinRequest(version=own_version(), model=nets.Small(), contract=config.data)
    assert told(own)[0] == "kind-not-allowed"
    assert "allowed_kinds: [tests.own.nets:Small] in policy.yaml" in told(own)[1]
    allow(grid, "tests.own.nets:Small")
    assert unpack(JoinReply, ask(grid, Action.JOIN, pack(own)).content)[0].name
    other = own.model_copy(update={"code": {**own.code, "model tests.own.nets:Small": "0" * 64}})
    code, text = told(other)
    assert code == "kind-differs"
    assert "model tests.own.nets:Small is not the same here and at the coordinator" in text
    allow(grid, "tests.own.nets:Small", "tests.own.absent:Net", "tests.own.nets:NoModel")
    for kind, expected in (("tests.own.absent:Net", "kind-missing"), ("tests.own.nets:NoModel", "kind-unfit")):
        tree = own.model_dump_json().replace("tests.own.nets:Small", kind).replace('"width":8', '"x":1')
        record = pack(own)
        record["message"]["json"] = tree
        assert error(ask(grid, Action.JOIN, record))[0] == expected


def test_a_request_that_does_not_say_its_code_is_refused(grid: LocalGrid, config: Config) -> None:
    """Whoever leaves it out would have the client answer by whatever code it has."""
    record = pack(IngestRequest(contract=config.data))
    record["message"]["json"] = IngestRequest(contract=config.data).model_dump_json(exclude={"code"})
    assert error(ask(grid, Action.INGEST, record))[0] == "kind-differs"


def test_codes_name_every_kind_once_and_follow_the_source(config: Config) -> None:
    codes = codes_of(config.data, nets.Small())
    assert set(codes) == {
        "model tests.own.nets:Small",
        "task binary",
        "column numeric",
        "column categorical",
    }
    assert {kind.kind for kind in kinds_in(config)} == {"mlp", "binary", "numeric", "categorical"}
    check_codes(config, {**codes_of(config), "column of another run": "x"})
    with pytest.raises(KindDiffers, match="task binary"):
        check_codes(config, {**codes_of(config), "task binary": ""})


WAYS = {
    "batch norm": (PlanInvalid, "changes its buffer 1.running_mean"),
    "batch norm without memory": (PlanInvalid, "mix records"),
    "mean of the batch": (PlanInvalid, "mix records"),
    "sum of the batch": (PlanInvalid, "mix records"),
    "frozen": (PlanInvalid, "no parameter that is trained"),
    "not finite": (PlanInvalid, "not finite from the start"),
    "fails": (KindUnfit, "cannot be made: RuntimeError"),
    "no module": (KindUnfit, "no torch.nn.Module"),
    "one output more": (PlanInvalid, r"returns \[5, 2\] for 5 rows; the task asks for \[5, 1\]"),
    "flat": (PlanInvalid, r"returns \[5\] for 5 rows"),
    "a pair": (PlanInvalid, "returns tuple"),
    "detached": (PlanInvalid, "no trained parameter has a part in"),
    "changes what it is given": (PlanInvalid, "changes the features that it is given"),
    "another width": (PlanInvalid, "fails on 5 rows of 7 features: RuntimeError"),
}


@pytest.mark.parametrize("how", WAYS)
def test_a_model_that_cannot_be_trained_is_refused_before_anybody_is_asked(config: Config, how: str) -> None:
    kind, told = WAYS[how]
    with pytest.raises(kind, match=told) as refused:
        design(config.data, nets.Wrong(how=how), config.training)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("model", [nets.Small(), nets.Adapted()], ids=lambda model: type(model).__name__)
def test_a_sound_model_trains_its_own_part_and_answers_as_a_graph(config: Config, model: Model) -> None:
    made = design(config.data, model, config.training)
    spec = FeatureSpec.of(config.data)
    net = model.net(spec.shape, 1, config.training.seed)
    assert made.parameters == net.parameters == len(net.initial())
    assert bool(made.frozen) is isinstance(model, nets.Adapted)
    if isinstance(model, nets.Adapted):
        assert net.parameters == 2 * (7 + 64) + 64 + 1, "adapters and head, no backbone"
        again = model.net(spec.shape, 1, config.training.seed)
        assert again.frozen == made.frozen, "the same everywhere"
        assert model.net(spec.shape, 1, config.training.seed + 1).frozen != made.frozen
    moved = net.initial() + np.float32(0.1)
    features = net.examples(PROBED)
    assert not np.allclose(net.outputs(moved, features), net.outputs(net.initial(), features))
    files = net.files(moved)
    from pipeline.learning.models.graph import Graph

    graph = Graph(files["graph.onnx"])
    for rows in (1, 2, PROBED):
        assert np.allclose(graph.outputs(features[:rows]), net.outputs(moved, features[:rows]), atol=1e-5)
    assert np.array_equal(net.initial(), model.net(spec.shape, 1, config.training.seed).initial())


def test_a_file_beside_the_configuration_is_enough(dataset: Path, tmp_path: Path, monkeypatch: Any) -> None:
    import yaml

    monkeypatch.setenv("SOTTOVOCE_OWN_CODE", "")
    monkeypatch.setattr(sys, "path", [*sys.path])
    source = "from pipeline.learning.models.linear import Linear\n\nclass Mine(Linear):\n    kind: str\n"
    (tmp_path / "beside_mine.py").write_text(source)
    tree = configured(dataset).model_dump(mode="json") | {"model": {"kind": "beside_mine.py:Mine"}}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(tree))
    config = load_config(path)
    assert config.model.kind == "beside_mine:Mine"
    before = config.model.code
    (tmp_path / "beside_mine.py").write_text(source + "\n    def fits(self, shape):\n        return None\n")
    assert config.model.code != before, "a change of it is a change of every key that it is in"
    path.write_text(yaml.safe_dump(change(tree, {"model__kind": "elsewhere.py:Mine"})))
    with pytest.raises(KindMissing, match=re.escape(f"{tmp_path}/elsewhere.py: no such file")):
        load_config(path)


def test_a_label_is_short_for_a_binary_task(config: Config) -> None:
    tree = config.data.model_dump(mode="json")
    task = tree.pop("task")
    short = DataContract.model_validate(tree | {"label": {"column": task["column"], "positive": task["positive"]}})
    assert short == config.data
    spec = FeatureSpec.of(config.data)
    old = spec.model_dump(mode="json")
    old_task = old.pop("task")
    old["label"] = {"column": old_task["column"], "positive": old_task["positive"]}
    assert FeatureSpec.model_validate(old) == spec, "versions that were registered before"
    assert Model.of({"hidden": [3], "activation": "tanh"}).kind == "mlp"
    with pytest.raises(ValidationError, match="label"):
        DataContract.model_validate(tree | {"task": task, "label": {"column": "died", "positive": ["yes"]}})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": {"kind": "conv"}}, "takes one image column, and there are 0"),
        ({"model": {"kind": "text"}}, "takes tokens, and no column is of that kind"),
        ({"data__columns__note": {"kind": "tokens"}}, "column note is tokens"),
        ({"model": {"kind": "conv", "groups": 3}}, "16 channels are no whole number of 3 groups"),
        ({"model": {"kind": "conv", "kernel": 2}}, "odd kernel"),
        (
            {"model": {"kind": "conv"}, "data__columns__scan": {"kind": "image", "size": [3, 3]}},
            "an image of 3 x 3 cannot be halved 2 times",
        ),
        ({"registration__least": {"r2": 0.1}}, "does not measure r2, but roc_auc"),
        ({"model": {"kind": "mpl"}}, "unknown kind 'mpl'; known are linear, mlp"),
    ],
)
def test_a_model_that_does_not_fit_its_columns_is_known_from_the_configuration(
    dataset: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        configured(dataset, **changes)


def test_parameters_are_counted_before_they_are_made() -> None:
    """A coordinator that asks for more than memory holds is refused by their number."""
    import resource

    from pipeline.learning.models.text import Text
    from pipeline.learning.shape import Part, Shape

    huge = Text(kind="text", width=1024).net(Shape((Part("note", 0, (8,), 2**22 + 1),)), 2, 0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert huge.parameters > 4_000_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000, "kilobytes"
