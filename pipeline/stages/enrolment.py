"""enrolment: who takes part, and with which data. Looks at the world, so it is asked anew in every run."""

from __future__ import annotations

from pipeline.engine.graph import stage
from pipeline.federation.clients import Clients
from pipeline.language.protocol import JoinRequest, own_version
from pipeline.language.settings.federation import FederationConfig
from pipeline.learning.contract import DataContract
from pipeline.learning.models.model import Model
from pipeline.stages.values import Cohort, Design, Member


@stage(produces="cohort", place="clients", volatile=True)
def enrolment(
    clients: Clients, design: Design, data: DataContract, model: Model, federation: FederationConfig
) -> Cohort:
    """Raises CohortTooSmall. A client that has not the classes of the run, or does not allow them, takes no part."""
    wanted = JoinRequest(version=own_version(), contract=data, model=model, parameters=design.parameters)
    joined = clients.join(federation.expected_clients, wanted)
    return Cohort(
        members={
            name: Member(
                public_keys=reply.public_keys,
                fingerprint=reply.fingerprint,
                declared=reply.declared,
                code=reply.code,
            )
            for name, reply in joined.items()
        }
    )
