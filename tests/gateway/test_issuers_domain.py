"""Tokens, sets of keys and the file of issuers, without a gateway: what is taken at its edges, and what is not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.issuers import jwks, strict, tokens
from services.gateway.issuers.distrust import TokenRefused
from services.gateway.issuers.table import Issuer, IssuerTable
from services.gateway.issuers.tokens import Claims
from services.kit.config import ConfigError
from tests.gateway.issuing import b64, ec_key, jwk, rsa_key

NOW = 1_800_000_000.0
URL = "https://login.example/realm"
PRIVATE = rsa_key()
ENTRY = f'[issuers.corp]\nurl = "{URL}"\naudience = "aimass"\ntenant = "acme"\nalgorithm = "RS256"\n'
KEYS: dict[str, Callable[[], Any]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), lambda: PRIVATE),
    "ES256": ec_key,
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": Ed25519PrivateKey.generate,
}


def issuer(**changes: Any) -> Issuer:
    known = {"url": URL, "audience": "aimass", "tenant": "acme", "algorithm": "RS256"}
    return Issuer(**(known | {"groups": {"a": ("viewer",), "b": ("viewer", "scorer")}} | changes))


def claims(**changes: Any) -> dict[str, Any]:
    return {"iss": URL, "aud": "aimass", "sub": "ann", "iat": NOW - 10, "exp": NOW + 600} | changes


def read(said: dict[str, Any], by: Issuer | None = None, key: Any = PRIVATE, now: float = NOW) -> Claims:
    by = by or issuer()
    content, head = json.dumps(said).encode(), {"kid": "one"}
    token = jwt.PyJWS().encode(content, key, algorithm=by.algorithm, headers=head)
    public = jwks.read(json.dumps({"keys": [jwk(key, "one")]}).encode(), by.algorithm)
    return tokens.read(token, {"corp": by}, lambda _: public, now)


@pytest.mark.parametrize("algorithm", KEYS)
def test_each_algorithm_has_its_kind_of_key(algorithm: str) -> None:
    found = read(claims(), issuer(algorithm=algorithm), KEYS[algorithm]())

    assert found == Claims("user:corp:ann", "acme", (), NOW + 630)


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        ({"iat": NOW - 100, "exp": NOW - 29}, True),
        ({"iat": NOW - 100, "exp": NOW - 30}, False),
        ({"nbf": NOW + 30}, True),
        ({"nbf": NOW + 31}, False),
        ({"iat": NOW + 30}, True),
        ({"iat": NOW + 31}, False),
        ({"iat": NOW - 100, "exp": NOW - 100 + 86_400}, True),
        ({"iat": NOW - 100, "exp": NOW - 99 + 86_400}, False),
    ],
)
def test_clocks_may_differ_by_the_leeway_and_no_more(change: dict[str, float], taken: bool) -> None:
    if taken:
        assert read(claims(**change)).principal == "user:corp:ann"
        return
    with pytest.raises(TokenRefused):
        read(claims(**change))


@pytest.mark.parametrize(
    ("claim", "said", "roles"),
    [
        ("groups", {"groups": ["b", "a", "b"]}, ("viewer", "scorer")),
        ("scope", {"scope": "openid a"}, ("viewer",)),
        (("realm_access", "roles"), {"realm_access": {"roles": ["b"]}}, ("viewer", "scorer")),
        ("https://corp.example/groups", {"https://corp.example/groups": ["a"]}, ("viewer",)),
        (("realm_access", "roles"), {"realm_access": ["roles"]}, ()),
        ("groups", {"roles": ["a"]}, ()),
        ("groups", {"groups": [1, None, ["a"], "a"]}, ("viewer",)),
    ],
)
def test_groups_are_where_the_file_says(claim: Any, said: dict[str, Any], roles: tuple[str, ...]) -> None:
    assert read(claims(**said), issuer(groups_claim=claim)).roles == roles


def published(**change: Any) -> bytes:
    return json.dumps({"keys": [jwk(PRIVATE, "one") | change]}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"keys": {}}',
        b'{"keys": [1, null, []]}',
        b'{"keys": [], "keys": []}',
        json.dumps({"keys": [jwk(PRIVATE, "one")] * 101}).encode(),
        json.dumps({"keys": [jwk(PRIVATE, "one"), jwk(rsa_key(), "one")]}).encode(),
        json.dumps({"keys": [jwk(ec_key(), "one")]}).encode(),
        json.dumps({"keys": [jwk(rsa.generate_private_key(65537, 1024), "one")]}).encode(),
        json.dumps({"keys": [jwk(rsa.generate_private_key(3, 2048), "one")]}).encode(),
        json.dumps({"keys": [{"kty": "oct", "kid": "one", "k": b64(b"x" * 32)}]}).encode(),
        published(kid=None),
        published(kid=""),
        published(kid=["one"]),
        published(use="enc"),
        published(alg="RS512"),
        published(key_ops=["encrypt"]),
        published(key_ops="verify"),
        published(n=""),
        published(n=7),
        published(e="!"),
        published(d="AQ"),
        published(crv="P-256"),
    ],
)
def test_what_is_no_key_for_the_algorithm_is_none(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        jwks.read(content, "RS256")


def test_keys_of_other_kinds_disturb_nobody() -> None:
    content = json.dumps({"keys": [jwk(ec_key(), "one"), jwk(PRIVATE, "one"), jwk(PRIVATE, "two", use="enc")]})

    assert list(jwks.read(content.encode(), "RS256")) == ["one"]
    assert list(jwks.read(content.encode(), "ES256")) == ["one"]


@given(st.binary(max_size=60))
def test_base64url_has_one_spelling(content: bytes) -> None:
    assert strict.unpadded(b64(content)) == content
    with pytest.raises(ValueError, match=r"."):
        strict.unpadded(b64(content) + "=")


@given(st.text(max_size=200))
def test_what_is_no_token_is_refused_and_nothing_else_happens(text: str) -> None:
    with pytest.raises(TokenRefused, match="the token is not valid"):
        tokens.read(text, {"corp": issuer()}, lambda _: {}, NOW)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[issuers", "is no TOML"),
        (ENTRY.replace("corp", "Corp"), "issuers.Corp"),
        (ENTRY.replace("https://login.example/realm", "login.example"), "issuers.corp.url"),
        (ENTRY.replace("RS256", "HS256"), "issuers.corp.algorithm"),
        (ENTRY.replace("RS256", "none"), "issuers.corp.algorithm"),
        (ENTRY.replace('"aimass"', '""'), "issuers.corp.audience"),
        (ENTRY.replace("acme", "system"), "system is the installation's own"),
        (ENTRY + "leeway = 61", "issuers.corp.leeway"),
        (ENTRY + "longest = 1e9", "issuers.corp.longest"),
        (ENTRY + "leway = 1", "issuers.corp.leway"),
        (ENTRY + '[issuers.corp.groups]\na = ["No Role"]', "issuers.corp.groups.a"),
        (ENTRY + ENTRY.replace("corp", "twin"), "another issuer has the same url and audience"),
    ],
)
def test_a_file_that_is_no_table_says_why(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "issuers.toml"
    file.write_text(text)

    with pytest.raises(ConfigError, match=says):
        IssuerTable(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"AIMASS_GATEWAY_ISSUERS_FILE: .*none.toml cannot be read"):
        IssuerTable(tmp_path / "none.toml")


def test_a_file_is_taken_over_when_it_changes_and_is_a_table(tmp_path: Path) -> None:
    file = tmp_path / "issuers.toml"
    file.write_text(ENTRY)
    table = IssuerTable(file)
    seen = [table.look()]
    for text in (ENTRY.replace("acme", "another"), "[issuers"):
        file.write_text(text)
        seen.append(table.look())

    assert (seen, table.issuers["corp"].tenant) == ([False, True, False], "another")
