"""Signs requests (RFC 9421), so that they can be neither changed nor repeated on their way."""

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path

import httpx2

from aimass.failures import Failure

# Headers that change the meaning of a request: signed if present.
_MEANING = ("content-type", "idempotency-key", "if-match", "inference-header-content-length", "x-project")
_SECRET = re.compile(r"aimsig_([a-z0-9]{8})_[A-Za-z0-9_-]{43}\Z")
_FILED = re.compile(r"([a-z0-9]{8}):(.+)\Z")
_PORTS = {"http": ":80", "https": ":443"}


class Signer:
    """Signs with one key. A signature is valid once, for a minute."""

    def __init__(
        self, key_id: str, algorithm: str, sign: Callable[[bytes], bytes], now: Callable[[], float] = time.time
    ) -> None:
        """`key_id` is the 8 characters after `aim_`; `sign` signs by `algorithm`; `now` returns Unix seconds."""
        self.key_id, self.algorithm, self._sign, self._now = key_id, algorithm, sign, now

    @classmethod
    def of(cls, secret: str, now: Callable[[], float] = time.time) -> "Signer":
        """Signs with the `signing_secret` of CreateApiKey. Raises Failure `invalid_value`."""
        if not (found := _SECRET.match(secret)):
            raise Failure("invalid_value", "a signing secret is aimsig_, 8 letters or digits, _, and 43 characters")
        content = secret.encode()
        return cls(found[1], "hmac-sha256", lambda text: hmac.digest(content, text, "sha256"), now)

    @classmethod
    def named(cls, text: str, now: Callable[[], float] = time.time) -> "Signer":
        """From a setting: a signing secret; `KEY:FILE`, the id of a key and its file with an Ed25519 private key; or a
        file with a signing secret. Raises Failure `invalid_value`, which shows no secret.
        """
        try:
            if found := _FILED.match(text):
                return cls.ed25519(found[1], found[2], now)
            if text.startswith(("aimsig_", "aim_")):
                return cls.of(text, now)
            return cls.of(Path(text).read_text().strip(), now)
        except OSError as error:
            raise Failure("invalid_value", f"the file with the signing key cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise Failure("invalid_value", "the file with the signing key has no signing secret") from None

    @classmethod
    def ed25519(cls, key_id: str, private_key: str | Path | bytes, now: Callable[[], float] = time.time) -> "Signer":
        """Signs with an Ed25519 key: a PEM file without a password, or its bytes. Needs the package cryptography.

        Raises Failure `invalid_value`.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        content = private_key if isinstance(private_key, bytes) else Path(private_key).read_bytes()
        try:
            key = load_pem_private_key(content, None)
        except (ValueError, TypeError):
            raise Failure("invalid_value", "the private key must be PEM, without a password") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise Failure("invalid_value", "the private key is not an Ed25519 key")
        return cls(key_id, "ed25519", key.sign, now)

    def headers(
        self, method: str, authority: str, path: str, query: str, fields: Mapping[str, str], content: bytes
    ) -> dict[str, str]:
        """The headers that sign a request. `fields` are its headers by lower-case names; `query` has no `?`."""
        values = {"@method": method, "@authority": authority, "@path": path or "/", "@query": f"?{query}"}
        added = {"content-digest": digest(content)} if content else {}
        values |= added | {name: fields[name].strip() for name in _MEANING if name in fields}
        covered = " ".join(f'"{name}"' for name in values)
        made = f'created={int(self._now())};keyid="{self.key_id}";alg="{self.algorithm}"'
        parameters = f'({covered});{made};nonce="{secrets.token_urlsafe(16)}"'
        lines = [f'"{name}": {value}\n' for name, value in values.items()]
        text = f'{"".join(lines)}"@signature-params": {parameters}'.encode("latin-1")
        signature = base64.b64encode(self._sign(text)).decode()
        return added | {"signature-input": f"aimass={parameters}", "signature": f"aimass=:{signature}:"}


def digest(content: bytes) -> str:
    """The `Content-Digest` of a body (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


class SigningAuth(httpx2.Auth):
    """Signs each request of an HTTP client, and each retry anew."""

    requires_request_body = True

    def __init__(self, signer: Signer) -> None:
        self.signer = signer

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Adds the signature."""
        path, _, query = request.url.raw_path.decode("ascii").partition("?")
        authority = request.headers["host"].lower().removesuffix(_PORTS.get(request.url.scheme, ""))
        fields = {name: request.headers[name] for name in _MEANING if name in request.headers}
        made = self.signer.headers(request.method, authority, path, query, fields, request.content)
        request.headers.update(made)
        yield request
