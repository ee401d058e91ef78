"""The public keys of an issuer, as RFC 7517 writes them: those that fit its algorithm, and no others."""

import logging
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from services.gateway.issuers import strict

log = logging.getLogger(__name__)
_MOST = 100  # keys of one set
_RSA = range(2048, 8193)  # bits
_EXPONENTS = range(65537, 2**32, 2)
_PRIVATE = frozenset({"d", "k", "p", "q", "dp", "dq", "qi", "oth"})
# The public parts of a key of each kind, and the curve where an algorithm has one.
_PARTS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519"}


def kind(algorithm: str) -> str:
    """The kind of key that an algorithm is bound to."""
    return {"E": "EC", "R": "RSA", "P": "RSA"}[algorithm[0]] if algorithm != "EdDSA" else "OKP"


def read(content: bytes, algorithm: str) -> dict[str, Any]:
    """Keys by their id. Raises ValueError for what is no set, or has no key that fits."""
    entries = strict.document(content).get("keys")
    if not isinstance(entries, list) or len(entries) > _MOST:
        raise ValueError(f"there are no keys, or more than {_MOST}")
    found, twice = dict[str, Any](), set[str]()
    for entry in entries:
        if not isinstance(entry, dict) or not _fits(entry, algorithm):
            continue
        if (key := _key(entry, algorithm)) is None:
            log.warning("a key of an issuer is not one for %s", algorithm)
            continue
        if entry["kid"] in found:
            twice.add(entry["kid"])
        found[entry["kid"]] = key
    # Which of two was meant cannot be told.
    usable = {kid: key for kid, key in found.items() if kid not in twice}
    if not usable:
        raise ValueError(f"there is no key for {algorithm}")
    return usable


def _fits(entry: Mapping[str, Any], algorithm: str) -> bool:
    kid, operations = entry.get("kid"), entry.get("key_ops", ["verify"])
    return (
        entry.get("kty") == kind(algorithm)
        and entry.get("crv") == _CURVES.get(algorithm)
        and entry.get("use", "sig") == "sig"
        and entry.get("alg", algorithm) == algorithm
        and isinstance(operations, list)
        and "verify" in operations
        and isinstance(kid, str)
        and bool(strict.KID.match(kid))
        and not _PRIVATE & entry.keys()
    )


def _key(entry: Mapping[str, Any], algorithm: str) -> Any:
    try:
        public = {name: entry[name] for name in ("kty", *_PARTS[entry["kty"]])}
        key = jwt.PyJWK(public, algorithm).key
    except (jwt.PyJWTError, KeyError, TypeError, ValueError):
        return None
    if isinstance(key, RSAPublicKey) and not (key.key_size in _RSA and key.public_numbers().e in _EXPONENTS):
        return None
    return key
