"""ML Metadata: what is exported is loaded by its own library, and found again by its queries."""

from pathlib import Path

import pytest

from tests.interop.support import call, environment, lifecycle
from tests.test_cli import sottovoce

pytestmark = pytest.mark.interop

BIN = environment("mlmd")

READ = """
import sys
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2 as pb
config = pb.ConnectionConfig(); config.sqlite.filename_uri = sys.argv[1]
store = metadata_store.MetadataStore(config)
version = store.get_artifacts_by_type("sottovoce.model_version")[0]
graph = store.get_lineage_subgraph(query_options=pb.LineageSubgraphQueryOptions(
    starting_artifacts=pb.LineageSubgraphQueryOptions.StartingNodes(filter_query=f"id = {version.id}"),
    max_num_hops=40, direction=pb.LineageSubgraphQueryOptions.Direction.UPSTREAM))
kinds = {kind.id: kind.name for kind in store.get_execution_types()}
print("ABOVE", *sorted({kinds[one.type_id].split(".")[1] for one in graph.executions}))
print("RUN", [c.properties["state"].string_value for c in store.get_contexts_by_type("sottovoce.run")])
"""


def test_lineage_is_loaded_and_read_back(tmp_path: Path) -> None:
    config = lifecycle(tmp_path)
    assert sottovoce("simulate", config, "--workspace", tmp_path / "w").returncode == 0
    done = sottovoce("export", "mlmd", "--workspace", tmp_path / "w", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    command = [BIN / "python", tmp_path / "out" / "load_mlmd.py", tmp_path / "out" / "lineage.json", tmp_path / "s.db"]
    first, second = call(command), call(command)
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout, "loading it again changes nothing"
    found = call([BIN / "python", "-c", READ, tmp_path / "s.db"])
    assert "ABOVE" in found.stdout, found.stderr
    above = found.stdout.split("ABOVE ")[1].splitlines()[0].split()
    assert {"training", "preprocessing", "ingestion", "evaluation", "registration"} <= set(above)
    assert "RUN ['COMPLETE']" in found.stdout
