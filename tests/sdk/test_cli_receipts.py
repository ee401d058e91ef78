"""Receipts that the command line keeps and verifies; what gateways sign is tested there."""

import asyncio
import base64
import json
import resource
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner, Result

from aimass.cli.calling import kept
from aimass.cli.main import build
from aimass.receipts import Receipt
from aimass.signing import digest
from services.gateway.receipts import Receipts
from services.gateway.signatures import Head
from services.kit.secrets import Vault
from tests.sdk.conftest import Door

ASKED, ANSWERED = b'{"model": "late"}', b'{"model": "late", "etag": "1"}'


@pytest.fixture
def signer(tmp_path: Path) -> Receipts:
    return Receipts(Vault(tmp_path / "home"), lambda: 1_800_000_000.0)


@pytest.fixture
def file(tmp_path: Path, signer: Receipts) -> Path:
    """Two receipts that hold."""
    path = tmp_path / "kept"
    for number in (1, 2):
        head = Head("POST", "models.example", "/v1/models", "", {"content-digest": digest(ASKED)})
        made = asyncio.run(_signed(signer, head, number))
        headers = {name.decode(): value.decode() for name, value in made}
        parameters = headers["signature-input"].removeprefix("receipt=")
        values = {"@status": "200", "content-digest": headers["content-digest"], "x-request-id": f"r-{number}"}
        values |= {
            "@method;req": "POST",
            "@authority;req": "models.example",
            "@path;req": "/v1/models",
            "@query;req": "?",
        }
        values |= {"@query;req": "?", "content-digest;req": digest(ASKED)}
        signature = headers["signature"].removeprefix("receipt=:").removesuffix(":")
        kept(path, [])(Receipt(values, parameters, signature), ASKED, ANSWERED)
    return path


async def _signed(signer: Receipts, head: Head, number: int) -> list[tuple[bytes, bytes]]:
    receipt = await signer.asked(head, ASKED)
    return await receipt.headers(200, [(b"x-request-id", b"r-%d" % number)], ANSWERED)


def verified(*arguments: str, **env: str) -> Result:
    return CliRunner().invoke(build(), ["verify", *arguments, "-o", "json"], env=env)


def public(signer: Receipts) -> str:
    return base64.b64encode(signer.public_key).decode()


def test_those_that_hold_are_shown_and_nobody_is_asked(file: Path, signer: Receipts) -> None:
    shown = verified(str(file), "--key", public(signer))

    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)["receipts"]
    assert [(one["holds"], one["request_id"], one["request"]) for one in found] == [
        (True, "r-1", "POST /v1/models"),
        (True, "r-2", "POST /v1/models"),
    ]


def test_the_key_may_lie_in_a_file_or_be_asked_for(file: Path, signer: Receipts, tmp_path: Path, door: Door) -> None:
    path = tmp_path / "public"
    path.write_text(f"{public(signer)}\n")
    door.say({"public_key": public(signer)})

    assert verified(str(file), "--key", str(path)).exit_code == 0
    assert verified(str(file), AIMASS_URL=door.url, AIMASS_KEY="k").exit_code == 0
    assert [asked.path for asked in door.asked] == ["/v1/receipt-key"]


@pytest.mark.parametrize("part", ["request", "answer"])
def test_one_with_another_body_does_not_hold(file: Path, signer: Receipts, part: str) -> None:
    first, second = file.read_text().splitlines()
    changed = json.loads(second) | {part: base64.b64encode(b"{}").decode()}
    file.write_text(f"{first}\n{json.dumps(changed)}\n")
    shown = verified(str(file), "--key", public(signer))

    assert shown.exit_code == 1
    assert "1 of 2 receipts are not valid" in str(shown.exception)
    found = json.loads(shown.stdout)["receipts"]
    assert [one["holds"] for one in found] == [True, False]
    assert part in found[1]["reason"]


def test_none_holds_with_another_key(file: Path) -> None:
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()

    assert "2 of 2" in str(verified(str(file), "--key", base64.b64encode(other).decode()).exception)


@pytest.mark.parametrize("key", ["", "nothing", "AAAA", "x" * 5000, "schlüssel"])
def test_what_is_no_key_is_refused(file: Path, key: str) -> None:
    shown = verified(str(file), "--key", key, AIMASS_HOME=str(file.parent / "nowhere"))

    assert shown.exit_code == 1
    assert getattr(shown.exception, "code", "") in ("invalid_value", "no_key")


@pytest.mark.parametrize(
    "line", ["", "[]", "{", "[" * 100_000, '{"receipt": {}, "request": "", "answer": ""}', '{"receipt": 1}']
)
def test_a_line_that_is_no_receipt_is_named(file: Path, signer: Receipts, line: Any) -> None:
    file.write_text(f"{file.read_text()}{line}\n")

    assert "line 3" in str(verified(str(file), "--key", public(signer)).exception)


def test_a_file_of_no_text_is_refused(file: Path, signer: Receipts) -> None:
    file.write_bytes(file.read_bytes() + b"\xff\xfe\n")

    assert getattr(verified(str(file), "--key", public(signer)).exception, "code", "") == "receipt_invalid"


def test_to_verify_adds_nothing_to_what_is_verified(file: Path, signer: Receipts, door: Door) -> None:
    door.say({"public_key": public(signer)}, signature_input='receipt=("@status")', signature="receipt=:AA==:")
    before = file.read_text()

    assert verified(str(file), AIMASS_URL=door.url, AIMASS_KEY="k", AIMASS_RECEIPTS=str(file)).exit_code == 0
    assert file.read_text() == before


def test_nothing_is_asked_whose_receipt_could_not_be_kept(tmp_path: Path, door: Door) -> None:
    arguments = ["--receipts", str(tmp_path / "nowhere" / "kept"), "models", "create", "late"]
    shown = CliRunner().invoke(build(), arguments, env={"AIMASS_URL": door.url, "AIMASS_KEY": "k"})

    assert getattr(shown.exception, "code", "") == "invalid_value"
    assert door.asked == []


def receipted(door: Door, receipts: str) -> Result:
    """A command whose answer has a receipt."""
    door.say({"model": "late"}, signature_input='receipt=("x-request-id")', signature="receipt=:AA==:")
    env = {"AIMASS_URL": door.url, "AIMASS_KEY": "k"}
    return CliRunner().invoke(build(), ["--receipts", receipts, "models", "create", "late", "-o", "json"], env=env)


def test_an_answer_whose_receipt_finds_no_space_is_printed_and_it_is_said(door: Door, tmp_path: Path) -> None:
    shown, well = receipted(door, "/dev/full"), receipted(door, str(tmp_path / "kept"))

    assert (json.loads(shown.stdout)["model"], shown.exit_code) == ("late", 5)
    assert "receipt_lost: the receipt of request r-1 could not be saved in /dev/full: No space left" in shown.stderr
    assert (well.stderr, well.exit_code) == ("", 0)


def test_half_a_receipt_is_taken_back(file: Path, signer: Receipts) -> None:
    before, lost = file.read_bytes(), list[str]()
    bounds = resource.getrlimit(resource.RLIMIT_FSIZE)
    receipt = Receipt.from_json(json.dumps(json.loads(before.splitlines()[0])["receipt"]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, bounds[1]))
    try:
        kept(file, lost)(receipt, ASKED, ANSWERED)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, bounds)

    assert (file.read_bytes(), lost) == (before, ["r-1"])
    assert verified(str(file), "--key", public(signer)).exit_code == 0


def test_a_file_without_receipts_proves_nothing(tmp_path: Path, signer: Receipts) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    shown = verified(str(empty), "--key", public(signer))

    assert (shown.exit_code, json.loads(shown.stdout)) == (1, {"receipts": []})
    assert "has no receipts" in str(shown.exception)


def test_what_is_kept_is_for_its_owner_only(file: Path) -> None:
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
