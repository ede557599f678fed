"""What a key holds of the code: all that a result depends on, and nothing else.

Edits are made in a copy of the project, whose digests another process tells: one line of JSON for each edit.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import privacy
from clients.app import handler_of
from clients.enrolment import ANSWERED_BY
from pipeline.host.code import BESIDE, ROOMS, code_digest, modules_behind
from pipeline.language.protocol import Action
from pipeline.lifecycle import lifecycle_dag

pytestmark = pytest.mark.processes

PROJECT = Path(privacy.__file__).parents[1]

TELLER = """
import json, sys
from pathlib import Path
from clients.enrolment import ANSWERED_BY, code_of
from pipeline.engine.execution import _code
from pipeline.language.configfile import load_config
from pipeline.learning.features import FeatureSpec
from pipeline.lifecycle import lifecycle_dag

config = load_config(Path("simulations/configs/crash-fatality.yaml"))
values = {name: getattr(config, name) for name in type(config).model_fields}
values["feature_set"] = FeatureSpec.of(config.data)

def told():
    answers = {action: code_of(action) for action in ANSWERED_BY}
    return {
        name: [
            _code(found, *(values[part] for part in found.parameters if part in values)),
            *(answers[action] for action in found.asks),
        ]
        for name, found in lifecycle_dag().stages.items()
    }

print(json.dumps(told()), flush=True)
for line in sys.stdin:
    file, old, new = json.loads(line)
    path = Path(file)
    before = path.read_text()
    path.write_text(before.replace(old, new, 1) if old else before + new)
    found = told()
    path.write_text(before)  # before it is told: who hears it reads the file
    print(json.dumps(found), flush=True)
"""

Edited = Callable[[str, str, str], set[str]]


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Edited:
    """edited(file, old, new): the stages whose keys change when `old` becomes `new` in a file (or `new` is added)."""
    copy = tmp_path_factory.mktemp("project")
    for room in ROOMS:
        shutil.copytree(PROJECT / room, copy / room, ignore=shutil.ignore_patterns("__pycache__", "*.csv"))
    teller = subprocess.Popen(
        [sys.executable, "-c", TELLER], cwd=copy, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert teller.stdin is not None
    assert teller.stdout is not None
    asking, telling = teller.stdin, teller.stdout
    usual: dict[str, list[str]] = json.loads(telling.readline())

    def changed(file: str, old: str, new: str) -> set[str]:
        assert old in (copy / file).read_text()
        asking.write(json.dumps([file, old, new]) + "\n")
        asking.flush()
        now = json.loads(telling.readline())
        return {stage for stage in usual if usual[stage] != now[stage]}

    yield changed
    asking.close()
    assert teller.wait(30) == 0
    telling.close()


def is_beside(name: str) -> bool:
    return any(name == beside or name.startswith(f"{beside}.") for beside in BESIDE)


@pytest.mark.parametrize("action", sorted(ANSWERED_BY))
def test_everything_that_an_answer_imports_is_digested(action: Action) -> None:
    assert handler_of(action)[1].__module__ == ANSWERED_BY[action]
    probe = f"import sys, {ANSWERED_BY[action]}; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=PROJECT)
    imported = {name for name in told.stdout.split() if name.partition(".")[0] in ROOMS and not is_beside(name)}
    assert imported <= modules_behind(ANSWERED_BY[action])


def test_every_action_but_joining_is_digested() -> None:
    assert set(ANSWERED_BY) == set(Action) - {Action.JOIN}


def test_a_change_of_any_module_behind_an_answer_is_seen(edited: Edited) -> None:
    behind = {*modules_behind(ANSWERED_BY[Action.TRAIN]), "clients.app"}
    assert {"clients.execution", "privacy.dpsgd", "privacy.bookkeeping", "privacy.ledger"} <= behind
    for name in sorted(behind):
        place = Path(*name.split("."))
        file = str(place / "__init__.py" if (PROJECT / place).is_dir() else place.with_suffix(".py"))
        assert "training" in edited(file, "", "\n_one = 1\n"), name


def test_the_stages_that_use_an_operator_run_again_and_no_other(edited: Edited) -> None:
    """Later ones follow from the digests of what these make."""
    assert edited("privacy/dpsgd.py", "multiplier * self", "multiplier + self") == {"audit", "training"}
    assert edited("clients/grading.py", " - ", " + ") == {"validation"}
    learns = {
        "design",
        "ingestion",
        "validation",
        "statistics",
        "preprocessing",
        "training",
        "evaluation",
        "audit",
        "blessing",
        "registration",
    }
    assert edited("pipeline/learning/tasks/binary.py", ">= 0.5", "> 0.5") == learns | {"enrolment"}
    assert edited("pipeline/learning/tasks/classes.py", ".argmax", ".argmin") == set(), "another task"
    assert edited("pipeline/learning/models/layered.py", "values @ matrix", "matrix @ values") == {
        *("design", "enrolment", "training", "evaluation", "audit", "registration"),
    }
    assert edited("pipeline/learning/models/conv.py", "flatten(1)", "flatten()") == set(), "another model"
    assert edited("pipeline/stages/blessing.py", "task.worse(metric", "not task.worse(metric") == {"blessing"}
    assert edited("privacy/sums.py", " + ", " - ") == {"statistics", "training", "evaluation", "audit"}
    every = {"ingestion", "validation", "statistics", "preprocessing", "training", "evaluation"}
    assert edited("clients/app.py", "with home.locked():", "if home.locked():") == every


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("privacy/dpsgd.py", "", "\n# a comment\n"),
        ("privacy/dpsgd.py", "with Opacus", "by Opacus"),
        ("pipeline/engine/progress.py", "of rows", "of the rows"),
        ("pipeline/store/metadata.py", "desc()", "asc()"),
        ("pipeline/store/journal.py", "get", "take"),
        ("pipeline/language/settings/training.py", 'description="', 'description="Said otherwise. '),
        ("privacy/ledger.py", "was reserved before", "is known"),
        ("privacy/errors.py", "headline = ", "headline = 'now: ' + "),
        ("pipeline/stages/blessing.py", "resources=None", "timeout=240"),
        ("pipeline/stages/training.py", "Raises CohortTooSmall", "May raise CohortTooSmall"),
    ],
)
def test_what_no_result_depends_on_is_in_no_key(edited: Edited, file: str, old: str, new: str) -> None:
    assert edited(file, old, new) == set()


def test_an_unknown_module_is_an_error_and_versions_count(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"clients\.trainings"):
        code_digest("clients.trainings")
    probe = "from importlib import metadata; old = metadata.version;"
    probe += "metadata.version = lambda name: '9.9' if name == 'opacus' else old(name);"
    probe += (
        "from pipeline.host.code import code_digest as told; print(told('clients.training'), told('clients.reveal'))"
    )
    told = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=PROJECT)
    training, reveal = told.stdout.split()
    assert training != code_digest("clients.training")
    assert reveal == code_digest("clients.reveal")


def test_every_stage_declares_what_it_asks() -> None:
    asked = {name: found.asks for name, found in lifecycle_dag().stages.items() if found.asks}
    assert set(asked) == {"ingestion", "validation", "statistics", "preprocessing", "training", "evaluation"}
