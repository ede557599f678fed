"""Configuration: what is wrong is named, with its place and the nearest known key."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.language.config import Config
from pipeline.language.configfile import load_config, parse, settings_digest
from privacy.errors import ConfigError, ConfigUnknownKey
from simulations.cli import DEFAULT_CONFIG
from tests.support import configured, settings, write_config


def test_the_default_configuration_is_seven_registries_at_epsilon_one() -> None:
    config = load_config(DEFAULT_CONFIG)
    assert config.privacy != "none"
    assert (config.privacy.epsilon, config.privacy.delta) == (1.0, 1e-5)
    assert len(config.data.columns) == 14
    assert config.simulation
    assert len(config.simulation.partitions) == 7
    assert config.federation.min_cohort == 5
    assert config.encryption.scheme == "bfv"


@pytest.mark.parametrize("name", ["RACE", "HISPANIC_ORIGIN", "TAKEN_TO_HOSPITAL", "ALCOHOL_TEST_RESULT"])
def test_leaking_columns_cannot_be_added(name: str) -> None:
    tree = yaml.safe_load(DEFAULT_CONFIG.read_text())
    tree["data"]["columns"][name] = {"kind": "numeric", "low": 0, "high": 1}
    with pytest.raises(ConfigError, match=f"forbidden columns among the features .{name}"):
        parse(Config, tree, "x.yaml")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"privacy__epsilom": 1}, r"privacy\.epsilom: no such setting\. Did you mean privacy\.epsilon\?"),
        ({"trainning": {}}, r"trainning: no such setting\. Did you mean training\?"),
        ({"data__columns__age__lo": 1}, r"data\.columns\.age\.lo: no such setting"),
        ({"model__hiden": [1]}, r"Did you mean model\.hidden\?"),
    ],
)
def test_unknown_keys_name_the_nearest_known_one(dataset: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigUnknownKey, match=told):
        configured(dataset, **changes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"privacy__epsilon": 0}, r"privacy\.epsilon: Input should be greater than 0"),
        ({"privacy__epsilon": float("inf")}, r"privacy\.epsilon: .*finite"),
        ({"privacy__unit": "user"}, "unknown unit 'user'"),
        ({"privacy": "off"}, "privacy"),
        ({"privacy__delta": 1}, r"privacy\.delta"),
        ({"federation__min_cohort": 1}, r"federation\.min_cohort"),
        ({"federation__expected_clients": 3}, "below min_cohort"),
        ({"data__columns__age__low": 100}, "expected low < high"),
        ({"data__columns__unit__categories": ["a", "a"]}, "twice: a"),
        ({"data__columns__unit__example": "nowhere"}, "not one of the categories"),
        ({"data__label__column": "age"}, "is the outcome"),
        ({"name": "No Spaces"}, "name"),
        ({"training__rounds": "many"}, r"training\.rounds"),
    ],
)
def test_bad_values_name_their_setting(dataset: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        configured(dataset, **changes)


def test_privacy_is_never_off_by_omission(dataset: Path) -> None:
    tree = settings(dataset)
    del tree["privacy"]
    with pytest.raises(ConfigError, match="privacy: Field required"):
        parse(Config, tree, "x.yaml")
    assert configured(dataset, privacy="none").privacy == "none"


def test_overrides_reach_any_depth_and_type(tmp_path: Path, dataset: Path) -> None:
    path = write_config(tmp_path / "c.yaml", dataset)
    config = load_config(path, ["privacy.delta=1e-7", "model.hidden=[4, 2]", "evaluation.bins=12"])
    assert config.privacy != "none"
    assert (config.privacy.delta, config.model.hidden, config.evaluation.bins) == (1e-7, (4, 2), 12)
    assert load_config(path, ["privacy=none"]).privacy == "none"
    for bad, told in [("x", "expected a.b=value"), ("name.x=1", "is a value"), ("a=[", "not valid YAML")]:
        with pytest.raises(ConfigError, match=told):
            load_config(path, [bad])


def test_another_kind_brings_its_own_settings(tmp_path: Path, dataset: Path) -> None:
    """What the file says of the kind before would be refused, one setting after the other."""
    path = write_config(tmp_path / "a.yaml", dataset)
    assert load_config(path, ["model.kind=additive", "model.pairs=0"]).model.model_dump()["pairs"] == 0
    assert load_config(path, ["model.kind=mlp"]).model.model_dump()["hidden"] == (8,), "as it was"
    with pytest.raises(ConfigError, match=r"model\.hidden: no such setting\. It is a setting of another kind"):
        load_config(path, ["model={kind: additive, hidden: [3]}"])


def test_a_file_that_was_exported_may_change_its_comments_and_nothing_else(tmp_path: Path, dataset: Path) -> None:
    path = tmp_path / "stay.yaml"
    text = yaml.safe_dump(settings(dataset))
    path.write_text(text)
    digest = settings_digest(path)
    path.write_text(f"# a comment\n{yaml.safe_dump(settings(dataset), sort_keys=True, indent=4)}")
    assert load_config(path, ["training.rounds=2"], digest).training.rounds == 2
    path.write_text(text + "name: other\n" if "name:" not in text else text.replace("name: ", "name: x"))
    with pytest.raises(ConfigError, match="has changed"):
        load_config(path, [], digest)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1\nb: 2")
    with pytest.raises(ConfigError, match=r"broken\.yaml, line 2: not valid YAML"):
        load_config(broken)
    broken.write_text("- a list")
    with pytest.raises(ConfigError, match="expected a mapping"):
        load_config(broken)
    broken.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(broken)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


def test_every_setting_is_described() -> None:
    def undescribed(schema: dict[str, Any]) -> list[str]:
        return [
            f"{name}.{key}"
            for name, model in {"Config": schema, **schema["$defs"]}.items()
            for key, field in model.get("properties", {}).items()
            if "description" not in field
        ]

    assert undescribed(Config.model_json_schema()) == []


def test_the_example_row_comes_from_declarations_alone(dataset: Path) -> None:
    assert configured(dataset).data.example() == {"age": 56.5, "lab": 6.0, "unit": "medical"}
