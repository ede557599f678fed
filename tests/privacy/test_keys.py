"""Group keys reach every member and nobody else."""

from pathlib import Path

import pytest

from privacy.cipher import Group
from privacy.errors import SecretExposed, SumRejected
from privacy.keys import Identity, open_group, read_secret, roster_hash, seal_group, unwrap, wrap, write_secret


@pytest.fixture
def identities(tmp_path: Path) -> dict[str, Identity]:
    return {name: Identity.create(tmp_path / name) for name in ("a", "b", "eve")}


def test_a_wrapped_master_opens_for_its_member_only(identities: dict[str, Identity]) -> None:
    binding = roster_hash("e1", {name: identity.public for name, identity in identities.items()})
    wrapped = wrap(identities["a"], identities["b"].public, binding, bytes(32))
    assert len(wrapped) == 80
    assert unwrap(identities["b"], identities["a"].public, binding, wrapped) == bytes(32)
    for member, leader, bound in [
        ("eve", "a", binding),
        ("b", "eve", binding),
        ("b", "a", roster_hash("e2", {})),
    ]:
        with pytest.raises(SumRejected):
            unwrap(identities[member], identities[leader].public, bound, wrapped)
    with pytest.raises(SumRejected):
        unwrap(identities["b"], identities["a"].public, binding, wrapped[:-1] + b"\0")


def test_a_sealed_context_that_was_altered_is_refused() -> None:
    group = Group("none", bytes(32), b"context")
    sealed = seal_group(group, b"binding")
    assert open_group("none", bytes(32), b"binding", sealed) == group
    with pytest.raises(SumRejected):
        open_group("none", bytes(32), b"other", sealed)


def test_the_same_identity_comes_back_and_is_private(tmp_path: Path) -> None:
    made = Identity.create(tmp_path / "identity.key")
    assert Identity.load(tmp_path / "identity.key").public == made.public
    assert (tmp_path / "identity.key").stat().st_mode & 0o777 == 0o600
    assert len(made.fingerprint.split()) == 4


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_secret(path, b"x")
    path.chmod(0o644)
    with pytest.raises(SecretExposed, match="0644") as caught:
        read_secret(path)
    assert caught.value.remedy == f"Run: chmod 600 {path}"
