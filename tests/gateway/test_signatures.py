"""Signed requests are taken once and whole, whatever is done to them on their way (RELIABILITY V12)."""

import base64
import hmac
import random
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.signing import Signer, digest
from services.gateway.access.domain import ApiKey, Signing, Tenant, sealed_for
from services.gateway.access.keyring import Keyring
from services.gateway.nonces import SKEW
from services.gateway.signatures import WINDOW, Head, Refused, Signatures
from services.gateway.signing import base
from services.kit.cache import Cache, NearCache
from services.kit.errors import Code, Failure
from services.kit.secrets import Vault
from tests.support.house import until
from tests.support.servers import Program, redis_cache

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TEXT = "the request is not signed as it has to be"
BODY = b'{"model": "late"}'
SAID = {"host": "models.example", "content-type": "application/json", "x-project": "lab"}
MEMBERS = {"acme": "abcdefgh", "other": "ijklmnop"}


class World:
    """Keys of two tenants, two that sign by HMAC and one by Ed25519, and a clock that can be set."""

    def __init__(self, home: Path, cache: Cache | None = None) -> None:
        self.time, self.ahead, self.live = 1_000_000_000.0, 0.0, cache is not None
        self.cache: Cache = cache or NearCache(self.ticks)
        self.vault = Vault(home)
        self.ring = Keyring(bytes(32), lambda: NOW)
        self.private = Ed25519PrivateKey.generate()
        self.signers = {
            "acme": Signer.of(f"aimsig_abcdefgh_{'s' * 43}", self.now),
            "other": Signer.of(f"aimsig_ijklmnop_{'t' * 43}", self.now),
            "curve": Signer("qrstuvwx", "ed25519", self.private.sign, self.now),
            "unknown": Signer.of(f"aimsig_unknown1_{'s' * 43}", self.now),
            "wrong": Signer.of(f"aimsig_abcdefgh_{'t' * 43}", self.now),
            "unsigning": Signer.of(f"aimsig_plainkey_{'s' * 43}", self.now),
        }
        public = self.private.public_key().public_bytes_raw()
        keys = [
            self._key("abcdefgh", "acme", "s"),
            self._key("ijklmnop", "other", "t"),
            ApiKey("qrstuvwx", "acme", "", ("*",), NOW, signing=Signing(True, public)),
            ApiKey("plainkey", "acme", "", ("*",), NOW),
        ]
        self.ring.replace([Tenant("acme", "", NOW), Tenant("other", "", NOW)], [(key, bytes(32)) for key in keys])
        self.signatures = Signatures(lambda: self.ring, self.vault, self.cache, self.now, self.ticks)
        self.wait(60)  # the memory is not new any more

    def _key(self, prefix: str, tenant: str, letter: str) -> ApiKey:
        sealed = self.vault.seal(f"aimsig_{prefix}_{letter * 43}".encode(), sealed_for(prefix))
        return ApiKey(prefix, tenant, "", ("*",), NOW, signing=Signing(True, sealed=sealed))

    def now(self) -> float:
        """Our wall clock, which may be set; with a real server it is the real one."""
        return time.time() if self.live else self.time + self.ahead

    def ticks(self) -> float:
        return time.monotonic() if self.live else self.time

    def wait(self, seconds: float) -> None:
        self.time += seconds

    def sign(self, signer: str = "acme", content: bytes = BODY, **said: str) -> Head:
        """A request as its caller sends it; `said` are further headers, with underscores."""
        headers = SAID | {name.replace("_", "-"): value for name, value in said.items()}
        head = Head("POST", "models.example", "/v1/models", "page_size=3", headers)
        return head._replace(headers={**headers, **self.signers[signer].headers(*head, content)})

    async def refused(self, head: Head, content: bytes = BODY, keyed: bool = False) -> str | None:
        """The reason for which it is not taken, or the code of another failure."""
        try:
            await self.signatures.settle(self.signatures.check(head), content, keyed)
        except Refused as failure:
            assert (failure.detail, failure.code) == (TEXT, Code.SIGNATURE_INVALID)
            return failure.reason
        except Failure as failure:
            return failure.code.text
        return None


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def with_headers(head: Head, **changes: str | None) -> Head:
    """Headers changed on the way; None takes one away."""
    headers = {name.replace("_", "-"): value for name, value in changes.items()}
    kept = {name: value for name, value in {**head.headers, **headers}.items() if value is not None}
    return head._replace(headers=kept)


@pytest.mark.parametrize("signer", ["acme", "other", "curve"])
async def test_a_signed_request_is_taken_once(world: World, signer: str) -> None:
    head = world.sign(signer)

    assert world.signatures.check(head).held.key.api_key == world.signers[signer].key_id
    assert await world.refused(head) is None
    assert await world.refused(head) == "replayed"


@pytest.mark.parametrize(
    "change",
    [
        {"method": "PUT"},
        {"method": "post"},
        {"authority": "other.example"},
        {"path": "/v1/sources"},
        {"path": "/v1/models/"},
        {"path": "/v1/%6dodels"},
        {"query": ""},
        {"query": "page_size=4"},
        {"query": "page_size=3&x=1"},
    ],
)
@pytest.mark.parametrize("signer", ["acme", "curve"])
async def test_another_route_is_not_what_was_signed(world: World, signer: str, change: dict[str, Any]) -> None:
    assert await world.refused(world.sign(signer)._replace(**change)) == "no key of this id signed it"


@pytest.mark.parametrize("content", [b"", b"{}", BODY + b" ", BODY[:-1], BODY * 100_000])
async def test_another_body_is_not_what_was_signed(world: World, content: bytes) -> None:
    head = world.sign()

    assert await world.refused(head, content) == "its body is another one"
    assert await world.refused(head) is None  # who changed it has not used it up


async def test_a_body_beside_a_signature_without_one_is_refused(world: World) -> None:
    assert await world.refused(world.sign(content=b""), BODY) == "digest_required"


async def test_a_digest_that_is_made_to_fit_is_not_the_one_that_was_signed(world: World) -> None:
    changed = with_headers(world.sign(), content_digest=digest(b"{}"))

    assert await world.refused(changed, b"{}") == "no key of this id signed it"


@pytest.mark.parametrize("name", ["x_project", "idempotency_key", "if_match", "content_type"])
async def test_what_changes_the_meaning_of_a_request_cannot_be_added_changed_or_taken_away(
    world: World, name: str
) -> None:
    head = world.sign("acme", BODY, **{name: "one"})
    plain = Head("POST", "models.example", "/v1/models", "", {})
    unsaid = plain._replace(headers=world.signers["acme"].headers(*plain, BODY))

    assert await world.refused(with_headers(head, **{name: "two"})) == "no key of this id signed it"
    gone = f"it covers {name.replace('_', '-')}, which is not there"
    assert await world.refused(with_headers(head, **{name: None})) == gone
    assert await world.refused(with_headers(unsaid, **{name: "one"})) == f"it does not cover {name.replace('_', '-')}"
    assert await world.refused(head) is None


@pytest.mark.parametrize("part", ["@method", "@authority", "@path", "@query"])
async def test_every_part_has_to_be_covered(world: World, part: str) -> None:
    head = world.sign()
    less = str(head.headers["signature-input"]).replace(f'"{part}" ', "")

    assert await world.refused(with_headers(head, signature_input=less)) == f"it does not cover {part}"


@pytest.mark.parametrize("signer", ["unknown", "wrong", "unsigning"])
async def test_only_the_key_that_is_named_can_have_signed(world: World, signer: str) -> None:
    assert await world.refused(world.sign(signer)) == "no key of this id signed it"


async def test_one_tenant_cannot_send_what_another_one_signed(world: World) -> None:
    head = world.sign("acme")
    other = str(head.headers["signature-input"]).replace("abcdefgh", "ijklmnop")

    assert await world.refused(with_headers(head, signature_input=other)) == "no key of this id signed it"


async def test_a_public_key_is_no_secret_to_sign_with(world: World) -> None:
    public = world.private.public_key().public_bytes_raw()
    for secret in (public, bytes(32), b""):
        forger = Signer("qrstuvwx", "hmac-sha256", lambda text, s=secret: hmac.digest(s, text, "sha256"), world.now)  # type: ignore[misc]
        world.signers["forger"] = forger
        head = world.sign("forger")
        claimed = str(head.headers["signature-input"]).replace("hmac-sha256", "ed25519")
        unsaid = with_headers(head, signature_input=claimed)
        assert await world.refused(head) == await world.refused(unsaid) == "no key of this id signed it"


@pytest.mark.parametrize("change", ["revoked", "expired", "closed"])
async def test_a_key_that_does_not_work_signs_nothing(world: World, change: str) -> None:
    held, works = world.ring.signer("abcdefgh")
    assert works
    if change == "closed":
        world.ring.tenant(Tenant("acme", "", NOW, 2, delete_time=NOW))
    elif change == "revoked":
        world.ring.put(replace(held.key, revoke_time=NOW, generation=2))
    else:
        world.ring.put(replace(held.key, expire_time=NOW - timedelta(seconds=1), generation=2))

    assert await world.refused(world.sign()) == "no key of this id signed it"


@pytest.mark.parametrize("nonce", ["", "short", "x" * 129])
async def test_a_nonce_has_a_length(world: World, nonce: str) -> None:
    signer = world.signers["acme"]
    head = Head("GET", "models.example", "/", "", {})
    with_nonce = signer.headers(*head, b"")["signature-input"].partition(";nonce=")[0] + f';nonce="{nonce}"'
    parameters = with_nonce.removeprefix("aimass=")
    text = base(("@method", "@authority", "@path", "@query"), parameters, head.value)
    signature = base64.b64encode(hmac.digest(f"aimsig_abcdefgh_{'s' * 43}".encode(), text, "sha256")).decode()
    headers = {"signature-input": with_nonce, "signature": f"aimass=:{signature}:"}

    assert await world.refused(head._replace(headers=headers), b"") == "its nonce is too short, or too long"


async def test_a_signature_is_good_for_a_minute(world: World) -> None:
    early, late = world.sign(), world.sign()
    world.wait(WINDOW - 1)
    assert await world.refused(early) is None

    world.wait(2)
    for head in (early, late):
        assert await world.refused(head) == "signature_stale"


async def test_what_was_captured_is_refused_in_whatever_order_it_comes_again(world: World) -> None:
    heads = [world.sign(signer) for signer in ("acme", "other", "curve") * 5]
    for head in heads:
        assert await world.refused(head) is None
    rng = random.Random(5)
    for _ in range(5):
        rng.shuffle(heads)
        for head in heads:
            assert await world.refused(head) is not None
        world.wait(rng.uniform(0, 20))


@pytest.mark.parametrize("step", [-86_400.0, -3600.0, -61.0, -30.0, -6.0, 6.0, 61.0, 3600.0, 86_400.0])
async def test_no_step_of_the_clock_lets_anything_in_twice(world: World, step: float) -> None:
    heads = [world.sign() for _ in range(3)]
    for head in heads:
        assert await world.refused(head) is None
    world.ahead += step
    for _ in range(30):
        for head in heads:
            assert await world.refused(head) is not None
        world.wait(7)
    world.ahead -= step
    for head in heads:
        assert await world.refused(head) is not None


async def test_after_a_restart_nothing_from_before_is_taken_and_soon_everything_new(world: World) -> None:
    heads = [world.sign() for _ in range(3)]
    assert await world.refused(heads[0]) is None
    assert isinstance(world.cache, NearCache)
    world.cache = NearCache(world.ticks)
    world.signatures = Signatures(lambda: world.ring, world.vault, world.cache, world.now, world.ticks)

    assert [await world.refused(head, keyed=True) for head in heads] == ["unavailable"] * 3
    world.wait(SKEW + 2)
    assert [await world.refused(head, keyed=True) for head in heads] == ["signature_stale"] * 3
    assert await world.refused(world.sign()) is None


async def test_a_secret_that_does_not_open_signs_nothing(world: World, tmp_path: Path) -> None:
    world.signatures = Signatures(lambda: world.ring, Vault(tmp_path / "other"), world.cache, world.now, world.ticks)

    assert await world.refused(world.sign()) == "the secret cannot be decrypted with any given key"


@pytest.mark.far
async def test_nothing_is_taken_twice_through_a_restart_of_redis(redis_server: Program, tmp_path: Path) -> None:
    cache = redis_cache(redis_server.address)
    await cache.start()
    world = World(tmp_path, cache)
    await until(lambda: time.time() > cache.born + SKEW + 2, 20)
    heads = [world.sign("curve") for _ in range(10)]
    assert [await world.refused(head) for head in heads] == [None] * 10

    redis_server.kill()
    for keyed in (False, True):
        assert [await world.refused(head, keyed=keyed) for head in heads] == ["unavailable"] * 10

    redis_server.start()
    await until(lambda: cache.up)
    assert None not in [await world.refused(head, keyed=True) for head in heads]
    await until(lambda: time.time() > cache.born + SKEW + 2, 20)
    assert None not in [await world.refused(head, keyed=True) for head in heads]
    assert await world.refused(world.sign("curve")) is None
    await cache.close()
