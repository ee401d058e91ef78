"""Verifies signed requests (RELIABILITY A5, A6, V12): their key, their body, and that each comes once."""

import hashlib
import hmac
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from services.gateway import signing
from services.gateway.access.domain import ApiKey, Signing, sealed_for
from services.gateway.access.keyring import Held, Keyring
from services.gateway.nonces import SKEW, Nonces
from services.gateway.signing import Stated
from services.kit.cache import Cache
from services.kit.errors import Code, Failure, Unauthenticated, Unavailable
from services.kit.secrets import Vault

WINDOW = 60.0  # seconds for which a signature of a request is valid
FIELDS = ("signature-input", "signature")
_NEEDED = frozenset(("@method", "@authority", "@path", "@query"))
# Headers that change the meaning of a request have to be signed where they are present.
_MEANING = ("content-type", "idempotency-key", "if-match", "inference-header-content-length", "x-project")
_TEXT = "the request is not signed as it has to be"
_WHOLE = 1.0  # signatures are dated in whole seconds
_PORTS = {"http": ":80", "https": ":443"}
_NONCE = range(16, 129)  # characters
# Unknown keys take as much work as known ones: with a public key that is a point of the curve, and a secret.
_STRANGER = b"\x58" + b"\x66" * 31
_UNSIGNED = Signing(False)  # of a key that signs nothing


class Refused(Unauthenticated, preset=Code.SIGNATURE_INVALID):
    """The one answer to every signature that is refused; `reason` is for the log and never for the caller."""

    reason = ""

    def __init__(self, reason: str) -> None:
        super().__init__(_TEXT)
        self.reason = reason


class Head(NamedTuple):
    """A request without its body, as it came. Names of headers are in lower case."""

    method: str
    authority: str
    path: str
    query: str  # without its question mark
    headers: Mapping[str, str]

    @classmethod
    def of_http(cls, scope: Any, headers: Mapping[bytes, bytes]) -> "Head":
        """As RFC 9421 has it: the host without the port of its scheme, the path as it is written."""
        fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
        host = fields.get("host", "").lower().removesuffix(_PORTS.get(scope["scheme"], ""))
        path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
        return cls(scope["method"], host, path, query, fields)

    def value(self, component: str) -> str:
        """Raises Refused for a header that is not there or a component that is not known."""
        match component:
            case "@method":
                return self.method
            case "@authority":
                return self.authority
            case "@path":
                return self.path or "/"
            case "@query":
                return f"?{self.query}"
        if (found := self.headers.get(component)) is None:
            raise Refused(f"it covers {component}, which is not there")
        return found.strip()


class Signed(NamedTuple):
    """A head whose signature is right. Its body has not been looked at."""

    held: Held
    stated: Stated
    digest: str  # what the body has to fit; empty: there must be none


class Signatures:
    """Takes each signed request once."""

    def __init__(
        self,
        keyring: Callable[[], Keyring],
        vault: Vault,
        cache: Cache,
        now: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        """`now` gives Unix seconds, `ticks` monotonic seconds."""
        self._keyring, self._vault, self._cache, self._now = keyring, vault, cache, now
        self._nonces = Nonces(cache, now, ticks, WINDOW)
        self._none = os.urandom(32)
        self._secrets: dict[str, tuple[ApiKey, bytes]] = {}

    def check(self, head: Head) -> Signed:
        """The key that has signed a head. Raises Refused; signature_stale for a right signature that is too old."""
        headers = head.headers
        try:
            stated = signing.stated(headers.get(FIELDS[0], ""), headers.get(FIELDS[1], ""))
        except ValueError as error:
            raise Refused(str(error)) from None
        covered = set(stated.components)
        if lacking := (_NEEDED | {name for name in _MEANING if name in headers}) - covered:
            raise Refused(f"it does not cover {min(lacking)}")
        text = signing.base(stated.components, stated.parameters, head.value)
        held, works = self._keyring().signer(stated.key_id)
        if not self._right(held.key, stated, text) & works:
            raise Refused("no key of this id signed it")
        now = self._now()
        if not now - WINDOW <= stated.created <= now + SKEW or (stated.expires is not None and stated.expires <= now):
            raise Failure(Code.SIGNATURE_STALE, "the signature is too old, or from the future")
        if len(stated.nonce) not in _NONCE:
            raise Refused("its nonce is too short, or too long")
        return Signed(held, stated, headers["content-digest"] if "content-digest" in covered else "")

    def _right(self, key: ApiKey, stated: Stated, text: bytes) -> bool:
        """Takes a time that depends on the signature that was sent, not on the key that it names."""
        known = key.signing or _UNSIGNED
        named = stated.algorithm in ("", known.algorithm)
        if len(stated.signature) == 64:
            right = _ed25519(known.public_key or _STRANGER, stated.signature, text) and bool(known.public_key)
        else:
            expected = hmac.new(self._secret(key), text, hashlib.sha256).digest()
            right = hmac.compare_digest(expected, stated.signature) and not known.public_key
        return right and named

    def _secret(self, key: ApiKey) -> bytes:
        """The secret that a key signs with; for a key without one a random value, found in the same way."""
        known = self._secrets.get(key.api_key)
        if known is None or known[0] is not key:
            if len(self._secrets) > 100_000:
                self._secrets = {}
            self._secrets[key.api_key] = known = key, self._opened(key)
        return known[1]

    def _opened(self, key: ApiKey) -> bytes:
        if not key.signing or not key.signing.sealed:
            return self._none
        try:
            return self._vault.open(key.signing.sealed, sealed_for(key.api_key))
        except ValueError as error:
            raise Refused(str(error)) from None

    async def settle(self, signed: Signed, content: bytes, keyed: bool) -> None:
        """Takes a request with its body, once; `keyed`: its repeats are known by an idempotency key.

        Raises Refused for another body, digest_required, replayed, signature_stale, and unavailable while it is not
        known whether it came before.
        """
        if not signed.digest and content:
            raise Failure(Code.DIGEST_REQUIRED, "the request has a body: its signature has to cover content-digest")
        if signed.digest and not await signing.beside(partial(signing.fits, signed.digest), content):
            raise Refused("its body is another one")
        young = self._cache.born + SKEW + _WHOLE - self._now()
        if young >= 0:
            raise Unavailable("signed requests are taken again in a moment", retry_after=young)
        stated = signed.stated
        await self._nonces.accept(signed.held.key.api_key, stated.nonce, stated.created, keyed)


def _ed25519(public_key: bytes, signature: bytes, text: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True
