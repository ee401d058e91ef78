"""The client side of OpenID Connect: the issuer's metadata, the answers of its token endpoint, identity tokens."""

import base64
import hashlib
import json
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard
from urllib.parse import urlsplit

import httpx2

from aimass.connection import trusting
from aimass.failures import Failure

_LOCAL = ("127.0.0.1", "localhost", "::1")
_KNOWN = "/.well-known/openid-configuration"
_SECONDS = 10.0  # for each answer, from the request to its last byte
_LARGEST = 2**20  # bytes of an answer
_YEAR = 31_536_000.0  # seconds; a longer lifetime is taken for a mistake
_BUSY = 429


@dataclass(frozen=True)
class Given:
    """The answer of a token endpoint: the access token, the refresh token ("" if none), the lifetime in seconds (0.0 if
    unknown), and the identity token, not yet verified.
    """

    token: str = field(repr=False)
    refresh: str = field(default="", repr=False)
    life: float = 0.0
    identity: Any = field(default=None, repr=False)

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> "Given":
        """Reads the answer. Raises Failure if it has no bearer token."""
        token, kind = answer.get("access_token"), answer.get("token_type")
        if not _plain(token) or not isinstance(kind, str) or kind.lower() != "bearer":
            raise refused("the issuer returned no bearer token")
        refresh = answer.get("refresh_token")
        return cls(token, refresh if _plain(refresh) else "", _life(answer, token), answer.get("id_token"))


def refused(text: str) -> Failure:
    """The failure of a login."""
    return Failure("unauthenticated", text)


def safe(url: str, whose: str) -> str:
    """The address. Raises Failure unless it is https or on this machine."""
    found = urlsplit(url)
    if found.scheme == "https" or (found.scheme == "http" and found.hostname in _LOCAL):
        return url
    raise Failure("failed_precondition", f"{whose} must have an https address to log in, not {url[:200]!a}")


def known(url: str) -> dict[str, Any]:
    """The metadata of an issuer. Raises Failure if it is another's, or its address is not safe."""
    metadata = document(safe(url.rstrip("/") + _KNOWN, "the issuer"))
    if metadata.get("issuer") != url:
        raise refused("the issuer's metadata is that of another issuer")
    return metadata


def endpoint(metadata: Mapping[str, Any], name: str) -> str:
    """One of its endpoints. Raises Failure if it is missing or not safe."""
    return safe(str(metadata.get(name, "")), f"the issuer's {name}")


def identity(shown: Any, url: str, client_id: str) -> dict[str, Any]:
    """The claims of an identity token. Raises Failure for a token of another issuer or for another client.

    It came from the issuer over TLS, so its signature need not be verified (OpenID Connect Core, 3.1.3.7).
    """
    try:
        claims = _claims(str(shown))
        audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        ours = claims["iss"] == url and client_id in audience
        ours = ours and claims.get("azp", client_id) == client_id
    except (IndexError, KeyError, TypeError, ValueError):
        raise refused("the issuer does not say who logged in") from None
    if not ours:
        raise refused("the issuer's answer is for another login")
    return claims


def person(claims: Mapping[str, Any]) -> str:
    """The digest of an identity's subject, which may be long and have any characters. Raises Failure."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise refused("the issuer does not say who logged in")
    return hashlib.sha256(subject.encode(errors="surrogatepass")).hexdigest()


def document(url: str, ca: str = "", form: Mapping[str, str] | None = None, closed: str = "") -> dict[str, Any]:
    """A JSON object from `url`. Raises Failure, with the text `closed` for status 401; no text shows what was sent."""
    status, found = asked(url, ca, form)
    if status == 401 and closed:
        raise Failure("not_found", closed)
    whose = urlsplit(url).netloc
    if status != 200:
        raise refused(f"{whose} answers with {status}")
    if found is None:
        raise refused(f"{whose} did not return a JSON object")
    return found


def asked(url: str, ca: str = "", form: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any] | None]:
    """The status of an answer, and its JSON object if it is one. Raises Failure `unavailable` if there is no answer in
    ten seconds, and for status 429 and 5xx."""
    answers = queue.SimpleQueue[tuple[int, bytes] | Exception]()

    def ask() -> None:
        try:
            answers.put(_answer(url, ca, form))
        except Exception as error:
            answers.put(error)

    # In a thread, which can be abandoned: timeouts of the HTTP client are per read, which slow senders meet.
    threading.Thread(target=ask, daemon=True).start()
    whose = urlsplit(url).netloc
    try:
        answer = answers.get(timeout=_SECONDS)
    except queue.Empty:
        raise Failure("unavailable", f"{whose} did not answer in {_SECONDS:g} s") from None
    if isinstance(answer, httpx2.HTTPError):
        raise Failure("unavailable", f"{whose} cannot be reached: {type(answer).__name__}") from None
    if isinstance(answer, Exception):
        raise answer
    status, content = answer
    if status >= 500 or status == _BUSY:
        raise Failure("unavailable", f"{whose} answers with {status}")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    return status, found if isinstance(found, dict) else None


def _answer(url: str, ca: str, form: Mapping[str, str] | None) -> tuple[int, bytes]:
    """Status and content. Raises HTTPError, also for an answer that is too long or takes too long."""
    parts, until = urlsplit(url), time.monotonic() + _SECONDS
    # Without TLS nothing is verified, so no certificates are read.
    verify = trusting(ca) if ca else parts.scheme == "https"
    sent = {"method": "POST", "data": dict(form)} if form else {"method": "GET"}
    local, content = parts.hostname in _LOCAL, b""
    with (
        httpx2.Client(verify=verify, timeout=_SECONDS, trust_env=not local) as client,
        client.stream(url=url, **sent) as answer,
    ):
        for piece in answer.iter_bytes():
            content += piece
            if len(content) > _LARGEST or time.monotonic() > until:
                raise httpx2.ReadError("the answer is too long or too slow")
        return answer.status_code, content


def _plain(token: Any) -> TypeGuard[str]:
    """Whether it can be the value of a header."""
    return isinstance(token, str) and token.isascii() and token.isprintable() and bool(token) and " " not in token


def _life(answer: Mapping[str, Any], token: str) -> float:
    """The lifetime in seconds, by the issuer's clock alone, since ours may be wrong."""
    try:
        found = answer.get("expires_in")
        if found is None:
            claims = _claims(token)
            found = claims["exp"] - claims["iat"]
        seconds = 0.0 if isinstance(found, bool) else float(found)
    except (IndexError, KeyError, TypeError, ValueError):
        return 0.0
    return seconds if 0 < seconds < _YEAR else 0.0


def _claims(token: str) -> dict[str, Any]:
    found = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    if not isinstance(found, dict):
        raise ValueError("no claims")
    return found
