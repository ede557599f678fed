"""Runs that are disturbed, and what each must have come to, whatever happened in it."""

from tests.deployment import GROUPS, Deployment

LONG = {"training__rounds": 4, "training__local_epochs": 150}
"""Local training of a second or two, so that there is a middle of it."""


def charged_once_for_one_model(deployment: Deployment, rounds: int) -> dict[int, list[str]]:
    """Each round is charged at most once, in order; what is registered is what the clients made. Who was in it."""
    for name in GROUPS:
        charges = deployment.charges(name)
        assert len(charges) == len(set(charges)), name
        trained = [charge for charge in charges if "/train/" in charge]
        newest = trained[-1].partition("/")[0]
        numbers = [int(charge.rpartition("/")[2]) for charge in trained if charge.startswith(newest)]
        assert numbers == sorted(numbers)
        assert numbers[-1] <= rounds
    taken = deployment.final_model()
    assert sorted(taken) == list(range(1, rounds + 1))
    return taken


def stages_done(deployment: Deployment, said: str) -> None:
    """No stage is done twice in one run, however often it was resumed; those that look at the world look again."""
    for stage in ("design", "ingestion", "validation", "preprocessing", "training", "evaluation", "registration"):
        assert said.count(f"  {stage} done") == 1, said
    assert "  deployment done" in said
