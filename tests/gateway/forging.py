"""Forged tokens (RELIABILITY V11): each is wrong in one way."""

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.gateway.issuing import Issuer, b64, ec_key, jwk, rsa_key

Sign = Callable[[bytes], bytes]


def assembled(header: str, payload: str, sign: Sign) -> str:
    signed = f"{b64(header)}.{b64(payload)}"
    return f"{signed}.{b64(sign(signed.encode()))}"


def forged(issuer: Issuer) -> dict[str, str]:
    """By what is wrong with them; the issuer signs with RS256 and has the key `one`."""
    private = issuer.keys["one"]

    def right(text: bytes) -> bytes:
        return bytes(private.sign(text, PKCS1v15(), SHA256()))

    claims = json.dumps(issuer.claims())
    return {
        **_algorithms(issuer, private, claims),
        **_heads(private, claims, right),
        **_said_twice(claims, right),
        **_claims(issuer),
        **_shapes(issuer, claims, right),
    }


def _algorithms(issuer: Issuer, private: Any, claims: str) -> dict[str, str]:
    public = private.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    secrets = {
        "pem": pem,
        "pem without its end": pem.rstrip(),
        "pkcs1 pem": public.public_bytes(Encoding.PEM, PublicFormat.PKCS1),
        "der": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "pkcs1 der": public.public_bytes(Encoding.DER, PublicFormat.PKCS1),
        "jwk": json.dumps(jwk(private, "one")).encode(),
        "modulus": jwk(private, "one")["n"].encode(),
        "key id": b"one",
        "nothing": b"",
    }
    found = {}
    for name, digest in (("HS256", hashlib.sha256), ("HS384", hashlib.sha384), ("HS512", hashlib.sha512)):
        head = json.dumps({"alg": name, "kid": "one"})
        for what, secret in secrets.items():
            found[f"{name} with {what}"] = assembled(head, claims, partial(_hashed, secret, digest))
    for name in ("none", "None", "nOnE", "NONE", ""):
        head = json.dumps({"alg": name, "kid": "one"})
        found[f"alg {name!r}"] = assembled(head, claims, lambda _: b"")
        found[f"alg {name!r}, signed"] = assembled(head, claims, lambda _: b"x" * 256)
    body = issuer.claims()
    for name, key in (("RS384", private), ("RS512", private), ("PS256", private), ("ES256", ec_key())):
        found[f"right key, {name}"] = jwt.encode(body, key, algorithm=name, headers={"kid": "one"})
    found["EdDSA"] = jwt.encode(body, Ed25519PrivateKey.generate(), algorithm="EdDSA", headers={"kid": "one"})
    found["another key"] = issuer.token(key=rsa_key())
    return found


def _hashed(secret: bytes, digest: Any, text: bytes) -> bytes:
    return hmac.new(secret, text, digest).digest()


def _heads(private: Any, claims: str, right: Sign) -> dict[str, str]:
    own = {"alg": "RS256", "kid": "one"}
    thief = rsa_key()
    heads: dict[str, dict[str, Any]] = {
        "jku": {"jku": "https://thief.example/keys"},
        "x5u": {"x5u": "https://thief.example/chain"},
        "jwk": {"jwk": jwk(thief, "one")},
        "x5c": {"x5c": ["AAAA"]},
        "crit": {"crit": ["exp"]},
        "empty crit": {"crit": []},
        "b64": {"b64": False},
        "zip": {"zip": "DEF"},
        "cty": {"cty": "JWT"},
        "kid traversal": {"kid": "../../../../dev/null"},
        "kid file": {"kid": "/proc/sys/kernel/randomize_va_space"},
        "kid statement": {"kid": "x' UNION SELECT 'k"},
        "kid list": {"kid": ["one"]},
        "kid empty": {"kid": ""},
        "kid none": {"kid": None},
        "kid nul": {"kid": "one\x00"},
        "kid unknown": {"kid": "two"},
        "kid case": {"kid": "ONE"},
        "typ logout": {"typ": "logout+jwt"},
        "typ list": {"typ": ["JWT"]},
        "alg list": {"alg": ["RS256"]},
        "alg none": {"alg": None},
    }
    return {name: assembled(json.dumps(own | head), claims, right) for name, head in heads.items()}


def _said_twice(claims: str, right: Sign) -> dict[str, str]:
    head = '{"alg":"RS256","kid":"one"}'
    more = {"sub": '"bob"', "aud": '"aimass"', "exp": str(int(time.time()) + 60), "s\\u0075b": '"bob"'}
    found = dict[str, str]()
    for name, said in more.items():
        found[f"{name} twice"] = assembled(head, claims[:-1] + f',"{name}":{said}}}', right)
    return found | {"alg twice": assembled('{"alg":"RS256","kid":"one","alg":"RS256"}', claims, right)}


def _claims(issuer: Issuer) -> dict[str, str]:
    now = int(time.time())
    changes: dict[str, dict[str, Any]] = {
        "expired": {"iat": now - 600, "exp": now - 61},
        "no end": {"exp": None},
        "endless": {"exp": now + 10**9},
        "end beyond all": {"exp": 10**300},
        "infinite": {"exp": float("inf")},
        "negative end": {"exp": -1},
        "end in words": {"exp": "never"},
        "end is true": {"exp": True},
        "not yet": {"nbf": now + 61},
        "begin in words": {"nbf": "now"},
        "made tomorrow": {"iat": now + 86_400, "exp": now + 86_500},
        "never made": {"iat": None},
        "ends before it is made": {"iat": now + 20, "exp": now + 10},
        "another audience": {"aud": "others"},
        "other audiences": {"aud": ["others", "aimass2"]},
        "no audience": {"aud": None},
        "empty audience": {"aud": []},
        "another issuer": {"iss": "https://thief.example"},
        "issuer with a slash": {"iss": issuer.url + "/"},
        "no issuer": {"iss": None},
        "no subject": {"sub": None},
        "empty subject": {"sub": ""},
        "subject of two lines": {"sub": "ann\nbob"},
        "long subject": {"sub": "a" * 256},
        "bound": {"cnf": {"jkt": "x"}},
    }
    return {name: _signed(issuer, change) for name, change in changes.items()}


def _signed(issuer: Issuer, change: dict[str, Any]) -> str:
    payload = json.dumps(issuer.claims(**change)).encode()
    return jwt.PyJWS().encode(payload, issuer.keys["one"], algorithm="RS256", headers={"kid": "one"})


def _shapes(issuer: Issuer, claims: str, right: Sign) -> dict[str, str]:
    head = '{"alg":"RS256","kid":"one"}'
    good = issuer.token()
    first, payload, signature = good.split(".")
    return {
        "altered": f"{first}.{b64(claims.replace('ann', 'bob'))}.{signature}",
        "cut": good[:-4],
        "unsigned": f"{first}.{payload}.",
        "two parts": f"{first}.{payload}",
        "four parts": f"{good}.{signature}",
        "five parts": f"{good}.a.b",
        "padded": f"{first}.{payload}.{signature}==",
        "other alphabet": f"{first}.{payload}.+/{signature[2:]}",
        "other spelling": f"{good[:-1]}{chr(ord(good[-1]) + 1)}",
        "no document": assembled(head, "ann", right),
        "a list": assembled(head, f"[{claims}]", right),
        "nested deeply": assembled(head, claims[:-1] + ',"x":' + "[" * 3000 + "]" * 3000 + "}", right),
        "not a number": assembled(head, claims[:-1] + ',"x":NaN}', right),
        "too long": assembled(head, claims[:-1] + ',"x":"' + "x" * 13_000 + '"}', right),
        "dots": "..",
    }
