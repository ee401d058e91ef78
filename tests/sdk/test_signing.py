"""Signatures that the client makes; whether the gateway takes them is tested there."""

import base64
import hmac
import re
from pathlib import Path

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from aimass import AsyncClient, Client, Failure, Signer
from aimass.signing import SigningAuth, digest
from tests.sdk.conftest import Asked, Door

SECRET = "aimsig_abcdefgh_" + "x" * 43


def text_of(asked: Asked, door: Door) -> bytes:
    """What the standard says that was signed."""
    parameters = asked.headers["signature-input"].partition("=")[2]
    host = door.url.removeprefix("http://")
    query = "&".join(f"{name}={value}" for name, values in asked.query.items() for value in values)
    values = {"@method": asked.method, "@authority": host, "@path": asked.path, "@query": f"?{query}"}
    covered = re.findall(r'"([^"]*)"', parameters.partition(")")[0])
    lines = [f'"{name}": {values.get(name) or asked.headers[name]}' for name in covered]
    return "\n".join([*lines, f'"@signature-params": {parameters}']).encode()


def right(asked: Asked, door: Door) -> bool:
    made = hmac.digest(SECRET.encode(), text_of(asked, door), "sha256")
    return asked.headers["signature"] == f"aimass=:{base64.b64encode(made).decode()}:"


async def test_everything_is_signed_and_no_key_is_sent(door: Door) -> None:
    door.say({"models": []})
    with Client(door.url, signing=SECRET, project="lab") as client:
        client.models.list_models(page_size=3)
        client.models.create_model(model="late", description="text")
    async with AsyncClient(door.url, signing=SECRET) as other:
        await other.models.list_models()

    assert [right(asked, door) for asked in door.asked] == [True] * 3
    assert not any("authorization" in asked.headers for asked in door.asked)
    sent = door.asked[1]
    assert sent.headers["content-digest"] == digest(sent.body)
    for name in ("content-digest", "content-type", "idempotency-key", "x-project"):
        assert f'"{name}"' in sent.headers["signature-input"]


def test_each_try_has_a_signature_of_its_own(door: Door) -> None:
    door.refuse(503, "unavailable").say({"model": "late"})
    with Client(door.url, signing=SECRET) as client:
        client.models.get_model(model="late")

    assert [right(asked, door) for asked in door.asked] == [True, True]
    assert len({asked.headers["signature"] for asked in door.asked}) == 2


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Models.example:443/v1/models", "models.example"),
        ("http://models.example:80/v1/models", "models.example"),
        ("https://models.example:80/v1/models", "models.example:80"),
    ],
)
def test_the_host_is_signed_without_the_port_of_its_scheme(url: str, host: str) -> None:
    request = httpx2.Request("GET", url)
    signed = next(SigningAuth(Signer.of(SECRET)).auth_flow(request))
    asked = Asked("GET", "/v1/models", {}, dict(signed.headers), b"")

    assert right(asked, Door(url=f"http://{host}"))


def test_a_key_of_ones_own_is_read_from_its_file(tmp_path: Path) -> None:
    key, file = Ed25519PrivateKey.generate(), tmp_path / "private.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    assert Signer.ed25519("abcdefgh", file).algorithm == "ed25519"


@pytest.mark.parametrize("secret", ["", "aim_abcdefgh_" + "x" * 43, SECRET + "x"])
def test_a_secret_of_another_kind_is_refused(secret: str) -> None:
    with pytest.raises(Failure, match="aimsig_"):
        Signer.of(secret)


@pytest.mark.parametrize("kind", ["no key", "locked", "another curve"])
def test_a_private_key_of_another_kind_is_refused(kind: str) -> None:
    content, plain = b"no key", NoEncryption()
    if kind == "locked":
        locked = BestAvailableEncryption(b"password")
        content = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)
    elif kind == "another curve":
        content = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, plain)
    with pytest.raises(Failure, match="private key"):
        Signer.ed25519("abcdefgh", content)


def test_a_signer_is_named_by_a_secret_a_file_or_a_key_and_its_file(tmp_path: Path) -> None:
    private, plain = tmp_path / "private.pem", tmp_path / "secret"
    private.write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    plain.write_text(f"{SECRET}\n")

    found = [Signer.named(text) for text in (SECRET, str(plain), f"abcdefgh:{private}")]
    assert [(one.key_id, one.algorithm) for one in found] == [
        ("abcdefgh", "hmac-sha256"),
        ("abcdefgh", "hmac-sha256"),
        ("abcdefgh", "ed25519"),
    ]


@pytest.mark.parametrize("text", ["aimsig_abcdefgh_short", "nowhere", "abcdefgh:nowhere", "binary"])
def test_what_names_no_signer_is_refused_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("binary").write_bytes(b"\xff\xfe")
    with pytest.raises(Failure, match="invalid_value") as caught:
        Signer.named(text)

    assert text not in str(caught.value)


def test_the_environment_says_how_to_sign_where_no_key_is_given(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIMASS_SIGNING", SECRET)
    monkeypatch.setenv("AIMASS_URL", door.url)
    door.say({"models": []})
    with Client() as client:
        client.models.list_models()
    with Client(door.url, "aim_key") as client:
        client.models.list_models()

    assert right(door.asked[0], door)
    assert "authorization" not in door.asked[0].headers
    assert "signature" not in door.asked[1].headers
    assert door.asked[1].headers["authorization"] == "Bearer aim_key"
