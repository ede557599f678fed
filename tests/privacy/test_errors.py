"""Every error has a name, an exit code and a headline, travels only when harmless, and survives a process border."""

import errno
import pickle

import pytest

from privacy import errors
from privacy.errors import (
    AccessDenied,
    BudgetExhausted,
    ClientFailed,
    ColumnMissing,
    SottovoceError,
    StorageFull,
    named,
)

TREE = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SottovoceError)]


@pytest.mark.parametrize("kind", TREE)
def test_every_error_is_documented_and_crosses_processes(kind: type[SottovoceError]) -> None:
    assert kind.__name__ in (errors.__doc__ or "")
    error = kind("cause", remedy="remedy", travels=True)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # Ray does this inside one trust domain
    assert (type(again), again.cause, again.remedy, again.travels) == (kind, "cause", "remedy", True)
    assert error.code
    assert error.code == error.code.lower()


def test_only_harmless_causes_travel() -> None:
    assert ColumnMissing("patient Jane", remedy="x").travelling() == ("column-missing", ColumnMissing.headline)
    assert BudgetExhausted("spent 8", travels=True).travelling() == ("budget-exhausted", "spent 8")
    assert ClientFailed("secret").travelling()[1] == ClientFailed.headline


def test_the_name_behind_an_error_is_found() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/data/x")
    wrapped = RuntimeError("outer")
    wrapped.__cause__ = full
    found = named(wrapped)
    assert isinstance(found, StorageFull)
    assert "/data/x" in found.cause
    refused = named(PermissionError(errno.EACCES, "Permission denied", "/data/x"))
    assert isinstance(refused, AccessDenied)
    assert "/data/x" in refused.cause
    assert refused.remedy
    assert named(ValueError("x")) is None
