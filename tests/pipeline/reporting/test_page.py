"""The page of a run: whole, well formed, without network, right about what it plots, and there for runs that failed."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from markupsafe import Markup

from pipeline.learning.queries.confusion import Confusion
from pipeline.learning.queries.query import Query, Rows
from pipeline.learning.queries.residuals import Residuals
from pipeline.learning.queries.scores import Scores
from pipeline.lifecycle import Part
from pipeline.reporting.page import chart
from pipeline.reporting.page.account import Account
from pipeline.reporting.page.figures import compared, figures
from pipeline.reporting.page.page import comparison, leave_page, page, write_page
from pipeline.stages.values import EvaluationReport
from privacy.errors import NotFound, SottovoceError
from tests.conftest import Trained
from tests.support import Federation, configured

DRAW = np.random.default_rng(7)


def evaluated(question: Query, targets: Any, outputs: Any, noise: float = 0.0) -> EvaluationReport:
    counts = question.count(Rows(targets.astype(np.float32)), outputs)
    total = counts + np.rint(DRAW.normal(0, noise, len(counts))).astype(np.int64) if noise else counts
    found = question.read(total, noise)
    return EvaluationReport(
        clients=("a", "b"),
        question=question,
        counts=tuple(total.tolist()),
        noise=noise,
        metrics={name: measured.value for name, measured in found.items()},
        errors={name: measured.error for name, measured in found.items()},
        spent={},
        lifetime={},
    )


def binary(rows: int = 4000, noise: float = 0.0) -> EvaluationReport:
    chances = DRAW.uniform(0.02, 0.98, rows)
    return evaluated(Scores(bins=40), DRAW.random(rows) < chances, chances[:, None], noise)


def classes(noise: float = 0.0) -> EvaluationReport:
    labels = DRAW.integers(0, 3, 3000)
    chances = np.full((3000, 3), 0.2)
    chances[np.arange(3000), labels] = 0.6
    return evaluated(Confusion(classes=("mild <b>", "moderate & more", "severe"), bins=20), labels, chances, noise)


def regression(noise: float = 0.0) -> EvaluationReport:
    told = DRAW.random(3000)
    return evaluated(Residuals(low=-5, high=300), told + DRAW.normal(0, 0.1, 3000), told[:, None], noise)


def pictures(figure: Markup) -> list[ElementTree.Element]:
    assert "nan" not in figure.lower()
    assert "inf" not in re.sub("[a-z]*information[a-z]*", "", figure.lower())
    return list(ElementTree.fromstring(f"<figure>{figure}</figure>").iter("svg"))  # noqa: S314  our own


@pytest.mark.parametrize("noise", [0.0, 30.0, 3000.0])
@pytest.mark.parametrize(("make", "count"), [(binary, 3), (classes, 2), (regression, 2)])
def test_every_question_has_its_plots_however_noisy_it_is(make: Any, count: int, noise: float) -> None:
    made = figures(make(noise=noise * (1024 if make is not binary else 1)))
    assert len(made) == count
    for figure in made:
        (svg,) = pictures(figure)
        assert len(svg.get("aria-label") or "") > 20
        _, _, width, height = map(float, (svg.get("viewBox") or "").split())
        for text in svg.iter("text"):
            if text.get("x"):
                assert -1 <= float(text.get("x") or 0) <= width + 1
                assert -1 <= float(text.get("y") or 0) <= height + 1


def test_counts_of_nobody_are_plotted_as_nothing() -> None:
    empty = np.zeros(0)
    assert len(figures(evaluated(Scores(bins=10), empty, np.zeros((0, 1))))) == 3
    assert len(figures(evaluated(Residuals(low=0, high=1), empty, np.zeros((0, 1))))) == 2


def test_what_is_calibrated_lies_on_the_diagonal_and_what_is_not_does_not() -> None:
    def off(report: EvaluationReport) -> float:
        """Mean distance of the points of the calibration plot from its diagonal, in units of its axes."""
        (svg,) = pictures(figures(report)[2])
        height, width = chart.HEIGHT - chart.TOP - chart.BOTTOM, chart.WIDTH - chart.LEFT - chart.RIGHT
        far = []
        for dot in svg.iter("circle"):
            x = (float(dot.get("cx") or 0) - chart.LEFT) / width
            y = 1 - (float(dot.get("cy") or 0) - chart.TOP) / height
            far.append(abs(x - y))
        assert len(far) == 10
        return float(np.mean(far))

    assert off(binary(20_000)) < 0.03
    chances = DRAW.uniform(0.02, 0.98, 20_000)
    sharp = 1 / (1 + ((1 - chances) / chances) ** 4)
    assert off(evaluated(Scores(bins=40), DRAW.random(20_000) < chances, sharp[:, None])) > 0.1


def test_the_curve_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import roc_curve

    chances = DRAW.uniform(0, 1, 5000)
    truth = DRAW.random(5000) < chances
    (svg,) = pictures(figures(evaluated(Scores(bins=200), truth, chances[:, None]))[0])
    (line,) = (one for one in svg.iter("polyline") if "line" in (one.get("class") or "").split())
    points = np.array([list(map(float, point.split(","))) for point in (line.get("points") or "").split()])
    x = (points[:, 0] - chart.LEFT) / (chart.WIDTH - chart.LEFT - chart.RIGHT)
    y = 1 - (points[:, 1] - chart.TOP) / (chart.HEIGHT - chart.TOP - chart.BOTTOM)
    false, true, _ = roc_curve(truth, chances)
    inside = x > 0.005  # at the left edge the exact curve is upright
    assert inside.sum() > 100
    assert np.abs(np.interp(x, false, true) - y)[inside].max() < 0.02


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-5, 300), (1e-6, 2e-6), (-1e9, 1e9), (0.999, 1.001)])
def test_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    found = chart.ticks(low, high)
    assert 3 <= len(found) <= 8
    room = (high - low) * 1e-6
    assert low - room <= found[0]
    assert found[-1] <= high + room


class Reader(HTMLParser):
    """What a browser would find."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src"):
                self.links.append(value or "")
            assert not name.startswith("on"), "no script"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def sound(text: str) -> Reader:
    found = Reader(text)
    assert len(found.ids) == len(set(found.ids))
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids), "nothing asks the network"
    assert not {"script", "iframe", "object", "img"} & set(found.tags)
    assert "http" not in text.replace("http-equiv", "")
    assert found.tags.count("h1") == 1
    assert len(text) < 3_000_000
    return found


def test_the_page_of_a_run_is_whole_and_is_left_where_it_is_looked_for(trained: Trained) -> None:
    workspace: Any = trained.workspace
    outcome: Any = trained.outcome
    path = Path(leave_page(workspace, outcome.run))
    assert path == workspace.root / "runs" / outcome.run / "report.html"
    text = path.read_text()
    found = sound(text)
    assert found.tags.count("svg") >= 6
    for section in ("quality", "data", "privacy", "clients", "time", "lineage", "asked", "card"):
        assert section in found.ids
    for word in ("stay, version 1", "every record: epsilon 3", "harbour", "feature_set", "privacy.delta", "blessed"):
        assert word in text, word
    metrics = outcome.evaluation.metrics
    assert f"{metrics['roc_auc']:.4f}" in text
    assert "NOT AUDITED" not in text


def test_runs_are_compared_by_what_differs(trained: Trained) -> None:
    workspace: Any = trained.workspace
    account = Account.of(workspace, trained.outcome.run)  # type: ignore[attr-defined]
    other = Account(**{**vars(account), "config": {**account.config, "name": "other"}})
    text = comparison([account, other])
    sound(text)
    assert '<td class="long">other</td>' in text
    assert "training.rounds" not in text, "that is the same in both"
    assert len(compared([("a", binary()), ("b", binary())])) == 1


@pytest.mark.whole
def test_a_run_that_failed_or_waits_has_a_page_too_and_no_word_of_it_is_markup(tmp_path: Path, dataset: Path) -> None:
    hostile = "<script>alert(1)</script>"
    federation = Federation(tmp_path / "w", configured(dataset, data__forbidden={"discharge": hostile}))
    federation.work(Part(until="validation"))
    waiting = page(Account.of(federation.workspace, federation.workspace.metadata().runs()[0].id))
    sound(waiting)
    assert hostile not in waiting
    assert "&lt;script&gt;" in waiting
    assert "It has not come to its end" in waiting
    broken = Federation(tmp_path / "x", configured(dataset, data__min_rows=10_000))
    with pytest.raises(SottovoceError):
        broken.run()
    text = write_page(broken.workspace, broken.workspace.metadata().runs()[0].id).read_text()
    sound(text)
    assert "failed" in text
    with pytest.raises(NotFound):
        write_page(broken.workspace, "ffff")
    assert "could not be made: NotFound" in leave_page(broken.workspace, "ffff")
