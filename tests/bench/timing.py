"""What refusals tell by the time that they take (RELIABILITY V13): `python -m tests.bench.timing [samples]`.

Of each pair that nobody should be able to tell apart, samples are taken in random order, the slowest tenth of all of
them is left out, and Welch's t is printed: below 4.5 in size nothing is seen. Nothing here is asserted.
"""

import gc
import itertools
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass import Signer
from services.gateway.access.domain import ApiKey, Signing, Tenant, digest, sealed_for
from services.gateway.access.keyring import Keyring
from services.gateway.signatures import Head, Signatures
from services.kit.cache import NearCache
from services.kit.errors import Unauthenticated
from services.kit.secrets import Vault

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEPT = 0.9
POOL = 500  # different attempts of one kind: what is in a request shows in its time, and tells nothing of the key
Attempt = Callable[[], object]


def keys(home: Path) -> tuple[Keyring, Signatures]:
    """Some keys of each kind."""
    vault, ring = Vault(home), Keyring(bytes(32), lambda: NOW)
    held = []
    for name in ("hmackey1", "curvekey", "plainkey"):
        public = Ed25519PrivateKey.generate().public_key().public_bytes_raw() if name == "curvekey" else b""
        sealed = b"" if public else vault.seal(f"aimsig_{name}_{'s' * 43}".encode(), sealed_for(name))
        key = ApiKey(name, "acme", "", ("*",), NOW, signing=Signing(True, public, sealed))
        held.append((key, digest(bytes(32), f"aim_{name}_{'k' * 43}")))
    ring.replace([Tenant("acme", "", NOW)], held)
    return ring, Signatures(lambda: ring, vault, NearCache())


def pairs(home: Path) -> dict[str, tuple[Attempt, Attempt]]:
    """What has to look alike, by name."""
    ring, signatures = keys(home)

    def many(make: Callable[[], Head]) -> Attempt:
        heads = itertools.cycle([make() for _ in range(POOL)])
        return lambda: signatures.check(next(heads))

    def signed(key: str, signature: bytes) -> Head:
        head = Head("GET", "models.example", "/v1/whoami", "", {})
        made = Signer(key, "none", lambda text: signature).headers(*head, b"")
        headers = {**made, "signature-input": made["signature-input"].replace(';alg="none"', "")}
        return head._replace(headers=headers)

    def right(key: str, flipped: int) -> Head:
        head = Head("GET", "models.example", "/v1/whoami", "", {})
        made = Signer.of(f"aimsig_{key}_{'s' * 43}").headers(*head, b"")
        text = bytearray(made["signature"].encode())
        text[flipped] = ord("A") if text[flipped] != ord("A") else ord("B")
        return head._replace(headers={**made, "signature": text.decode()})

    def shown(prefix: str, right: int) -> Attempt:
        """Secrets of which the first letters are right."""
        tails = [os.urandom(32).hex()[: 43 - right] for _ in range(POOL)]
        secrets = itertools.cycle([f"aim_{prefix}_{'k' * right}{tail}" for tail in tails])
        return lambda: ring.identify(next(secrets), "default")

    def named(key: str, length: int) -> Attempt:
        return many(lambda: signed(key, os.urandom(length)))

    return {
        "key: known prefix, unknown prefix": (shown("hmackey1", 0), shown("nobody12", 0)),
        "key: nearly all wrong, nearly all right": (shown("hmackey1", 1), shown("hmackey1", 42)),
        "hmac: known key, unknown key": (named("hmackey1", 32), named("nobody12", 32)),
        "hmac: first wrong, last wrong": (many(lambda: right("hmackey1", 9)), many(lambda: right("hmackey1", 45))),
        "32 bytes: key of Ed25519, unknown key": (named("curvekey", 32), named("nobody12", 32)),
        "64 bytes: key of Ed25519, unknown key": (named("curvekey", 64), named("nobody12", 64)),
        "64 bytes: key of HMAC, unknown key": (named("hmackey1", 64), named("nobody12", 64)),
    }


def samples(pair: tuple[Attempt, Attempt], count: int) -> tuple[list[int], list[int]]:
    """Nanoseconds that each of the two took."""
    found: tuple[list[int], list[int]] = ([], [])
    rng = random.Random(7)
    gc.disable()
    for _ in range(count):
        side = rng.getrandbits(1)
        begun = time.perf_counter_ns()
        try:
            pair[side]()
        except Unauthenticated:
            found[side].append(time.perf_counter_ns() - begun)
    gc.enable()
    return found


def welch(one: list[int], other: list[int]) -> float:
    """Welch's t of two samples, without the slowest of both."""
    limit = sorted([*one, *other])[int(KEPT * (len(one) + len(other)))]
    a, b = ([value for value in found if value < limit] for found in (one, other))
    spread = statistics.variance(a) / len(a) + statistics.variance(b) / len(b)
    return (statistics.fmean(a) - statistics.fmean(b)) / math.sqrt(spread)


def main() -> None:
    """Measures and prints."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        for name, pair in pairs(Path(folder)).items():
            samples(pair, 1000)
            one, other = samples(pair, count)
            medians = [statistics.median(found) / 1000 for found in (one, other)]
            print(f"{name:40} {medians[0]:8.2f} us {medians[1]:8.2f} us   t {welch(one, other):7.2f}", flush=True)


if __name__ == "__main__":
    main()
