import asyncio
import os
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.kit import auth
from services.kit.auth import Identity, Principal, Scope, grants
from services.kit.errors import Code, Failure
from tests.support.house import until

ANN = Principal(Scope("acme", "p"), "key:ann", ("models.*",))


def test_a_token_says_who_calls(identity: Identity) -> None:
    assert identity.verify(identity.token("data", ANN), "data") == ANN


def test_a_token_is_used_again_while_it_lives(identity: Identity) -> None:
    assert identity.token("data", ANN) == identity.token("data", ANN)


def test_another_process_believes_the_published_key(tmp_path: Path) -> None:
    one, two = Identity("one", tmp_path), Identity("two", tmp_path)

    assert two.verify(one.token("data", ANN), "data") == ANN


def test_nobody_believes_a_process_that_has_ended(tmp_path: Path) -> None:
    one, two = Identity("one", tmp_path), Identity("two", tmp_path)
    token = one.token("data", ANN)
    one.close()

    with pytest.raises(Failure) as caught:
        two.verify(token, "data")
    assert caught.value.code is Code.TOKEN_INVALID


def forged(identity: Identity) -> dict[str, str]:
    now = int(time.time())
    good = {"aud": "data", "sub": "key:x", "ten": "acme", "prj": "default", "per": ["*"], "iat": now, "exp": now + 50}
    stranger = Ed25519PrivateKey.generate()
    own = identity._key
    kid = {"kid": identity.name}
    return {
        "signed by a stranger": jwt.encode(good, stranger, "EdDSA", headers=kid),
        "no algorithm": jwt.encode(good, "", "none", headers=kid),
        "a shared secret": jwt.encode(good, "x" * 32, "HS256", headers=kid),
        "no key id": jwt.encode(good, own, "EdDSA"),
        "a path as key id": jwt.encode(good, own, "EdDSA", headers={"kid": "../keys/test"}),
        "expired": jwt.encode(good | {"exp": now - 1}, own, "EdDSA", headers=kid),
        "made in some seconds": jwt.encode(good | {"iat": now + 7, "exp": now + 50}, own, "EdDSA", headers=kid),
        "made at no time": jwt.encode(good | {"iat": "now"}, own, "EdDSA", headers=kid),
        "lives for a year": jwt.encode(good | {"exp": now + 10**7}, own, "EdDSA", headers=kid),
        "for another service": jwt.encode(good | {"aud": "logs"}, own, "EdDSA", headers=kid),
        "no tenant": jwt.encode({k: v for k, v in good.items() if k != "ten"}, own, "EdDSA", headers=kid),
        "permissions are no list": jwt.encode(good | {"per": 7}, own, "EdDSA", headers=kid),
        "not a token": "a.b.c",
        "empty": "",
    }


def test_forged_tokens_are_refused_alike(identity: Identity) -> None:
    for kind, token in forged(identity).items():
        with pytest.raises(Failure, match="the token is not valid") as caught:
            identity.verify(token, "data")
        assert caught.value.code is Code.TOKEN_INVALID, kind


def test_a_machine_whose_clock_is_a_little_ahead_is_believed(identity: Identity) -> None:
    now = int(time.time())
    ahead = {"aud": "data", "sub": "key:x", "ten": "acme", "prj": "default", "per": ["*"], "iat": now + 3}
    token = jwt.encode(ahead | {"exp": now + 63}, identity._key, "EdDSA", headers={"kid": identity.name})

    assert identity.verify(token, "data").id == "key:x"


@pytest.mark.parametrize(
    ("pattern", "permission", "granted"),
    [
        ("*", "models.get", True),
        ("models.*", "models.get", True),
        ("models.get", "models.get", True),
        ("models.get", "models.getx", False),
        ("model.*", "models.get", False),
        ("models.*", "models", False),
        ("", "models.get", False),
        ("models.get@models/late", "models.get", False),
    ],
)
def test_patterns_grant_what_they_say(pattern: str, permission: str, granted: bool) -> None:
    assert grants(pattern, permission) is granted


@pytest.mark.parametrize(
    ("pattern", "thing", "granted"),
    [
        ("models.get@models/late", "models/late", True),
        ("models.get@models/late", "models/later", False),
        ("models.*@models/fraud-*", "models/fraud-eu", True),
        ("*@models/fraud-*", "models/late", False),
        ("jobs.get@models/late", "models/late", False),
        ("models.get@models/*", "", False),
        ("models.get", "models/late", True),
        ("jobs.get,models.*@models/a,models/late", "models/late", True),
        ("jobs.get,jobs.list@models/a,models/late", "models/late", False),
    ],
)
def test_patterns_for_some_objects_grant_nothing_for_others(pattern: str, thing: str, granted: bool) -> None:
    assert grants(pattern, "models.get", thing) is granted


async def test_keys_of_processes_that_were_killed_are_collected_and_living_ones_stay(tmp_path: Path) -> None:
    killed, living = Identity("killed", tmp_path), Identity("living", tmp_path)
    (tmp_path / "secrets.key").write_bytes(b"x")
    for path in tmp_path.iterdir():
        os.utime(path, (time.time() - 90_000,) * 2)
    living._publish()
    keeping = asyncio.ensure_future(Identity("new", tmp_path).keep())
    await until(lambda: not (tmp_path / "killed.pub").exists())
    keeping.cancel()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["living.pub", "new.pub", "secrets.key"]
    with pytest.raises(Failure):
        Identity("other", tmp_path).verify(killed.token("data", ANN), "data")


async def test_a_key_that_somebody_took_away_is_published_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "_AGAIN", 0.05)
    one = Identity("one", tmp_path)
    keeping = asyncio.ensure_future(one.keep())
    (tmp_path / "one.pub").unlink()
    await until(lambda: (tmp_path / "one.pub").exists())
    keeping.cancel()

    assert Identity("two", tmp_path).verify(one.token("data", ANN), "data") == ANN
