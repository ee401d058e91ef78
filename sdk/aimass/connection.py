"""What both clients share of HTTP: the options of the connection, requests and answers, errors of the connection."""

import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2

from aimass import __version__
from aimass.door import Door, find
from aimass.exchange import Answer, Send, Unreachable
from aimass.failures import Failure
from aimass.receipts import Keep, Receipt, asking
from aimass.signing import Signer, SigningAuth

_CONNECT = 5.0  # seconds
_NAME = re.compile(r"[a-z0-9]{8}\Z")  # the id of a key
_LOCAL = ("127.0.0.1", "localhost", "::1")
# Advice for a gateway whose certificate is of its installation's own authority.
STRANGE = "set AIMASS_CA to the PEM file of that authority, or pass `ca`"


def opened(
    url: str | None,
    key: str | None,
    project: str,
    ca: str | None = None,
    signing: str | Signer | None = None,
    env: Mapping[str, str] = os.environ,
    certificate: str | None = None,
) -> tuple[Door, Any]:
    """The door, and the arguments of the HTTP client. Signed requests send no key. AIMASS_SIGNING is used if neither
    `signing` nor `key` is given.

    Raises Failure `no_key`, or `invalid_value` for a bad `ca`, `signing` or `certificate`.
    """
    auth = _signing(signing or (env.get("AIMASS_SIGNING") if not key else None))
    door = find(url, key or (auth.signer.key_id if auth else None), env, ca)
    local = urlsplit(door.url).hostname in _LOCAL
    headers = {"x-project": project, "user-agent": f"aimass-python/{__version__}"}
    renewing = _renewing(door, env) if door.grant and not auth else None
    if not auth and not renewing:
        named = certificate is not None and _NAME.match(door.key)
        headers["authorization"] = f"{'Certificate' if named else 'Bearer'} {door.key}"
    limits = httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=30.0)
    # A proxy of the environment is not for this machine.
    options = {"base_url": door.url, "headers": headers, "limits": limits, "trust_env": not local, "http2": False}
    if shown := auth or renewing:
        options["auth"] = shown
    if door.url.startswith("http://"):
        options["verify"] = False  # nothing to verify: saves the 20 ms that reading the certificates takes
    elif certificate:
        options["verify"] = showing(certificate, door.ca)
    elif door.ca:
        options["verify"] = trusting(door.ca)
    return door, options


def _renewing(door: Door, env: Mapping[str, str]) -> Any:
    from aimass.renewal import RenewingAuth  # few have logged in

    return RenewingAuth(door, env)


def _signing(given: str | Signer | None) -> SigningAuth | None:
    if not given:
        return None
    return SigningAuth(Signer.named(given) if isinstance(given, str) else given)


def trusting(ca: str) -> ssl.SSLContext:
    """A context that trusts the authorities of a PEM file only. Raises Failure `invalid_value`."""
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError is one
        raise Failure("invalid_value", f"{ca} is not a PEM file of certificates: {error.strerror or error}") from None


def showing(certificate: str, ca: str) -> ssl.SSLContext:
    """A context with a client certificate that trusts `ca` or the system. Raises Failure `invalid_value`."""
    context = trusting(ca) if ca else ssl.create_default_context()
    try:
        context.load_cert_chain(certificate)
    except OSError as error:
        text = f"{certificate} is not a PEM file of a certificate and its key: {error.strerror or error}"
        raise Failure("invalid_value", text) from None
    return context


def request_of(send: Send, keep: Keep | None = None) -> dict[str, Any]:
    """A step of a plan as arguments of the HTTP client; with `keep` it asks for a receipt."""
    timeout = httpx2.Timeout(max(send.seconds, 0.01), connect=min(_CONNECT, max(send.seconds, 0.01)))
    return {
        "method": send.method,
        "url": send.path,
        "params": send.query or None,
        "headers": dict(send.headers) | (asking(send.content or b"") if keep else {}),
        "content": send.content,
        "timeout": timeout,
    }


def answer_of(response: Any, keep: Keep | None = None) -> Answer:
    """A response that was read, as an answer; `keep` is called with its receipt."""
    if keep and (receipt := Receipt.of(response)):
        keep(receipt, response.request.content, response.content)
    return Answer(response.status_code, response.headers, response.content)


@contextmanager
def named(url: str) -> Iterator[None]:
    """Turns errors of the HTTP client into Unreachable, with the address in the text."""
    try:
        yield
    except httpx2.ConnectTimeout:
        raise Unreachable(f"{url} cannot be reached: it does not answer") from None
    except httpx2.TimeoutException:
        raise Unreachable(f"{url} did not answer in time", late=True) from None
    except httpx2.ConnectError as error:
        if "local issuer certificate" in str(error) or "self-signed" in str(error):
            raise Unreachable(f"{url} has a certificate of an unknown authority: {STRANGE}") from None
        raise Unreachable(f"{url} cannot be reached: {error}") from None
    except httpx2.TransportError as error:
        raise Unreachable(f"the connection to {url} broke: {error or type(error).__name__}") from None
