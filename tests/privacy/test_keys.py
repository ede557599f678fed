"""Identities stay secret, and what they sign can be checked."""

from pathlib import Path

import pytest

from privacy.errors import SecretExposed, SumRejected
from privacy.keys import Identity, PublicKeys, read_secret, write_secret


def test_an_identity_survives_on_disk_with_mode_0600(tmp_path: Path) -> None:
    made = Identity.create(tmp_path / "identity.key")
    assert Identity.load(tmp_path / "identity.key").public == made.public
    assert (tmp_path / "identity.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "identity.key").chmod(0o640)
    with pytest.raises(SecretExposed, match="0640") as caught:
        Identity.load(tmp_path / "identity.key")
    assert caught.value.remedy == f"Run: chmod 600 {tmp_path / 'identity.key'}"


def test_a_fingerprint_is_read_in_groups_of_four_and_covers_both_keys() -> None:
    one, two = Identity(bytes([1]) * 64).public, Identity(bytes([2]) * 64).public
    assert [len(group) for group in one.fingerprint.split()] == [4] * 8
    mixed = PublicKeys(one.exchange, two.signing)
    assert len({one.fingerprint, two.fingerprint, mixed.fingerprint}) == 3


def test_public_keys_travel_as_hex() -> None:
    keys = Identity(bytes([3]) * 64).public
    assert PublicKeys.from_hex(keys.hex()) == keys
    for wrong in (keys.hex()[:-2], "zz" * 64, ""):
        with pytest.raises(ValueError, match=r"64 bytes|hexadecimal"):
            PublicKeys.from_hex(wrong)


def test_signatures_hold_for_one_text_and_one_key() -> None:
    identity, other = Identity(bytes([1]) * 64), Identity(bytes([2]) * 64)
    signature = identity.sign(b"text")
    assert identity.public.verify(signature, b"text")
    assert not identity.public.verify(signature, b"other")
    assert not other.public.verify(signature, b"text")
    assert not identity.public.verify(b"short", b"text")


def test_both_ends_of_an_exchange_get_one_secret() -> None:
    one, two = Identity(bytes([1]) * 64), Identity(bytes([2]) * 64)
    assert one.exchange(two.public.exchange) == two.exchange(one.public.exchange)
    with pytest.raises(SumRejected, match="X25519"):
        one.exchange(bytes(32))


def test_secrets_are_replaced_whole(tmp_path: Path) -> None:
    write_secret(tmp_path / "s", b"one")
    write_secret(tmp_path / "s", b"two")
    assert read_secret(tmp_path / "s") == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
