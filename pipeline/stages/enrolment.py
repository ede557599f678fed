"""enrolment: who takes part, and with which data. Looks at the world, so it is asked anew in every run."""

from __future__ import annotations

from pipeline.engine.graph import stage
from pipeline.federation.clients import Clients
from pipeline.language.config import FederationConfig
from pipeline.stages.values import Cohort, Member


@stage(produces="cohort", place="clients", volatile=True)
def enrolment(clients: Clients, federation: FederationConfig) -> Cohort:
    """Raises CohortTooSmall."""
    joined = clients.join(federation.expected_clients)
    return Cohort(
        members={
            name: Member(public_keys=reply.public_keys, fingerprint=reply.fingerprint, code=reply.code)
            for name, reply in joined.items()
        }
    )
