"""Signed answers on request: a receipt over request and answer, for anyone to verify."""

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING

from services.gateway import signing
from services.gateway.signatures import Head
from services.kit.errors import Code, Failure, InvalidValue
from services.kit.secrets import Vault

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ASKS = "x-receipt"
_REQUEST = ("@method;req", "@authority;req", "@path;req", "@query;req")
_DIGEST = "content-digest"
_FIELDS = ("x-request-id", "model-version")  # of an answer that a receipt covers


class Receipts:
    """Signs with the installation's key, the same at every gateway: it is derived from the key of the secrets."""

    def __init__(self, vault: Vault, now: Callable[[], float]) -> None:
        """`now` gives Unix seconds."""
        self._vault, self.now = vault, now

    @cached_property
    def _private(self) -> "Ed25519PrivateKey":
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self._vault.derive("receipts"))

    @cached_property
    def public_key(self) -> bytes:
        """32 bytes."""
        return self._private.public_key().public_bytes_raw()

    @cached_property
    def key_id(self) -> str:
        """The name that receipts give the key."""
        return hashlib.sha256(self.public_key).hexdigest()[:16]

    def sign(self, text: bytes) -> bytes:
        """64 bytes."""
        return self._private.sign(text)

    async def asked(self, head: Head, content: bytes) -> "Receipt":
        """A receipt for the answer to a request. Raises invalid_value for a body without digest, digest_mismatch."""
        given = head.headers.get(_DIGEST)
        if content and given is None:
            raise InvalidValue("a receipt needs the Content-Digest of the request's body")
        if given is not None and not await signing.beside(partial(signing.fits, given), content):
            raise Failure(Code.DIGEST_MISMATCH, "the body is not the one of its Content-Digest")
        return Receipt(self, head)


class Receipt:
    """The receipt of one answer."""

    def __init__(self, receipts: Receipts, head: Head) -> None:
        self._receipts, self._head = receipts, head
        # What an answer over gRPC says beside its message.
        self.metadata: dict[str, str] = {}

    async def headers(
        self, status: int, sent: Iterable[tuple[bytes, bytes]], content: bytes
    ) -> list[tuple[bytes, bytes]]:
        """The headers of an answer beside `sent`, by RFC 9421: a signature over it and its request."""
        fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in sent}
        made = self._made({"@status": str(status)}, fields, await signing.beside(signing.digest, content))
        return [(name.encode(), value.encode("latin-1")) for name, value in made.items()]

    async def trailers(self, status: int, content: bytes) -> tuple[tuple[str, str], ...]:
        """The same for a call over gRPC, with the signed values, as trailers.

        `content` is the answer's message as it is sent, or the detail of its failure.
        """
        named = [(name, self.metadata[name]) for name in _FIELDS if name in self.metadata]
        digest = await signing.beside(signing.digest, content)
        return (*named, *self._made({"grpc-status": str(status)}, self.metadata, digest).items())

    def _made(self, status: Mapping[str, str], fields: Mapping[str, str], digest: str) -> dict[str, str]:
        values = {**status, _DIGEST: digest}
        values |= {name: fields[name] for name in _FIELDS if name in fields}
        values |= {name: self._head.value(name.partition(";")[0]) for name in _REQUEST}
        if _DIGEST in self._head.headers:
            values[f"{_DIGEST};req"] = self._head.value(_DIGEST)
        components = " ".join(signing.identifier(name) for name in values)
        receipts = self._receipts
        made = f'created={int(receipts.now())};keyid="{receipts.key_id}";alg="ed25519";tag="receipt"'
        parameters = f"({components});{made}"
        signature = receipts.sign(signing.base(tuple(values), parameters, values.__getitem__))
        return {
            _DIGEST: values[_DIGEST],
            "signature-input": f"receipt={parameters}",
            "signature": f"receipt=:{base64.b64encode(signature).decode()}:",
        }
