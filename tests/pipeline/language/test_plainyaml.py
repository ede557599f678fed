"""What looks like a word is a word, and nothing is said twice."""

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from clients.home import Home
from pipeline.language.configfile import load_config, read_yaml
from pipeline.language.plainyaml import load
from privacy.errors import ConfigError
from tests.support import write_config, write_table


def test_codes_and_words_stay_what_they_are() -> None:
    words = ["001", "010", "no", "yes", "on", "off", "1:30", "2001-01-01", "0x1F", "1_000", "y"]
    assert load(f"[{', '.join(words)}]") == words
    assert load("[1e-5, 5, -3, +4, 1.5, .5, true, False, ~, null, .inf, 'no', \"010\"]") == [
        *(1e-5, 5, -3, 4, 1.5, 0.5, True, False, None, None, math.inf, "no", "010")
    ]


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=8)
"""PyYAML does not write line breaks of Unicode in keys so that it reads them again."""
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
)


@given(VALUES)
def test_what_is_written_is_read_back(value: object) -> None:
    assert load(yaml.safe_dump(value, allow_unicode=True)) == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: a\nprivacy: none\nname: b\n", "line 3: name is set twice, in line 1 and line 3"),
        ("privacy: {epsilon: 1, epsilon: 8}\n", "line 1: epsilon is set twice, in line 1 and line 1"),
        ("a:\n  - {b: 1}\n  - {c: 1, d: 2,\n     c: 3}\n", "line 4: c is set twice, in line 3 and line 4"),
        ("1: a\n1.0: b\n", "is set twice"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "stay.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        read_yaml(path)


def test_in_a_configuration_categories_are_as_written(tmp_path: Path) -> None:
    path = write_config(tmp_path / "stay.yaml", write_table(tmp_path))
    path.write_text(path.read_text().replace("- medical\n", "- 010\n").replace("- surgical\n", "- no\n"))
    unit = load_config(path).data.columns["unit"]
    assert {"010", "no"} < set(str(unit.declared).split("'"))


def test_an_owner_s_policy_too(tmp_path: Path, federation: object) -> None:
    homes = federation.homes  # type: ignore[attr-defined]
    path = homes["east"] / "policy.yaml"
    path.write_text("lifetime_epsilon: 2\n" + path.read_text())
    with pytest.raises(ConfigError, match="lifetime_epsilon is set twice"):
        _ = Home(homes["east"]).policy
