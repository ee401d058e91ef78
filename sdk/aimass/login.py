"""Login with an issuer: authorization code with PKCE (RFC 7636) and a loopback redirect (RFC 8252).

The gateway names the issuer; everything else is between the user's browser, the issuer and this process. The result is
a token of the issuer, which the gateway accepts instead of a key.
"""

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from aimass.door import Grant
from aimass.failures import Failure
from aimass.issuer import Given, document, endpoint, identity, known, person, refused, safe

_SKEW = 60.0  # seconds that the issuer's clock may be from ours


@dataclass(frozen=True)
class Offer:
    """An issuer whose tokens a gateway accepts, and the client id for it."""

    name: str
    url: str
    client_id: str
    scopes: tuple[str, ...]


class Stray(Exception):
    """A request to the redirect address that is no answer to this login."""


def offer(gateway: str, name: str, ca: str = "") -> Offer:
    """The issuer with this name at a gateway. Raises Failure if there is none, or the gateway's address is not safe."""
    url = safe(f"{gateway.rstrip('/')}/v1/login", "the gateway")
    issuers = document(url, ca, closed=f"there is no issuer {name}: the gateway accepts no tokens").get("issuers")
    found = [one for one in issuers if isinstance(one, dict)] if isinstance(issuers, list) else []
    for one in found:
        if one.get("issuer") == name:
            scopes = one.get("scopes")
            return Offer(
                name,
                str(one.get("url", "")),
                str(one.get("client_id", "")),
                tuple(map(str, scopes if isinstance(scopes, list) else [])),
            )
    there = ", ".join(str(one.get("issuer")) for one in found) or "none"
    raise Failure("not_found", f"there is no issuer {name}; there is {there}")


@dataclass
class Login:
    """One login."""

    offer: Offer
    redirect: str
    metadata: Mapping[str, Any]
    state: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48), repr=False)

    @classmethod
    def of(cls, offer: Offer, redirect: str) -> "Login":
        """Reads the issuer's metadata. Raises Failure if it is another's or not safe."""
        metadata = known(offer.url)
        methods = metadata.get("code_challenge_methods_supported")
        if isinstance(methods, list) and "S256" not in methods:
            raise refused("the issuer does not support PKCE with S256")
        for name in ("authorization_endpoint", "token_endpoint"):
            endpoint(metadata, name)
        return cls(offer, redirect, metadata)

    @property
    def address(self) -> str:
        """The address for the user's browser."""
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
        place = str(self.metadata["authorization_endpoint"])
        return f"{place}{'&' if urlsplit(place).query else '?'}{urlencode(asked)}"

    def code(self, query: Mapping[str, list[str]]) -> str:
        """The code in a request to the redirect address. Raises Stray for no answer to this login, or Failure."""
        if any(len(values) != 1 for values in query.values()):
            raise Stray
        one = {name: values[0] for name, values in query.items()}
        if not hmac.compare_digest(one.get("state", "").encode(), self.state.encode()):
            raise Stray
        # RFC 9207: the code of one issuer must not be sent to another.
        named = self.metadata.get("authorization_response_iss_parameter_supported") is True or "iss" in one
        if named and one.get("iss") != self.offer.url:
            raise refused("the answer is that of another issuer")
        if "error" in one:
            raise refused(f"the issuer refuses: {one['error'][:100]!a}")
        if not one.get("code"):
            raise refused("the issuer returned neither a code nor an error")
        return one["code"]

    def token(self, code: str) -> tuple[str, Grant]:
        """The token for a code, and the grant to renew it. Raises Failure if the issuer returns none, or one of another
        login."""
        shown = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect,
            "client_id": self.offer.client_id,
            "code_verifier": self.verifier,
        }
        given = Given.of(document(str(self.metadata["token_endpoint"]), form=shown))
        subject = self._own(given.identity) if "openid" in self.offer.scopes else ""
        grant = Grant(self.offer.name, self.offer.url, self.offer.client_id, subject, self.nonce)
        return given.token, grant.renewed(given.refresh, given.life, time.time())

    def _own(self, shown: Any) -> str:
        """The digest of the user's id. Raises Failure for an identity of another login."""
        claims = identity(shown, self.offer.url, self.offer.client_id)
        try:
            nonce = str(claims["nonce"])
            alive = float(claims["exp"]) + _SKEW > time.time()
        except (KeyError, TypeError, ValueError):
            raise refused("the issuer returned no valid identity") from None
        if not (alive and hmac.compare_digest(nonce.encode(), self.nonce.encode())):
            raise refused("the issuer's answer is for another login")
        return person(claims)
