"""Verifies tokens of issuers (RELIABILITY A4, V11): issuer, audience, times, key."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jwt

from services.gateway.issuers import strict
from services.gateway.issuers.distrust import TokenRefused, UnknownKey
from services.gateway.issuers.table import Issuer

_LONGEST = 16 * 2**10  # characters
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")
SUBJECT = re.compile(r"[!-~]{1,255}\Z")
# Header fields with keys of the message itself, critical extensions, and other forms of the payload.
_NEVER = frozenset({"jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "enc", "epk", "cty"})
_TYPES = ("jwt", "at+jwt", "application/at+jwt")
_MOST = 1000  # groups that are looked at
_NAME = 255  # characters of a group that bindings can name


class Claims(NamedTuple):
    """The claims of a valid token."""

    principal: str
    tenant: str
    roles: tuple[str, ...]
    ends: float  # Unix seconds
    # As bindings name them.
    groups: tuple[str, ...] = ()


class _Parts(NamedTuple):
    algorithm: str
    kid: str
    claims: dict[str, Any]


def read(token: str, issuers: Mapping[str, Issuer], keys: Callable[[str], Mapping[str, Any]], now: float) -> Claims:
    """The claims of a token; `keys` gives those of an issuer by its name. Raises TokenRefused."""
    parts = _parts(token)
    name, issuer = _issuer(parts.claims, issuers)
    if parts.algorithm != issuer.algorithm:
        raise TokenRefused("its algorithm is not that of its issuer")
    if (key := keys(name).get(parts.kid)) is None:
        raise UnknownKey(name)
    try:
        jwt.PyJWS(algorithms=[issuer.algorithm]).decode(token, key, algorithms=[issuer.algorithm])
    except (jwt.PyJWTError, ValueError, TypeError):
        raise TokenRefused("its issuer has not signed it") from None
    ends = _times(parts.claims, issuer, now)
    groups = _groups(_claim(parts.claims, issuer.groups_claim))
    roles = tuple(dict.fromkeys(role for group in groups for role in issuer.groups.get(group, ())))
    bound = tuple(f"group:{name}:{group}" for group in groups if named(group))
    return Claims(f"user:{name}:{_subject(parts.claims)}", issuer.tenant, roles, ends, bound)


def _parts(token: str) -> _Parts:
    if len(token) > _LONGEST or not _TOKEN.match(token):
        raise TokenRefused("it is no token, or too long")
    try:
        head, payload, _ = [strict.unpadded(part) for part in token.split(".")]
        header, claims = strict.document(head), strict.document(payload)
    except ValueError:
        raise TokenRefused("it is not written as tokens are") from None
    if _NEVER & header.keys():
        raise TokenRefused("its header says more than it may")
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or not isinstance(kid, str) or not strict.KID.match(kid):
        raise TokenRefused("it does not say its algorithm and its key")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise TokenRefused("it is not of a kind that is shown to services")
    return _Parts(algorithm, kid, claims)


def _issuer(claims: Mapping[str, Any], issuers: Mapping[str, Issuer]) -> tuple[str, Issuer]:
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    found = [
        (name, issuer)
        for name, issuer in issuers.items()
        if issuer.url == claims.get("iss") and issuer.audience in audiences
    ]
    if len(found) != 1:
        raise TokenRefused("it is of no issuer that is known, or not for us, or for two of us")
    return found[0]


def _times(claims: Mapping[str, Any], issuer: Issuer, now: float) -> float:
    """When it ends here."""
    ends, made, begins = (_time(claims, name) for name in ("exp", "iat", "nbf"))
    if ends is None or made is None:
        raise TokenRefused("it does not say when it was made and when it ends")
    if ends + issuer.leeway <= now:
        raise TokenRefused("it has expired")
    if max(made, made if begins is None else begins) > now + issuer.leeway:
        raise TokenRefused("it is from the future")
    if not 0 < ends - made <= issuer.longest or ends - now > issuer.longest + issuer.leeway:
        raise TokenRefused("it lives too long")
    return ends + issuer.leeway


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    """Unix seconds."""
    if name not in claims:
        return None
    found = claims[name]
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found < 2**53:
        raise TokenRefused(f"its {name} is no time")
    return float(found)


def _subject(claims: Mapping[str, Any]) -> str:
    found = claims.get("sub")
    if not isinstance(found, str) or not SUBJECT.match(found):
        raise TokenRefused("it does not say for whom it is")
    if "cnf" in claims:
        raise TokenRefused("it is bound to a key that the caller has to prove")
    return found


def named(group: str) -> bool:
    """Whether bindings can name a group: nothing in it looks like nothing, or like another one's end."""
    return 0 < len(group) <= _NAME and group.isprintable()


def _claim(claims: Mapping[str, Any], path: str | tuple[str, ...]) -> Any:
    """The value of a claim by its name or path; None where there is none."""
    found: Any = claims
    for name in (path,) if isinstance(path, str) else path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _groups(value: Any) -> list[str]:
    """A list of names, or names with spaces between them, as in `scope`; each once."""
    names = value.split() if isinstance(value, str) else value
    found = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return list(dict.fromkeys(found))[:_MOST]
