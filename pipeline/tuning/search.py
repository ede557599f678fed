"""The search itself: Optuna proposes, rehearsals say what it is worth; interrupted, it goes on."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pipeline.language.changing import changed
from pipeline.language.config import Config
from pipeline.learning.queries.query import Measured
from pipeline.tuning.rehearsal import rehearse
from pipeline.tuning.rows import Examples
from privacy.errors import ConfigError, KindMissing, PlanInvalid

if TYPE_CHECKING:
    import optuna

Told = Callable[[int, str], None]
"""Number of a trial, and what came of it."""
AS_THEY_ARE = "as they are"
UNKNOWN = Measured(math.nan, math.nan)


def search(config: Config, examples: Examples, url: str, name: str, told: Told) -> list[dict[str, Any]]:
    """Every trial in order: number, state (complete, pruned, failed), values by path, score. The first has the settings
    as they are. A trial that was interrupted is tried again; one that is finished is not.

    url: where studies are kept (SQLAlchemy). name: of this search. Raises KindMissing without Optuna.
    """
    try:
        import optuna
    except ImportError:
        raise KindMissing("tuning needs Optuna", remedy="pip install 'sottovoce[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    task = config.data.task
    direction: Literal["maximize", "minimize"] = "maximize" if task.measures[task.headline] else "minimize"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it says of experimental parts, and of seeds beside storage
        study = optuna.create_study(
            storage=url,
            study_name=name,
            load_if_exists=True,
            direction=direction,
            sampler=optuna.samplers.TPESampler(seed=config.tuning.seed, n_startup_trials=5),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
        )
        done = len(study.get_trials(states=_ended(optuna)))
        for _ in range(done, config.tuning.trials + 1):
            trial = study.ask()
            number = len(study.get_trials(states=_ended(optuna)))
            values = {} if number == 0 else _proposed(trial, config)
            trial.set_user_attr("values", {path: list(v) if isinstance(v, tuple) else v for path, v in values.items()})
            state, score = _tried(trial, changed(config, values, f"trial {number}"), examples)
            trial.set_user_attr("error", score.error)
            study.tell(trial, score.value if state == "complete" else None, state=_state(optuna, state))
            told(number, _said(state, score.value, values))
    trials = [trial for trial in study.get_trials() if trial.state in _ended(optuna)]
    return [
        {
            "number": number,
            "state": {"COMPLETE": "complete", "PRUNED": "pruned"}.get(trial.state.name, "failed"),
            "values": trial.user_attrs.get("values", {}),
            "score": trial.value,
            "error": trial.user_attrs.get("error") if trial.value is not None else None,
            "curve": [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)],
        }
        for number, trial in enumerate(trials)
    ]


def best_of(config: Config, trials: list[dict[str, Any]]) -> dict[str, Any]:
    """The trial that won; the settings as they are, where none is better than they by more than the error of that.

    Raises ConfigError where none was finished.
    """
    finished = [trial for trial in trials if trial["state"] == "complete"]
    if not finished:
        raise ConfigError(
            "no trial of the search was finished: each was pruned, or learned nothing finite",
            remedy="Search smaller step sizes, or other settings.",
        )
    sign = 1 if config.data.task.measures[config.data.task.headline] else -1
    best = max(finished, key=lambda trial: sign * trial["score"])
    if finished[0]["number"] == 0 and sign * (best["score"] - finished[0]["score"]) <= best["error"]:
        return finished[0]
    return best


def _proposed(trial: optuna.Trial, config: Config) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for path, space in sorted(config.tuning.space.items()):
        if space.choices:
            values[path] = space.choices[trial.suggest_categorical(path, list(range(len(space.choices))))]
        elif isinstance(space.low, int) and isinstance(space.high, int):
            values[path] = trial.suggest_int(path, space.low, space.high, log=space.log)
        else:
            values[path] = trial.suggest_float(path, *map(float, space.ends), log=space.log)
    return values


def _tried(trial: optuna.Trial, config: Config, examples: Examples) -> tuple[str, Measured]:
    """Its state and its score."""
    import optuna

    def told(number: int, score: float) -> None:
        trial.report(score, number)
        if trial.number and trial.should_prune():
            raise optuna.TrialPruned

    try:
        score = rehearse(config, examples, told)
    except optuna.TrialPruned:
        return "pruned", UNKNOWN
    except PlanInvalid:
        return "failed", UNKNOWN
    return ("complete", score) if math.isfinite(score.value) else ("pruned", UNKNOWN)


def _said(state: str, score: float, values: Mapping[str, Any]) -> str:
    told = ", ".join(f"{path} {_figure(value)}" for path, value in values.items()) or AS_THEY_ARE
    return f"{told}: {score:.4f}" if state == "complete" else f"{told}: {state}"


def _figure(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _ended(optuna: Any) -> tuple[Any, ...]:
    states = optuna.trial.TrialState
    return (states.COMPLETE, states.PRUNED, states.FAIL)


def _state(optuna: Any, state: str) -> Any:
    states = optuna.trial.TrialState
    return {"complete": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}[state]
