"""Each switch of the owner's policy, on by default, at its very border."""

from pathlib import Path
from typing import Any

import pytest

from clients.policy import ClientPolicy
from pipeline.language.settings.privacy import ClientPrivacy, RecordPrivacy
from privacy.errors import (
    ActionForbidden,
    BudgetExhausted,
    CohortTooSmall,
    ForbiddenColumn,
    PlanInvalid,
    TooFewRows,
)


def policy(**changes: Any) -> ClientPolicy:
    fields = {"name": "east", "source": Path("t.csv"), "rows": 1000, "lifetime_epsilon": 8.0, "min_cohort": 5}
    return ClientPolicy.model_validate({**fields, **changes})


def record(epsilon: float = 1.0, delta: float = 1e-5) -> RecordPrivacy:
    return RecordPrivacy(unit="record", epsilon=epsilon, delta=delta)


def test_every_promise_has_its_switch_on() -> None:
    ours = policy()
    assert ours.require_encryption
    assert ours.require_masks
    assert ours.known_clients_only
    assert (ours.units, ours.colluders, ours.run_epsilon) == (("record", "subject", "client"), 1, 4.0)


def test_delta_has_to_be_below_one_over_the_declared_rows() -> None:
    with pytest.raises(ValueError, match="one over rows"):
        policy(rows=100_000)
    assert policy(rows=99_999).rows == 99_999
    assert policy(rows=100_000, lifetime_epsilon=float("inf")).unlimited


def test_units_epsilon_and_delta_of_a_run() -> None:
    policy().permit_privacy(record(4.0))
    policy().permit_privacy(ClientPrivacy(unit="client", epsilon=4.0))
    policy(units=["none"]).permit_privacy("none")
    for refused, error in (
        (record(4.01), BudgetExhausted),
        (record(1.0, 1.1e-5), ActionForbidden),
        ("none", ActionForbidden),
    ):
        with pytest.raises(error):
            policy().permit_privacy(refused)  # type: ignore[arg-type]
    with pytest.raises(ActionForbidden):
        policy(units=["client"]).permit_privacy(record())


@pytest.mark.parametrize("scheme", ["bfv", "none"])
@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("encryption", [True, False])
@pytest.mark.parametrize("demanded", [True, False])
def test_encryption_and_masks(scheme: Any, masks: bool, encryption: bool, demanded: bool) -> None:
    ours = policy(require_encryption=encryption, require_masks=demanded)
    allowed = (scheme == "bfv" or not encryption) and ((scheme == "bfv" and masks) or not demanded)
    if allowed:
        ours.permit_group(scheme, masks)
    else:
        with pytest.raises(PlanInvalid):
            ours.permit_group(scheme, masks)


def test_rows_cohorts_models_columns_and_actions() -> None:
    ours = policy(min_rows=500, max_parameters=10, forbidden_columns=["name"], allowed_actions=["join"])
    ours.permit_rows(1000)
    ours.permit_cohort(5)
    ours.permit_model(10)
    ours.permit_columns(["age"])
    ours.permit_action("join")
    with pytest.raises(TooFewRows):
        ours.permit_rows(1001)
    with pytest.raises(TooFewRows):
        policy(min_rows=1001).permit_rows(0)
    with pytest.raises(CohortTooSmall):
        ours.permit_cohort(4)
    with pytest.raises(ActionForbidden):
        ours.permit_model(11)
    with pytest.raises(ForbiddenColumn):
        ours.permit_columns(["age", "name"])
    with pytest.raises(ActionForbidden):
        ours.permit_action("train")


def test_two_quorums_have_an_honest_client_in_common() -> None:
    for clients in range(2, 40):
        for colluders in range(clients):
            least = policy(min_cohort=2, colluders=colluders).quorum(clients)
            assert 2 * least - clients > colluders
            assert 2 * (least - 1) - clients <= colluders or least == 2, "and no more than that is asked"


def test_a_group_that_could_never_reveal_is_refused() -> None:
    policy(min_cohort=2, colluders=1).permit_group_size(3)
    with pytest.raises(CohortTooSmall, match="4 would have to vouch"):
        policy(min_cohort=2, colluders=3).permit_group_size(3)
