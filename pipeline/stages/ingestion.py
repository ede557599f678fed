"""ingestion: every client takes a snapshot of the contract's columns."""

from __future__ import annotations

from pipeline.engine.graph import stage
from pipeline.federation.clients import Clients
from pipeline.language.protocol import Action, IngestReply, IngestRequest
from pipeline.learning.contract import DataContract
from pipeline.stages.values import Cohort, Snapshots


@stage(produces="snapshots", place="clients", asks=(Action.INGEST,))
def ingestion(clients: Clients, cohort: Cohort, data: DataContract) -> Snapshots:
    """Raises CohortTooSmall, naming each client that has no such data."""
    clients.meet(cohort.public_keys)
    request = IngestRequest(contract=data)
    asked = clients.ask(Action.INGEST, request, IngestReply, clients=cohort.members)
    return Snapshots(digests={answer.client: answer.reply.snapshot for answer in asked.answers})
