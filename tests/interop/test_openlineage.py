"""OpenLineage: a stock client's own classes read every event, and a collector gets them all, again the same."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.interop.support import call, environment, lifecycle
from tests.test_cli import sottovoce

pytestmark = pytest.mark.interop

BIN = environment("openlineage")

READ = """
import json, sys
from openlineage.client import event_v2 as v2
from openlineage.client.generated.base import EventType
from openlineage.client.generated import (datasource_dataset, dataset_version_dataset, error_message_run, job_type_job,
                                          parent_run)
from openlineage.client.serde import Serde
facets = {"jobType": job_type_job.JobTypeJobFacet, "parent": parent_run.ParentRunFacet,
          "errorMessage": error_message_run.ErrorMessageRunFacet,
          "version": dataset_version_dataset.DatasetVersionDatasetFacet,
          "dataSource": datasource_dataset.DatasourceDatasetFacet}
read = 0
def facet(name, told):
    global read
    kind = facets[name]
    told = dict(told)
    producer, schema = told.pop("_producer"), told.pop("_schemaURL")
    if name == "parent":
        job, run = parent_run.Job(**told["job"]), parent_run.Run(**told["run"])
        root = told["root"]
        told = {"job": job, "run": run,
                "root": parent_run.Root(job=parent_run.RootJob(**root["job"]), run=parent_run.RootRun(**root["run"]))}
    made = kind(**told, producer=producer)
    assert made._schemaURL.split("#")[1] == schema.split("#")[1], (made._schemaURL, schema)
    read += 1
    return made
def dataset(told, kind):
    facets = {n: facet(n, f) for n, f in told["facets"].items()}
    return kind(namespace=told["namespace"], name=told["name"], facets=facets)
kinds = []
for line in open(sys.argv[1]):
    told = json.loads(line)
    event = v2.RunEvent(
        eventType=EventType(told["eventType"]), eventTime=told["eventTime"], producer=told["producer"],
        run=v2.Run(runId=told["run"]["runId"], facets={n: facet(n, f) for n, f in told["run"]["facets"].items()}),
        job=v2.Job(namespace=told["job"]["namespace"], name=told["job"]["name"],
                   facets={n: facet(n, f) for n, f in told["job"]["facets"].items()}),
        inputs=[dataset(one, v2.InputDataset) for one in told["inputs"]],
        outputs=[dataset(one, v2.OutputDataset) for one in told["outputs"]])
    again = json.loads(Serde.to_json(event))
    assert again["run"]["runId"] == told["run"]["runId"] and again["job"]["name"] == told["job"]["name"]
    kinds.append(told["eventType"])
print("READ", len(kinds), read, sorted(set(kinds)))
"""


class Collector(BaseHTTPRequestHandler):
    """Keeps what is posted."""

    got: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        self.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(201)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[str]:
    Collector.got.clear()
    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/api/v1/lineage"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_stock_client_reads_them_and_a_collector_gets_them(tmp_path: Path, collector: str) -> None:
    config, place = lifecycle(tmp_path), ("--workspace", tmp_path / "w")
    assert sottovoce("simulate", config, *place).returncode == 0
    assert sottovoce("simulate", config, *place, "--set", "training.rounds=0").returncode == 2
    done = sottovoce("export", "openlineage", *place, "--out", tmp_path / "events.jsonl")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    stages = {event["job"]["name"].partition(".")[2] for event in events if "." in event["job"]["name"]}
    assert {"training", "registration", "ingestion"} <= stages
    assert [event["eventTime"] for event in events] == sorted(event["eventTime"] for event in events)
    found = call([BIN / "python", "-c", READ, tmp_path / "events.jsonl"])
    assert f"READ {len(events)}" in found.stdout, found.stderr
    for _ in range(2):
        done = sottovoce("export", "openlineage", *place, "--to", collector)
        assert done.returncode == 0, done.stderr
    assert Collector.got == events * 2, "the same runs are the same events"
    done = sottovoce("export", "openlineage", *place, "--to", "http://127.0.0.1:1/api")
    assert (done.returncode, "Nothing is lost" in done.stderr) == (7, True)
