"""Steps of the global model against the algorithms as they are published, and that they arrive."""

import numpy as np
import pytest

from pipeline.language.settings.training import Adam, Average, Momentum, Server
from pipeline.language.stepping import Moments, stepped


def test_averaging_adds_the_mean() -> None:
    mean = np.array([1.0, -2.0])
    step, moments = stepped(Average(), mean, ())
    assert np.array_equal(step, mean)
    assert moments == ()


def test_adam_is_algorithm_two_of_reddi_et_al() -> None:
    server = Adam(kind="adam", learning_rate=0.1, beta1=0.9, beta2=0.99, tau=0.01)
    moments: Moments = ()
    m, v = np.zeros(2), np.full(2, 0.01**2)
    for mean in ([1.0, -0.2], [0.5, 0.1], [-1.0, 0.0]):
        step, moments = stepped(server, np.array(mean), moments)
        m = 0.9 * m + 0.1 * np.array(mean)
        v = 0.99 * v + 0.01 * np.array(mean) ** 2
        assert step == pytest.approx(0.1 * m / (np.sqrt(v) + 0.01), rel=1e-5)


def test_momentum_goes_on() -> None:
    server = Momentum(kind="momentum", learning_rate=0.5, beta=0.9)
    first, moments = stepped(server, np.array([1.0]), ())
    second, _ = stepped(server, np.array([0.0]), moments)
    assert (first[0], second[0]) == (pytest.approx(0.5), pytest.approx(0.45))


@pytest.mark.parametrize(
    "server",
    [Average(), Momentum(kind="momentum", beta=0.5), Adam(kind="adam", learning_rate=0.1)],
    ids=lambda server: server.kind,
)
def test_each_arrives(server: Server) -> None:
    """Updates that go a third of the way."""
    at, goal, moments = np.zeros(3), np.array([1.0, -1.0, 0.3]), ()
    for _ in range(200):
        step, moments = stepped(server, (goal - at) / 3, moments)  # type: ignore[assignment]
        at = at + step
    assert at == pytest.approx(goal, abs=0.03)
