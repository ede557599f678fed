"""Load lineage.json into ML Metadata: python load_mlmd.py lineage.json STORE.db. Loading it again changes nothing."""

import json
import sys

from ml_metadata import errors, metadata_store
from ml_metadata.proto import metadata_store_pb2 as pb

ARTIFACTS = {
    "snapshots": "DATASET",
    "feature_set": "DATASET",
    "validation_report": "STATISTICS",
    "statistics_report": "STATISTICS",
    "weights": "MODEL",
    "trained_model": "MODEL",
    "model_version": "MODEL",
    "evaluation_report": "METRICS",
}
STAGES = {
    "ingestion": "PROCESS",
    "preprocessing": "TRANSFORM",
    "training": "TRAIN",
    "evaluation": "EVALUATE",
    "deployment": "DEPLOY",
}
STATES = {"COMPLETE": pb.Execution.COMPLETE, "FAILED": pb.Execution.FAILED, "RUNNING": pb.Execution.RUNNING}


class Loader:
    """Puts what is not there yet; ids of ours are its external ids."""

    def __init__(self, store):
        self.store = store
        self.types = {}

    def type_of(self, kind, name, properties, base=None):
        """Id of a type."""
        if (kind, name) not in self.types:
            made = getattr(pb, kind)(name=name, properties=properties)
            if base:
                made.base_type = getattr(getattr(pb, kind), base)
            self.types[kind, name] = getattr(self.store, f"put_{kind[: -len('Type')].lower()}_type")(made)
        return self.types[kind, name]

    def known(self, what, id):
        """The id here of what has that external id; None: it is new."""
        try:
            found = getattr(self.store, f"get_{what}_by_external_ids")([id])
        except errors.NotFoundError:
            return None
        return found[0].id if found else None

    def artifact(self, one):
        kind = self.type_of("ArtifactType", f"sottovoce.{one['type']}", {}, ARTIFACTS.get(one["type"]))
        made = pb.Artifact(type_id=kind, name=one["digest"], external_id=one["digest"], uri=one["uri"])
        made.state = pb.Artifact.LIVE
        return self.known("artifacts", one["digest"]) or self.store.put_artifacts([made])[0]

    def execution(self, one):
        names = {"key": pb.STRING, "code": pb.STRING, "parameters": pb.STRING, "error": pb.STRING}
        times = {"started": pb.DOUBLE, "ended": pb.DOUBLE}
        kind = self.type_of("ExecutionType", f"sottovoce.{one['stage']}", names | times, STAGES.get(one["stage"]))
        made = pb.Execution(type_id=kind, name=one["id"], external_id=one["id"])
        made.last_known_state = STATES.get(one["state"], pb.Execution.UNKNOWN)
        for name in names:
            value = one[name] if name != "parameters" else json.dumps(one[name], sort_keys=True)
            made.properties[name].string_value = value or ""
        for name in times:
            if one[name] is not None:
                made.properties[name].double_value = one[name]
        if known := self.known("executions", one["id"]):
            made.id = known  # it may have ended since
        return self.store.put_executions([made])[0]

    def run(self, one):
        names = {"state": pb.STRING, "error": pb.STRING, "started": pb.DOUBLE, "ended": pb.DOUBLE}
        made = pb.Context(type_id=self.type_of("ContextType", "sottovoce.run", names), name=one["id"])
        made.external_id = one["id"]
        for name in ("state", "error"):
            made.properties[name].string_value = one[name] or ""
        for name in ("started", "ended"):
            if one[name] is not None:
                made.properties[name].double_value = one[name]
        if known := self.known("contexts", one["id"]):
            made.id = known
        id = self.store.put_contexts([made])[0]
        model = pb.Context(type_id=self.type_of("ContextType", "sottovoce.model", {}), name=one["name"])
        model.external_id = f"model/{one['name']}"
        parent = self.known("contexts", model.external_id) or self.store.put_contexts([model])[0]
        if parent not in {found.id for found in self.store.get_parent_contexts_by_context(id)}:
            self.store.put_parent_contexts([pb.ParentContext(child_id=id, parent_id=parent)])
        return id


def load(tree, store):
    """Everything in the file."""
    loader = Loader(store)
    artifacts = {one["digest"]: loader.artifact(one) for one in tree["artifacts"]}
    executions = {one["id"]: loader.execution(one) for one in tree["executions"]}
    events = {}
    for one in tree["events"]:  # the same bytes under two names are one event with two steps in its path
        events.setdefault((one["execution"], one["artifact"], one["direction"]), []).append(one["name"])
    there = {
        (event.artifact_id, event.execution_id, event.type)
        for event in store.get_events_by_execution_ids(list(executions.values()))
    }
    made = []
    for (execution, artifact, direction), names in events.items():
        event = pb.Event(artifact_id=artifacts[artifact], execution_id=executions[execution])
        event.type = pb.Event.INPUT if direction == "INPUT" else pb.Event.OUTPUT
        for name in names:
            event.path.steps.add().key = name
        if (event.artifact_id, event.execution_id, event.type) not in there:
            made.append(event)
    store.put_events(made)
    for one in tree["runs"]:
        context = loader.run(one)
        known = {found.id for found in store.get_executions_by_context(context)}
        mine = {executions[id] for id in one["executions"]}
        used = {artifacts[event["artifact"]] for event in tree["events"] if event["execution"] in one["executions"]}
        known_artifacts = {found.id for found in store.get_artifacts_by_context(context)}
        store.put_attributions_and_associations(
            [pb.Attribution(artifact_id=id, context_id=context) for id in sorted(used - known_artifacts)],
            [pb.Association(execution_id=id, context_id=context) for id in sorted(mine - known)],
        )


def main():
    """The command."""
    source, target = sys.argv[1:]
    with open(source) as file:
        tree = json.load(file)
    config = pb.ConnectionConfig()
    config.sqlite.filename_uri = target
    config.sqlite.connection_mode = pb.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    store = metadata_store.MetadataStore(config)
    load(tree, store)
    sys.stdout.write(
        f"{len(store.get_artifacts())} artifacts, {len(store.get_executions())} executions, "
        f"{len(store.get_contexts())} contexts, {len(tree['events'])} events\n"
    )


if __name__ == "__main__":
    main()
