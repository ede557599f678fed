"""Three small stages, and stores in a folder to run them on."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from pipeline.engine.execution import Context
from pipeline.engine.graph import Dag, stage
from pipeline.engine.progress import Event, StageFinished
from pipeline.engine.scheduler import run as run_graph
from pipeline.store.artifacts import ArtifactStore
from pipeline.store.journal import Journal
from pipeline.store.metadata import Metadata


class Number(BaseModel):
    value: int


@stage(produces="one", place="clients")
def first(start: int) -> Number:
    return Number(value=start)


@stage(produces="two", place="here")
def second(one: Number, factor: int) -> Number:
    return Number(value=one.value * factor)


@stage(produces="three", place="clients")
def third(one: Number, two: Number) -> Number:
    return Number(value=one.value + two.value)


class Held:
    """A tool that stays in its process."""

    sendable = False


class Bench:
    """Stores in a folder, and the events of the last run."""

    def __init__(self, folder: Path) -> None:
        self.store = ArtifactStore(str(folder / "artifacts"))
        self.metadata = Metadata(f"sqlite:///{folder / 'metadata.db'}")
        self.events: list[Event] = []

    def run(
        self, dag: Dag, sections: dict[str, object], of: str | None = None, **tools: object
    ) -> dict[str, BaseModel]:
        """of: the run it is done for; None: a new one."""
        self.events.clear()
        run = self.metadata.begin_run("test", {}, of)
        context = Context(run, sections, tools, self.store, self.metadata, self.events.append, {"paid": "epsilon 1"})
        made = run_graph(dag, context)
        return {name: dag.makers[name].output.model_validate_json(self.store.get(made[name])) for name in made}

    @property
    def executed(self) -> list[str]:
        return [event.stage for event in self.events if isinstance(event, StageFinished) and not event.cached]


TOOLS = {"journal": Journal, "lock": Held}


def simple(*functions: object) -> Dag:
    return Dag(
        functions or (third, second, first), sections=("start", "factor"), tools={"journal": Journal, "lock": Held}
    )  # type: ignore[arg-type]
