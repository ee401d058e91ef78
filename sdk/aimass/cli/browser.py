"""A login through the user's browser, which comes back to a listener on this machine."""

import threading
import webbrowser
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import typer

from aimass.door import Grant
from aimass.failures import Failure
from aimass.issuer import refused
from aimass.login import Login, Stray, offer

_PATIENCE = 300.0  # seconds that the user has in the browser
_SILENT = 5.0  # seconds that a connection may say nothing
_DONE = "You are logged in. This window can be closed."
_NOT = "The login failed. The terminal says why."


def logged_in(
    gateway: str, name: str, ca: str = "", first: Callable[[], None] = lambda: None, patience: float = _PATIENCE
) -> tuple[str, Grant]:
    """Has the user log in with an issuer of the gateway. Returns the token and the grant to renew it. Raises Failure.

    `first` is called when the issuer is known and the browser is not open yet.
    """
    chosen = offer(gateway, name, ca)
    with _Back(("127.0.0.1", 0), _Answer) as back:
        back.login = login = Login.of(chosen, f"http://127.0.0.1:{back.server_port}/callback")
        threading.Thread(target=back.serve_forever, args=(0.05,), daemon=True).start()
        try:
            first()
            typer.echo(f"Log in with your browser. If it does not open, go to\n{login.address}", err=True)
            webbrowser.open(login.address)
            return login.token(back.wait(patience))
        finally:
            back.shutdown()


class _Back(ThreadingHTTPServer):
    """Listens on this machine until the browser comes back, once."""

    login: Login

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._once, self._came = threading.Lock(), threading.Event()
        self._found: str | Failure | None = None

    def take(self, query: dict[str, list[str]]) -> bool:
        """Takes an answer; True if it is a code. Raises Stray for a request that is no answer, or not the first."""
        with self._once:
            if self._found is not None:
                raise Stray
            try:
                self._found = self.login.code(query)
            except Failure as failure:
                self._found = failure
            return isinstance(self._found, str)

    def answered(self) -> None:
        """The browser has its response."""
        self._came.set()

    def wait(self, patience: float) -> str:
        """The code of the answer. Raises Failure for a refusal, or if there is no answer in time."""
        self._came.wait(patience)
        if self._found is None:
            raise refused(f"nobody logged in within {patience:g} s")
        if isinstance(self._found, Failure):
            raise self._found
        return self._found

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A broken connection does not end the login."""


class _Answer(BaseHTTPRequestHandler):
    timeout = _SILENT

    def do_GET(self) -> None:
        """Takes the answer, and tells the browser whether the login succeeded."""
        back, place = self.server, urlsplit(self.path)
        assert isinstance(back, _Back)
        try:
            if place.path != "/callback" or self.headers.get("host") != f"127.0.0.1:{back.server_port}":
                raise Stray
            went = back.take(parse_qs(place.query, keep_blank_values=True))
        except Stray:
            self._respond(404, "Not found.")
            return
        try:
            self._respond(200 if went else 400, _DONE if went else _NOT)
        finally:
            back.answered()

    def _respond(self, status: int, text: str) -> None:
        self.send_response(status)
        for name, value in {
            "content-type": "text/plain; charset=utf-8",
            "content-length": str(len(text)),
            "content-security-policy": "default-src 'none'",
            "referrer-policy": "no-referrer",
            "cache-control": "no-store",
            "connection": "close",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Logs nothing: the code is in the path."""
