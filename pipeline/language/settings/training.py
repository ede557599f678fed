"""Local and global training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.kinds import Frozen


class Average(Frozen):
    """The mean update as it is (McMahan et al. 2017)."""

    kind: Literal["average"] = Field("average", description="Federated averaging.")


class Momentum(Frozen):
    """FedAvgM (Hsu, Qi and Brown 2019): updates go on in the direction of earlier ones."""

    kind: Literal["momentum"] = Field(description="Averaging with momentum.")
    learning_rate: float = Field(1.0, gt=0, allow_inf_nan=False, description="What the step is multiplied by.")
    beta: float = Field(0.9, ge=0, lt=1, description="How much of the last step goes on.")


class Adam(Frozen):
    """FedAdam (Reddi et al. 2021, algorithm 2)."""

    kind: Literal["adam"] = Field(description="Steps of a size of their own for every parameter.")
    learning_rate: float = Field(0.01, gt=0, allow_inf_nan=False, description="Size of a step.")
    beta1: float = Field(0.9, ge=0, lt=1, description="How much of the mean update so far goes on.")
    beta2: float = Field(0.99, ge=0, lt=1, description="How much of its mean square so far goes on.")
    tau: float = Field(1e-3, gt=0, allow_inf_nan=False, description="Adaptivity: the smaller, the more adaptive.")


Server = Annotated[Average | Momentum | Adam, Field(discriminator="kind")]


class TrainingConfig(Frozen):
    """Federated averaging with local SGD."""

    rounds: int = Field(10, ge=1, description="Rounds of federated averaging.")
    local_epochs: int = Field(2, ge=1, description="Passes (in expectation) over the local rows in each round.")
    expected_batch: int = Field(1024, ge=1, description="Expected size of a Poisson batch.")
    learning_rate: float = Field(0.5, gt=0, allow_inf_nan=False, description="Step size of local SGD.")
    decay: float = Field(
        0.8,
        ge=0,
        lt=1,
        description="The step size falls linearly by this fraction over the rounds: late noise weighs less.",
    )
    optimizer: Literal["sgd", "adam"] = Field("sgd", description="What takes the local steps, fresh each round.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of local SGD; of Adam its first beta.")
    server: Server = Field(default_factory=Average, description="How the mean update is applied.")
    proximal: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="FedProx: pull of local training back to the global model."
    )
    weight_cap: int = Field(
        10_000,
        ge=1,
        description="A client weighs the rows it declares, at most so many; 1: all weigh the same.",
    )
    seed: int = Field(0, ge=0, description="Seed of the initial weights. Noise and sampling are never seeded.")
