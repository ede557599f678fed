"""The graph: linted before anything runs, cut to what one stage needs, printed."""

import pytest

from pipeline.engine.graph import stage
from privacy.errors import ConfigError, GraphInvalid
from tests.pipeline.engine.bench import Number, first, simple


def test_the_graph_is_linted_before_anything_runs() -> None:
    @stage(produces="x", place="clients")
    def needs_y(y: Number) -> Number:
        return y

    @stage(produces="y", place="clients")
    def needs_x(x: Number) -> Number:
        return x

    @stage(produces="one", place="clients")
    def rival() -> Number:
        return Number(value=0)

    @stage(produces="start", place="clients")
    def shadow() -> Number:
        return Number(value=0)

    @stage(produces="z", place="here")
    def holds_driver(lock: object) -> Number:
        return Number(value=0)

    for functions, told in [
        ((needs_y,), "stage needs_y: nothing provides its parameter y"),
        ((needs_y, needs_x), "cycle"),
        ((first, rival), "one is produced by first and rival"),
        ((shadow,), "both an output"),
        ((holds_driver,), "cannot hold lock"),
        ((print,), "is not a stage"),
    ]:
        with pytest.raises(GraphInvalid, match=told):
            simple(*functions)


def test_the_graph_prints_as_text_and_graphviz() -> None:
    dag = simple()
    assert "second  here     one -> two" in dag.as_text()
    assert '"first" -> "second" [label="one"];' in dag.as_graphviz()


def test_until_is_a_stage_and_what_it_needs() -> None:
    assert list(simple().until("second").order) == ["first", "second"]
    assert list(simple().until("first").order) == ["first"]
    assert simple().until("third").order == simple().until(None).order == simple().order
    with pytest.raises(ConfigError, match=r"no stage secnod. Did you mean second?") as caught:
        simple().until("secnod")
    assert caught.value.remedy == "Stages: first, second, third."
