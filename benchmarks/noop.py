"""One federation of no-op clients on one engine; prints the seconds of each round as JSON.

python -m benchmarks.noop ray-grid|flower NODES ROUNDS PARAMETERS
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from pipeline.engine.cluster import ray_engine
from pipeline.host.environment import quiet_environment


def client_app() -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        content = RecordDict({"arrays": message.content["arrays"], "metrics": MetricRecord({"num-examples": 1})})
        return Message(content, reply_to=message)

    return app


def rounds_on(grid: Grid, nodes: int, rounds: int, parameters: int) -> list[float]:
    """The same loop for both engines: send the arrays to everyone, wait for all, average."""
    while len(list(grid.get_node_ids())) < nodes:
        time.sleep(0.05)
    taken = []
    arrays = np.zeros(parameters, dtype=np.float32)
    for number in range(rounds):
        begun = time.monotonic()
        record = ArrayRecord([arrays])
        messages = [
            Message(RecordDict({"arrays": record}), node, "train", group_id=str(number)) for node in grid.get_node_ids()
        ]
        replies = [reply.content["arrays"].to_numpy_ndarrays()[0] for reply in grid.send_and_receive(messages)]
        assert len(replies) == nodes
        arrays = np.mean(replies, axis=0)
        taken.append(time.monotonic() - begun)
    return taken


def on_ray_grid(nodes: int, rounds: int, parameters: int) -> list[float]:
    with ray_engine():
        from simulations.grid import RayGrid

        with RayGrid(client_app(), [{} for _ in range(nodes)], workers=2) as grid:
            return rounds_on(grid, nodes, rounds, parameters)


def on_flower(nodes: int, rounds: int, parameters: int) -> list[float]:
    from flwr.simulation import run_simulation

    server, taken = ServerApp(), []

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        taken.extend(rounds_on(grid, nodes, rounds, parameters))

    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"include_dashboard": False}}
    run_simulation(server, client_app(), nodes, backend_config=resources)  # type: ignore[arg-type]
    return taken


if __name__ == "__main__":
    quiet_environment()
    engine, *numbers = sys.argv[1:]
    measured = {"ray-grid": on_ray_grid, "flower": on_flower}[engine](*map(int, numbers))
    print(json.dumps({"rounds": measured}))
