"""Keys that are for client certificates: who has one needs no secret, and who has the secret alone is nobody."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from grpc import aio

from aimass import AsyncClient, Failure
from aimass.v1 import access_pb2
from aimass.v1.access_pb2_grpc import AccessStub
from deploy.authority import Authority
from services.kit.config import ConfigError
from services.kit.status import failure_of
from tests.gateway.serving import serving
from tests.gateway.test_repeats import ROW
from tests.support.house import house, until
from tests.support.models import logistic

pytestmark = pytest.mark.asyncio(loop_scope="module")
URI = "spiffe://acme/scorer"
SUBJECTS = [f"uri:{URI}"]
REFUSED = (401, "unauthenticated", "the key is not valid")
DOORS = {
    "AIMASS_GATEWAY_HTTP_PORT": "0",
    "AIMASS_GATEWAY_GRPC_PORT": "0",
    "AIMASS_GATEWAY_CERTIFIED_GRPC_PORT": "0",
    "AIMASS_GATEWAY_DRAIN_ACCEPT_SECONDS": "0",
    "AIMASS_GATEWAY_DRAIN_SILENT_SECONDS": "0.1",
    "AIMASS_GATEWAY_RATE": "100000",
    "AIMASS_GATEWAY_BURST": "100000",
}


class People:
    """An authority of clients."""

    def __init__(self) -> None:
        self._key = generate_private_key(SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "people")])
        self.pem = self._sign(self._name, self._key, timedelta(days=1), [], True).public_bytes(Encoding.PEM)

    def _sign(self, subject: Any, key: Any, life: timedelta, names: list[Any], ca: bool, purpose: Any = None) -> Any:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, now + life) - timedelta(minutes=5))
            .not_valid_after(now + life)
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if purpose:
            builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        return builder.sign(self._key, SHA256())

    def issue(
        self,
        folder: Path,
        uri: str = URI,
        life: timedelta = timedelta(hours=1),
        purpose: Any = ExtendedKeyUsageOID.CLIENT_AUTH,
    ) -> Path:
        """A PEM file with a client's certificate and its key."""
        key = generate_private_key(SECP256R1())
        names = [
            x509.UniformResourceIdentifier(uri),
            x509.DNSName("Scorer.acme.example"),
            x509.RFC822Name("ann@acme.example"),
        ]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "scorer")])
        found = self._sign(subject, key, life, names, False, purpose)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file = folder / f"{found.serial_number}.pem"
        file.write_bytes(private + found.public_bytes(Encoding.PEM))
        return file


class Door:
    """A gateway that takes client certificates."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.own, self.people = folder, Authority.new(), People()
        issued = self.own.issue_public(["localhost", "127.0.0.1"])
        files = {"cert": issued.cert, "key": issued.key, "ca": self.own.pem, "clients": self.people.pem}
        for name, content in files.items():
            (folder / f"{name}.pem").write_bytes(content)
        self.env = DOORS | {
            "AIMASS_GATEWAY_TLS_CERT": str(folder / "cert.pem"),
            "AIMASS_GATEWAY_TLS_KEY": str(folder / "key.pem"),
            "AIMASS_GATEWAY_CLIENT_CA": str(folder / "clients.pem"),
        }

    def open(self, home: Path) -> None:
        self.doors: dict[str, str] = json.loads((home / "doors.json").read_text())
        self.admin = (home / "admin-key").read_text().strip()

    def client(self, authorization: str, certificate: Path | None = None, **headers: str) -> httpx2.AsyncClient:
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        if certificate:
            context.load_cert_chain(certificate)
        own = {"authorization": authorization} if authorization else {}
        return httpx2.AsyncClient(base_url=self.doors["http"], verify=context, headers=own | headers, timeout=10)

    async def ask(self, verb: str, path: str, body: Any = None, **headers: str) -> Any:
        async with self.client(f"Bearer {self.admin}", None, **headers) as client:
            return await client.request(verb, path, json=body)

    async def key(self, **wanted: Any) -> tuple[str, str]:
        """A key's name and secret."""
        made = (await self.ask("POST", "/v1/api-keys", {"certificates": SUBJECTS, **wanted})).json()
        return made["api_key"]["api_key"], made["secret"]

    async def who(self, authorization: str, certificate: Path | None = None, **headers: str) -> Any:
        async with self.client(authorization, certificate, **headers) as client:
            answer = await client.get("/v1/whoami")
            document = answer.json()
            return (
                document["principal"]
                if answer.status_code == 200
                else (answer.status_code, document["code"], document["detail"])
            )

    async def over_grpc(self, door: str, authorization: str, certificate: Path | None = None) -> str:
        pair = (certificate.read_bytes(), certificate.read_bytes()) if certificate else (None, None)
        credentials = grpc.ssl_channel_credentials(self.own.pem, *pair)
        async with aio.secure_channel(self.doors[door], credentials) as channel:
            stub: Any = AccessStub(channel)
            metadata = (("authorization", authorization),)
            try:
                principal = await stub.WhoAmI(access_pb2.WhoAmIRequest(), timeout=5, metadata=metadata)
            except aio.AioRpcError as error:
                return failure_of(error, "gateway").code.text
            return str(principal.principal)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    found, home = Door(tmp_path_factory.mktemp("tls")), tmp_path_factory.mktemp("home")
    async with house(home, "gateway", **found.env):
        found.open(home)
        yield found


@pytest.fixture
def ours(door: Door) -> Path:
    return door.people.issue(door.folder)


def fingerprint(file: Path) -> str:
    return x509.load_pem_x509_certificate(file.read_bytes()).fingerprint(SHA256()).hex()


@pytest.mark.parametrize("kind", ["uri", "dns", "email", "sha256"])
async def test_a_certificate_speaks_for_a_key_that_names_its_subject(door: Door, ours: Path, kind: str) -> None:
    subjects = {"uri": URI, "dns": "scorer.acme.example", "email": "ann@acme.example", "sha256": fingerprint(ours)}
    name, secret = await door.key(certificates=["uri:other", f"{kind}:{subjects[kind]}"])

    assert await door.who(f"Certificate {name}", ours) == f"key:{name}"
    assert await door.who(f"Bearer {secret}", ours) == f"key:{name}"


async def test_without_its_certificate_a_key_is_told_as_none(door: Door) -> None:
    name, secret = await door.key()
    other = door.people.issue(door.folder, "spiffe://acme/other")
    plain, _ = await door.key(certificates=[])
    tried = [
        await door.who(f"Certificate {name}"),
        await door.who(f"Bearer {secret}"),
        await door.who(f"Bearer {secret}", None, **{"x-project": "No Name"}),
        await door.who(f"Certificate {name}", other),
        await door.who(f"Bearer {secret}", other),
        await door.who(f"Certificate {plain}", other),
        await door.who("Certificate zzzzzzzz", other),
        await door.who("Certificate ../../etc", other),
    ]

    assert set(tried) == {REFUSED}


async def test_a_certificate_alone_is_nobody_and_hinders_nobody(door: Door, ours: Path) -> None:
    assert (await door.who("", ours))[:2] == (401, "unauthenticated")
    assert await door.who(f"Bearer {door.admin}", ours) == f"key:{door.admin[4:12]}"
    assert await door.who(f"Bearer {door.admin}") == f"key:{door.admin[4:12]}"


@pytest.mark.parametrize("what", ["expired", "of another authority", "for servers"])
async def test_a_certificate_that_is_not_taken_has_no_connection(door: Door, what: str) -> None:
    name, _ = await door.key()
    shown = {
        "expired": lambda: door.people.issue(door.folder, life=timedelta(minutes=-1)),
        "of another authority": lambda: People().issue(door.folder),
        "for servers": lambda: door.people.issue(door.folder, purpose=ExtendedKeyUsageOID.SERVER_AUTH),
    }[what]()

    with pytest.raises((httpx2.TransportError, ssl.SSLError)):
        await door.who(f"Certificate {name}", shown)
    assert await door.over_grpc("grpc_certified", f"Certificate {name}", shown) == "unavailable"
    assert await door.who(f"Bearer {door.admin}") == f"key:{door.admin[4:12]}"


async def test_over_grpc_there_is_a_door_for_certificates(door: Door, ours: Path) -> None:
    name, secret = await door.key()
    other = door.people.issue(door.folder, "spiffe://acme/other")

    assert await door.over_grpc("grpc_certified", f"Certificate {name}", ours) == f"key:{name}"
    assert await door.over_grpc("grpc_certified", f"Bearer {secret}", ours) == f"key:{name}"
    assert await door.over_grpc("grpc_certified", f"Bearer {door.admin}", ours) == f"key:{door.admin[4:12]}"
    assert await door.over_grpc("grpc_certified", f"Certificate {name}", other) == "unauthenticated"
    assert await door.over_grpc("grpc_certified", f"Bearer {door.admin}") == "unavailable"
    assert await door.over_grpc("grpc", f"Certificate {name}", ours) == "unauthenticated"
    assert await door.over_grpc("grpc", f"Bearer {door.admin}") == f"key:{door.admin[4:12]}"


async def test_a_connection_that_is_open_is_refused_once_the_key_is_for_others_or_revoked(
    door: Door, ours: Path
) -> None:
    name, _ = await door.key()
    async with door.client(f"Certificate {name}", ours) as client:
        seen = [(await client.get("/v1/whoami")).status_code]
        await door.ask("PATCH", f"/v1/api-keys/{name}", {"certificates": ["uri:other"]}, **{"if-match": "*"})
        seen.append((await client.get("/v1/whoami")).status_code)
        await door.ask("PATCH", f"/v1/api-keys/{name}", {"certificates": SUBJECTS}, **{"if-match": "*"})
        seen.append((await client.get("/v1/whoami")).status_code)
        await door.ask("DELETE", f"/v1/api-keys/{name}")
        seen.append((await client.get("/v1/whoami")).status_code)

    assert seen == [200, 401, 200, 401]


async def test_a_certificate_that_ends_while_its_connection_lasts_is_refused(door: Door) -> None:
    name, _ = await door.key()
    short = door.people.issue(door.folder, life=timedelta(seconds=3))
    async with door.client(f"Certificate {name}", short) as client:
        first = (await client.get("/v1/whoami")).status_code
        await asyncio.sleep(3.1)
        second = (await client.get("/v1/whoami")).status_code

    assert (first, second) == (200, 401)


async def test_what_a_key_may_holds_for_its_certificates(door: Door, ours: Path) -> None:
    name, _ = await door.key(bindings_only=True)
    async with door.client(f"Certificate {name}", ours) as client:
        seen = [(await client.get("/v1/roles")).status_code]
        bound = {"binding": f"of-{name}", "role": "admin", "principal": f"key:{name}"}
        assert (await door.ask("POST", "/v1/bindings", bound)).status_code == 200
        seen.append((await client.get("/v1/roles")).status_code)
        made = (await client.post("/v1/api-keys", json={})).json()["api_key"]
        loose = await door.ask("POST", "/v1/api-keys", {"certificates": ["uri:other"]})
        tried = await client.post("/v1/api-keys", json={"certificates": ["uri:other"]})

    assert seen == [403, 200]
    assert made["certificates"] == SUBJECTS
    assert (loose.status_code, tried.status_code) == (200, 403)


@pytest.mark.parametrize(
    "subject", ["URI:x", "uri:", "dns:UPPER.example", "sha256:abc", "cn:ann", "email:a b", "uri:a\nb"]
)
async def test_what_is_no_subject_is_named(door: Door, subject: str) -> None:
    answer = await door.ask("POST", "/v1/api-keys", {"certificates": [subject]})

    assert (answer.status_code, answer.json()["violations"][0]["pointer"]) == (422, "/certificates/0")


async def test_the_client_shows_a_certificate(door: Door, ours: Path) -> None:
    name, secret = await door.key()
    url, ca = door.doors["http"], str(door.folder / "ca.pem")
    for key in (name, secret):
        async with AsyncClient(url, key, ca=ca, certificate=str(ours)) as client:
            assert (await client.access.who_am_i()).principal == f"key:{name}"
    with pytest.raises(Failure, match="not a PEM file of a certificate and its key"):
        AsyncClient(url, name, ca=ca, certificate=ca)


async def test_a_head_that_came_before_is_nothing_on_a_connection_without_the_certificate(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    door = Door(tmp_path / "tls")
    async with serving(tmp_path / "home", **door.env) as app:
        await app.serve("late", logistic(4, 1))
        door.open(tmp_path / "home")
        name, secret = await door.key(permissions=["models.infer"])
        ours = door.people.issue(door.folder)
        for authorization in (f"Certificate {name}", f"Bearer {secret}"):
            seen = []
            for certificate in (ours, None, ours):
                async with door.client(authorization, certificate) as client:
                    seen += [(await client.post("/v2/models/late/infer", json=ROW)).status_code for _ in range(3)]
            assert seen == [200] * 3 + [401] * 3 + [200] * 3


async def test_another_authority_is_taken_without_a_restart(door: Door, ours: Path) -> None:
    name, _ = await door.key()
    assert await door.who(f"Certificate {name}", ours) == f"key:{name}"
    others = People()
    (door.folder / "clients.pem").write_bytes(others.pem)
    theirs = others.issue(door.folder)

    async def taken() -> bool:
        try:
            return bool(await door.who(f"Certificate {name}", theirs) == f"key:{name}")
        except (httpx2.TransportError, ssl.SSLError):
            return False

    await until(taken)
    assert await door.over_grpc("grpc_certified", f"Certificate {name}", theirs) == f"key:{name}"
    with pytest.raises((httpx2.TransportError, ssl.SSLError)):
        await door.who(f"Certificate {name}", ours)
    assert await door.over_grpc("grpc_certified", f"Certificate {name}", ours) == "unavailable"
    (door.folder / "clients.pem").write_bytes(b"no certificate")
    assert await door.who(f"Certificate {name}", theirs) == f"key:{name}"
    (door.folder / "clients.pem").write_bytes(door.people.pem)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"AIMASS_GATEWAY_CLIENT_CA": "clients.pem"}, "CLIENT_CA: needs AIMASS_GATEWAY_TLS_CERT"),
        ({"AIMASS_GATEWAY_CERTIFIED_GRPC_PORT": "0"}, "CERTIFIED_GRPC_PORT: needs AIMASS_GATEWAY_CLIENT_CA"),
    ],
)
async def test_settings_that_do_not_fit_stop_the_start(tmp_path: Path, more: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        async with house(tmp_path, "gateway", AIMASS_GATEWAY_HTTP_PORT="0", AIMASS_GATEWAY_GRPC_PORT="0", **more):
            pass
