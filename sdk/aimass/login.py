"""Logging in with an issuer: authorization code with PKCE (RFC 7636), coming back to this machine (RFC 8252).

The gateway says which issuer; everything else is between the user's browser, the issuer and this process. What comes
back is the issuer's token, which the gateway takes in place of a key.
"""

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx2

from aimass.connection import trusting
from aimass.failures import Failure

_LOCAL = ("127.0.0.1", "localhost", "::1")
_KNOWN = "/.well-known/openid-configuration"
_SECONDS = 10.0  # for each answer of gateway and issuer
_SKEW = 60.0  # seconds that the issuer's clock may be from ours


@dataclass(frozen=True)
class Offer:
    """An issuer that a gateway takes tokens of, and as whom one logs in there."""

    name: str
    url: str
    client_id: str
    scopes: tuple[str, ...]


class Stray(Exception):
    """Something came back that belongs to no login of this process."""


def refused(text: str) -> Failure:
    """A login that comes to nothing."""
    return Failure("unauthenticated", text)


def offer(gateway: str, name: str, ca: str = "") -> Offer:
    """What a gateway says of an issuer. Raises Failure for a gateway that others could speak for, or no such issuer."""
    url = _safe(f"{gateway.rstrip('/')}/v1/login", "the gateway")
    said = _document(url, ca, closed=f"nobody logs in with {name} here: the gateway takes no tokens").get("issuers")
    found = [one for one in said if isinstance(one, dict)] if isinstance(said, list) else []
    for one in found:
        if one.get("issuer") == name:
            scopes = one.get("scopes")
            return Offer(
                name,
                str(one.get("url", "")),
                str(one.get("client_id", "")),
                tuple(map(str, scopes if isinstance(scopes, list) else [])),
            )
    known = ", ".join(str(one.get("issuer")) for one in found) or "none"
    raise Failure("not_found", f"nobody logs in with {name} here; those that there are: {known}")


@dataclass
class Login:
    """One login under way."""

    offer: Offer
    redirect: str
    said: Mapping[str, Any]
    state: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48), repr=False)

    @classmethod
    def of(cls, offer: Offer, redirect: str) -> "Login":
        """Asks the issuer where it lets people in. Raises Failure for an issuer that is another, or not safe."""
        said = _document(_safe(offer.url.rstrip("/") + _KNOWN, "the issuer"))
        if said.get("issuer") != offer.url:
            raise refused("the issuer's document is that of another issuer")
        methods = said.get("code_challenge_methods_supported")
        if isinstance(methods, list) and "S256" not in methods:
            raise refused("the issuer does not know S256")
        for name in ("authorization_endpoint", "token_endpoint"):
            _safe(str(said.get(name, "")), f"the issuer's {name}")
        return cls(offer, redirect, said)

    @property
    def address(self) -> str:
        """Where the user's browser has to go."""
        challenge = hashlib.sha256(self.verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self.offer.client_id,
            "redirect_uri": self.redirect,
            "scope": " ".join(self.offer.scopes),
            "state": self.state,
            "nonce": self.nonce,
            "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        place = str(self.said["authorization_endpoint"])
        return f"{place}{'&' if urlsplit(place).query else '?'}{urlencode(asked)}"

    def code(self, query: Mapping[str, list[str]]) -> str:
        """The code in what came back. Raises Stray for what is not an answer to this login, Failure for a refusal."""
        if any(len(values) != 1 for values in query.values()):
            raise Stray
        one = {name: values[0] for name, values in query.items()}
        if not hmac.compare_digest(one.get("state", "").encode(), self.state.encode()):
            raise Stray
        # RFC 9207: who could have us talk to two issuers must not have one's code shown to the other.
        named = self.said.get("authorization_response_iss_parameter_supported") is True or "iss" in one
        if named and one.get("iss") != self.offer.url:
            raise refused("the answer is that of another issuer")
        if "error" in one:
            raise refused(f"the issuer refuses: {one['error'][:100]!a}")
        if not one.get("code"):
            raise refused("the issuer says neither a code nor an error")
        return one["code"]

    def token(self, code: str) -> str:
        """The token for a code. Raises Failure when the issuer gives none, or one for another login."""
        given = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect,
            "client_id": self.offer.client_id,
            "code_verifier": self.verifier,
        }
        said = _document(str(self.said["token_endpoint"]), form=given)
        token, kind = said.get("access_token"), said.get("token_type")
        if not isinstance(token, str) or not token or not isinstance(kind, str) or kind.lower() != "bearer":
            raise refused("the issuer gives no token that can be shown")
        if "openid" in self.offer.scopes:
            self._own(said.get("id_token"))
        return token

    def _own(self, shown: Any) -> None:
        """Raises Failure for an identity that is not of this login. It came from the issuer itself, by TLS (OpenID
        Connect Core, 3.1.3.7): its signature is the gateway's concern."""
        try:
            said = json.loads(base64.urlsafe_b64decode(str(shown).split(".")[1] + "=="))
            audience = said["aud"] if isinstance(said["aud"], list) else [said["aud"]]
            nonce = str(said["nonce"])
            ours = said["iss"] == self.offer.url and self.offer.client_id in audience
            ours = ours and said.get("azp", self.offer.client_id) == self.offer.client_id
            alive = float(said["exp"]) + _SKEW > time.time()
        except (IndexError, KeyError, TypeError, ValueError):
            raise refused("the issuer does not say who logged in") from None
        if not (ours and alive and hmac.compare_digest(nonce.encode(), self.nonce.encode())):
            raise refused("the issuer's answer is for another login")


def _safe(url: str, whose: str) -> str:
    """Raises Failure for an address where somebody on the way could answer."""
    found = urlsplit(url)
    if found.scheme == "https" or (found.scheme == "http" and found.hostname in _LOCAL):
        return url
    raise Failure("failed_precondition", f"{whose} has to be at an https address to log in, not at {url[:200]!a}")


def _document(url: str, ca: str = "", form: Mapping[str, str] | None = None, closed: str = "") -> dict[str, Any]:
    """A JSON object. Raises Failure, with the text `closed` where a key is asked for; nothing sent is in its text."""
    whose = urlsplit(url).netloc
    local = urlsplit(url).hostname in _LOCAL
    try:
        with httpx2.Client(verify=trusting(ca) if ca else True, timeout=_SECONDS, trust_env=not local) as client:
            answer = client.post(url, data=dict(form)) if form else client.get(url)
    except httpx2.HTTPError as error:
        raise Failure("unavailable", f"{whose} cannot be reached: {type(error).__name__}") from None
    if answer.status_code == 401 and closed:
        raise Failure("not_found", closed)
    if answer.status_code != 200:
        raise refused(f"{whose} answers with {answer.status_code}")
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise refused(f"{whose} says nothing that can be read")
    return found
