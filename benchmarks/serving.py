"""What an answer costs: the endpoint beside a bare server that does the same work, and beside Serve as it comes.

    python -m benchmarks.serving [--seconds 4] [--rounds 3]

Closed loop of one row at 1, 8 and 64 connections by `wrk` (Debian package), the servers in turn, medians of the rounds.
CPU milliseconds are those of the whole process tree of a server, a request. Ratios are what counts on a shared machine.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

SOTTOVOCE = [sys.executable, "-m", "sottovoce"]
CONNECTIONS = (1, 8, 64)

BARE = """
import json, os, sys
os.environ["OMP_NUM_THREADS"] = "1"
from pathlib import Path
import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic_core import from_json, to_json
from pipeline.store.registry import Registry
from server.serving.version import ServedModel
space = Path(sys.argv[1])
registry = Registry(f"sqlite:///{space / 'registry.db'}", space / "models")
model = ServedModel.load(registry.champion(registry.names()[0]))
api = FastAPI()
@api.post("/predict")
async def predict(request: Request) -> Response:
    told = from_json(await request.body())
    reply = {"model": "m", "version": 1, "predictions": model.predict(told["rows"])}
    return Response(to_json(reply), media_type="application/json")
uvicorn.run(api, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", access_log=False)
"""
NOOP = """
import sys, time
import ray
from fastapi import FastAPI
from ray import serve
api = FastAPI()
@serve.deployment
@serve.ingress(api)
class Noop:
    @api.post("/predict")
    async def predict(self) -> dict:
        return {"model": "m"}
ray.init(include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
serve.run(Noop.bind())
time.sleep(3600)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def server(command: list[str], port: int, body: bytes) -> Iterator[psutil.Process]:
    """A process that answers `POST /predict` on the port, until it is not needed."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", body)
                urllib.request.urlopen(request, timeout=5).read()
                break
            except OSError:
                assert process.poll() is None, command
                assert time.monotonic() < deadline, command
                time.sleep(0.2)
        yield psutil.Process(process.pid)
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
        for child in children:
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue


def cpu(root: psutil.Process) -> float:
    """Seconds of the process tree so far."""
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def memory(root: psutil.Process) -> float:
    """MB of the process tree, PSS."""
    return sum(process.memory_full_info().pss for process in [root, *root.children(recursive=True)]) / 1e6


def load(port: int, connections: int, seconds: int, body: bytes, folder: Path) -> float:
    """Requests that were answered in so many seconds. Any other answer than 200 fails."""
    script = folder / "ask.lua"
    script.write_text(
        f'wrk.method, wrk.body = "POST", {json.dumps(body.decode())}\n'
        'wrk.headers["Content-Type"] = "application/json"\n'
    )
    wrk = shutil.which("wrk")
    assert wrk, "apt install wrk"
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds}", "-s", str(script), f"http://127.0.0.1:{port}/predict"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in told, told
    found = re.search(r"(\d+) requests in", told)
    assert found, told
    return float(found[1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    os.environ["RAY_DISABLE_IMPORT_WARNING"] = "1"
    with tempfile.TemporaryDirectory() as place, ExitStack() as held:
        folder = Path(place)
        space = folder / "w"
        subprocess.run(
            [*SOTTOVOCE, "simulate", "--workspace", str(space), "--json"], check=True, stdout=subprocess.DEVNULL
        )
        sys.path.insert(0, str(Path(__file__).parents[1]))
        from pipeline.store.registry import Registry
        from server.serving.version import ServedModel

        registry = Registry(f"sqlite:///{space / 'registry.db'}", space / "models")
        champion = registry.champion(registry.names()[0])
        assert champion
        body = json.dumps({"rows": [ServedModel.load(champion).example]}).encode()
        ports = {name: free_port() for name in ("ours", "bare", "noop")}
        commands = {
            "ours": [*SOTTOVOCE, "serve", "--workspace", str(space), "--port", str(ports["ours"]), "--grpc-port", "0"],
            "bare": [sys.executable, "-c", BARE, str(space), str(ports["bare"])],
            "noop": [sys.executable, "-c", NOOP, str(ports["noop"])],
        }
        roots = {}
        for name, command in commands.items():
            roots[name] = held.enter_context(server(command, ports[name], body))
            print(f"  {name:5} first answer after {cpu(roots[name]):5.1f} s CPU   {memory(roots[name]):6.0f} MB")
        rates, costs = defaultdict(list), defaultdict(list)
        for _ in range(given.rounds):
            for connections in CONNECTIONS:
                for name, root in roots.items():
                    before = cpu(root)
                    answered = load(ports[name], connections, given.seconds, body, folder)
                    rates[name, connections].append(answered / given.seconds)
                    costs[name, connections].append((cpu(root) - before) / answered * 1e3)
        for connections in CONNECTIONS:
            rate = {name: statistics.median(rates[name, connections]) for name in roots}
            cost = {name: statistics.median(costs[name, connections]) for name in roots}
            told = "   ".join(f"{name} {rate[name]:6.0f}/s {cost[name]:5.2f} ms" for name in roots)
            print(
                f"  {connections:2} connections   {told}   ours {rate['ours'] / rate['bare']:.2f}x bare (bound 0.8)   "
                f"{rate['ours'] / rate['noop']:.1f}x the no-op (bound 8 from 8 connections)"
            )


if __name__ == "__main__":
    main()
