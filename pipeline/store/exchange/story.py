"""What is known of some runs, as plain values: runs, the executions they made or reused, artifacts and events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.store.artifacts import ArtifactStore
from pipeline.store.metadata import Execution, Link, Metadata, Run


@dataclass(frozen=True)
class Story:
    """executions: by run, each with whether it was reused. types and uris: of artifacts by their digest."""

    runs: Sequence[Run]
    executions: dict[str, list[tuple[Execution, bool]]]
    links: dict[str, list[Link]]
    types: dict[str, str]
    uris: dict[str, str]

    @classmethod
    def of(cls, metadata: Metadata, wanted: Sequence[Run], store: ArtifactStore) -> Story:
        """Of these runs, and of those whose work they used again: else it would come from nowhere."""
        used = {run.id for run in wanted}
        for run in wanted:
            made = [metadata.maker(one.id) for one, reused in metadata.executions_of(run.id) if reused]
            used |= {id for id in made if id}
        runs = [run for run in reversed(metadata.runs()) if run.id in used]
        executions = {run.id: metadata.executions_of(run.id) for run in runs}
        ids = {execution.id for found in executions.values() for execution, _ in found}
        links = {id: metadata.links(execution=id) for id in sorted(ids)}
        digests = {link.artifact for found in links.values() for link in found}
        types = {digest: kind for one in sorted(digests) for digest, kind in metadata.matching(one)}
        return cls(runs, executions, links, types, {digest: store.uri(digest) for digest in types})
