"""Running a graph in one process: whatever is ready runs at once, each stage in a thread of its own.

Who interrupts the process is not kept waiting for a stage to end: its thread goes with the process, as if that had
been killed, and whoever goes on finds what was finished.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from graphlib import TopologicalSorter
from queue import SimpleQueue

from pipeline.engine.execution import Context, execute
from pipeline.engine.graph import Dag, Stage
from pipeline.engine.progress import StageBroken
from pipeline.store.artifacts import Digest


def run(dag: Dag, context: Context) -> dict[str, Digest]:
    """Execute every stage, or reuse its result; returns the digests of all outputs by name.

    A failing stage lets those already running finish and starts no other. Raises what the first one raised.
    """
    sorter = TopologicalSorter(dag.edges())
    sorter.prepare()
    made: dict[str, Digest] = {}
    ended: SimpleQueue[tuple[Stage, Digest | BaseException]] = SimpleQueue()
    failure: BaseException | None = None
    running = 0

    def work(found: Stage, inputs: Mapping[str, Digest]) -> None:
        try:
            ended.put((found, execute(found, inputs, context)))
        except BaseException as error:  # the thread ends here; whoever waits raises it
            ended.put((found, error))

    while sorter.is_active() and (running or not failure):
        for name in sorter.get_ready() if not failure else ():
            found = dag.stages[name]
            inputs = {parameter: made[parameter] for parameter in found.parameters if parameter in dag.makers}
            threading.Thread(target=work, args=(found, inputs), name=f"stage {name}", daemon=True).start()
            running += 1
        found, result = ended.get()
        running -= 1
        if isinstance(result, BaseException):
            failure = failure or result
            context.progress(StageBroken(found.name, str(result)))
        else:
            made[found.produces] = result
            sorter.done(found.name)
    if failure:
        raise failure
    return made
