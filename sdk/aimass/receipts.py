"""Receipts: signatures of an installation over requests and answers (RFC 9421), verified without it."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from aimass.failures import Failure
from aimass.signing import digest

_NAMES = re.compile(r'"([@a-z-]+)"(;req)?')
_CREATED = re.compile(r';created=(\d{1,12});keyid="([0-9a-f]{16})"')
_NEEDED = frozenset(("content-digest", "x-request-id", "@method;req", "@authority;req", "@path;req", "@query;req"))
_STATUS = ("@status", "grpc-status")  # one of them


@dataclass(frozen=True)
class Receipt:
    """Components of a request and its answer, by their names in RFC 9421, with a signature over all of them.

    Nothing in it is proven before `verify`.
    """

    values: Mapping[str, str]
    parameters: str
    signature: str

    @property
    def request_id(self) -> str:
        return self.values["x-request-id"]

    @property
    def model_version(self) -> str:
        """`3;digest=sha256:...` for predictions, else empty."""
        return self.values.get("model-version", "")

    @property
    def status(self) -> int:
        """The HTTP status; for gRPC calls the gRPC status, where 0 is OK."""
        return int(next(self.values[name] for name in _STATUS if name in self.values))

    @property
    def key_id(self) -> str:
        """The id of the key that signed it."""
        return self._made()[1]

    @property
    def time(self) -> datetime:
        """When it was signed, UTC."""
        return datetime.fromtimestamp(int(self._made()[0]), UTC)

    def verify(self, public_key: bytes, request: bytes | None = None, answer: bytes | None = None) -> None:
        """Verifies that `public_key` (32 bytes) signed it, and for these bodies if given.

        Works offline. Needs the package cryptography. Raises Failure `receipt_invalid`.
        """
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        names = [name + of for name, of in _NAMES.findall(self.parameters.partition(")")[0])]
        covered = set(names)
        whole = covered == set(self.values) and covered >= _NEEDED and len(covered) == len(names)
        if not whole or len(covered & set(_STATUS)) != 1:
            raise Failure("receipt_invalid", "the receipt does not cover all required components")
        lines = [f"{_written(name)}: {self.values[name]}\n" for name in names]
        text = f'{"".join(lines)}"@signature-params": {self.parameters}'.encode("latin-1", "replace")
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(base64.b64decode(self.signature), text)
        except (InvalidSignature, ValueError):
            raise Failure("receipt_invalid", "the receipt was not signed by this key") from None
        if hashlib.sha256(public_key).hexdigest()[:16] != self.key_id:
            raise Failure("receipt_invalid", "the receipt names another key")
        if answer is not None and self.values["content-digest"] != digest(answer):
            raise Failure("receipt_invalid", "the receipt is for another answer")
        if request is not None and self.values.get("content-digest;req", digest(b"")) != digest(request):
            raise Failure("receipt_invalid", "the receipt is for another request")

    def _made(self) -> tuple[str, str]:
        if not (found := _CREATED.search(self.parameters)):
            raise Failure("receipt_invalid", "the receipt has no time or no key id")
        return found[1], found[2]

    def to_json(self) -> str:
        """The receipt as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Receipt":
        """A receipt from its JSON. Raises Failure `receipt_invalid`."""
        try:
            kept = json.loads(text)
            values = {str(name): str(value) for name, value in kept["values"].items()}
            return cls(values, str(kept["parameters"]), str(kept["signature"]))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise Failure("receipt_invalid", "this is not a receipt") from None

    @classmethod
    def of(cls, response: Any) -> "Receipt | None":
        """The receipt of an answer of the HTTP client; None if it has none."""
        request = response.request
        path, _, query = request.url.raw_path.decode("ascii").partition("?")
        host = request.headers["host"].lower().removesuffix({"https": ":443"}.get(request.url.scheme, ":80"))
        own = {"@method;req": request.method, "@authority;req": host, "@path;req": path, "@query;req": f"?{query}"}
        own["@status"] = str(response.status_code)
        return cls._of(own, request.headers, response.headers)

    @classmethod
    def of_call(
        cls, path: str, host: str, request: bytes, status: int, metadata: Mapping[str, str]
    ) -> "Receipt | None":
        """The receipt of a gRPC call with this status and these trailers; None if it has none."""
        own = {"@method;req": "POST", "@authority;req": host, "@path;req": path, "@query;req": "?"}
        return cls._of(own | {"grpc-status": str(status)}, asking(request), metadata)

    @classmethod
    def _of(cls, own: Mapping[str, str], asked: Mapping[str, str], fields: Mapping[str, str]) -> "Receipt | None":
        stated, signed = (fields.get(name, "") for name in ("signature-input", "signature"))
        if not stated.startswith("receipt=") or not signed.startswith("receipt=:"):
            return None
        parameters, values = stated.partition("=")[2], {}
        for name, of in _NAMES.findall(parameters.partition(")")[0]):
            values[name + of] = own.get(name + of) or (asked if of else fields).get(name, "")
        return cls(values, parameters, signed.removeprefix("receipt=:").removesuffix(":"))


# Called with each receipt, and the bytes of request and answer.
Keep: TypeAlias = Callable[[Receipt, bytes, bytes], None]


def asking(content: bytes) -> dict[str, str]:
    """The headers with which a request asks for a receipt."""
    return {"x-receipt": "1"} | ({"content-digest": digest(content)} if content else {})


def _written(name: str) -> str:
    bare, _, of = name.partition(";")
    return f'"{bare}";{of}' if of else f'"{bare}"'
