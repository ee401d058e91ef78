"""An issuer of tokens: its documents over HTTP on loopback, and tokens of every kind, good and forged."""

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

AUDIENCE = "aimass"


def b64(content: bytes | str) -> str:
    plain = content.encode() if isinstance(content, str) else content
    return base64.urlsafe_b64encode(plain).rstrip(b"=").decode()


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def jwk(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    """The public half as an issuer publishes it."""
    public = key.public_key()
    if isinstance(key, rsa.RSAPrivateKey):
        found = jwt.algorithms.RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(key, Ed25519PrivateKey):
        found = jwt.algorithms.OKPAlgorithm.to_jwk(public, as_dict=True)
    else:
        found = jwt.algorithms.ECAlgorithm.to_jwk(public, as_dict=True)
    found.pop("key_ops", None)
    return {**found, "kid": kid, "use": "sig", **more}


class Issuer:
    """Serves a discovery document and keys while it is open; the port stays the same."""

    def __init__(self, algorithm: str = "RS256") -> None:
        self.algorithm, self.port = algorithm, 0
        self.keys: dict[str, Any] = {}
        self.asked = 0  # how often for keys
        # What is said instead of the documents.
        self.said: dict[str, bytes] = {}
        self._server: ThreadingHTTPServer | None = None
        self.open()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/realm"

    def open(self) -> None:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = issuer.document(self.path)
                self.send_response(200 if content else 404)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def document(self, path: str) -> bytes:
        if path in self.said:
            return self.said[path]
        if path == "/realm/.well-known/openid-configuration":
            return json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"}).encode()
        if path == "/realm/keys":
            self.asked += 1
            return json.dumps({"keys": [jwk(key, kid) for kid, key in self.keys.items()]}).encode()
        return b""

    def claims(self, **changes: Any) -> dict[str, Any]:
        """What a good token says; a change to None leaves a claim out."""
        now = int(time.time())
        said = {"iss": self.url, "aud": AUDIENCE, "sub": "ann", "groups": ["builders"], "iat": now, "exp": now + 600}
        return {name: value for name, value in (said | changes).items() if value is not None}

    def token(self, kid: str = "one", key: Any = None, **changes: Any) -> str:
        """A token that is signed with a key of the issuer, or with another."""
        signed = key or self.keys[kid]
        return jwt.encode(self.claims(**changes), signed, algorithm=self.algorithm, headers={"kid": kid})

    def entry(self, name: str = "corp", tenant: str = "default", audience: str = AUDIENCE, more: str = "") -> str:
        """Its part of the file of issuers."""
        return (
            f'[issuers.{name}]\nurl = "{self.url}"\naudience = "{audience}"\ntenant = "{tenant}"\n'
            f'algorithm = "{self.algorithm}"\n{more}\n[issuers.{name}.groups]\nbuilders = ["developer"]\n'
            f'readers = ["viewer"]\nchiefs = ["admin"]\nscorers = ["scorer"]\n'
        )


def write(file: Path, *entries: str) -> Path:
    """The file of issuers, replaced at once."""
    passing = file.with_suffix(".new")
    passing.write_text("\n".join(entries))
    passing.rename(file)
    return file
