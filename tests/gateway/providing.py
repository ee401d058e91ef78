"""A small OpenID provider: people log in with it (authorization code with PKCE), all of them at once and as one."""

import base64
import hashlib
import json
import secrets
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.gateway.issuing import AUDIENCE, Issuer, rsa_key

CLIENT = "aimass-cli"
Fields = dict[str, str]


class Provider(Issuer):
    """An issuer that people log in with."""

    def __init__(self) -> None:
        # What its documents, its redirects and its answers to codes say otherwise.
        self.known: dict[str, Any] = {}
        self.back: Callable[[Fields], Fields] = lambda fields: fields
        self.given: Callable[[dict[str, Any]], dict[str, Any]] = lambda answer: answer
        self.identity: dict[str, Any] = {}
        self.codes: dict[str, Fields] = {}
        self.used: list[str] = []
        super().__init__()
        self.keys["one"] = rsa_key()

    def open(self) -> None:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if urlsplit(self.path).path == "/realm/authorize":
                    self._send(302, b"", provider.authorize(dict(parse_qsl(urlsplit(self.path).query))))
                    return
                content = provider.document(self.path)
                self._send(200 if content else 404, content)

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["content-length"])).decode()
                status, answer = provider.answer(self.path, dict(parse_qsl(content)))
                self._send(status, json.dumps(answer).encode())

            def _send(self, status: int, content: bytes, location: str = "") -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                if location:
                    self.send_header("location", location)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def document(self, path: str) -> bytes:
        content = super().document(path)
        if path != "/realm/.well-known/openid-configuration" or path in self.said:
            return content
        more = {
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }
        return json.dumps(json.loads(content) | more | self.known).encode()

    def authorize(self, asked: Fields) -> str:
        """Where the browser of somebody who has logged in goes."""
        assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
        assert asked["client_id"] == CLIENT
        assert asked["redirect_uri"].startswith("http://127.0.0.1:")
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        fields = self.back({"code": code, "state": asked["state"], "iss": self.url})
        return f"{asked['redirect_uri']}?{urlencode(fields)}"

    def answer(self, path: str, shown: Fields) -> tuple[int, dict[str, Any]]:
        """What is said to a form that somebody sends."""
        return self.exchange(shown)

    def exchange(self, shown: Fields) -> tuple[int, dict[str, Any]]:
        """The answer to a code, which is taken once and from who asked for it."""
        asked = self.codes.pop(shown.get("code", ""), None)
        self.used.append(shown.get("code", ""))
        if asked is None or shown["grant_type"] != "authorization_code":
            return 400, {"error": "invalid_grant"}
        digest = hashlib.sha256(shown["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        theirs = (asked["code_challenge"], asked["redirect_uri"], asked["client_id"])
        if theirs != (challenge, shown["redirect_uri"], shown["client_id"]):
            return 400, {"error": "invalid_grant"}
        identity = self.token(aud=CLIENT, nonce=asked["nonce"], **self.identity)
        return 200, self.given({"access_token": self.token(), "token_type": "Bearer", "id_token": identity})

    def entry(self, name: str = "corp", tenant: str = "default", audience: str = AUDIENCE, more: str = "") -> str:
        login = f'\n[issuers.{name}.login]\nclient_id = "{CLIENT}"\nscopes = ["openid", "profile"]\n'
        return super().entry(name, tenant, audience, more) + login
