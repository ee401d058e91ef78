"""The secrets of a deployment: made once, kept, readable for one group only, and never printed."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from deploy import init
from deploy.authority import Authority, Issued
from services import SERVICES
from services.data.feature_views.online import scripts
from services.kit.tls import Credentials
from tests.support.server import ROOT


@pytest.fixture
def made(tmp_path: Path) -> Path:
    init.make(tmp_path / "secrets", group=os.getgid())
    return tmp_path / "secrets"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_a_second_run_changes_nothing(made: Path) -> None:
    before = contents(made)
    init.make(made, group=os.getgid())

    assert contents(made) == before


def test_what_is_missing_is_made_again_and_the_rest_stays(made: Path) -> None:
    before = contents(made)
    (made / "registry/database_url").unlink()
    init.make(made, group=os.getgid())

    assert contents(made) == before, "the password is the one that the database has"


def test_a_renewal_makes_certificates_and_keys_of_the_same_authority(made: Path) -> None:
    before = contents(made)
    init.make(made, renew=True, group=os.getgid())
    after = contents(made)
    changed = {name for name in after if after[name] != before[name]}

    assert changed == {name for name in after if name.endswith(("/cert.pem", "/key.pem", "/keystore.pem"))}
    authority = certificate(made / "authority/ca.pem")
    certificate(made / "registry/tls/cert.pem").verify_directly_issued_by(authority)


def put(made: Path, folder: str, issued: Issued) -> None:
    (made / folder / "cert.pem").write_bytes(issued.cert)
    (made / folder / "key.pem").write_bytes(issued.key)


def test_a_certificate_that_ends_soon_is_made_anew_and_those_of_others_stay(made: Path) -> None:
    ours = Authority.load(*((made / "authority" / name).read_bytes() for name in ("ca.key", "ca.pem")))
    soon = timedelta(days=29)
    put(made, "kafka/tls", ours.issue(["kafka"], lifetime=soon))
    put(made, "data/tls", ours.issue(["data"], lifetime=timedelta(days=31)))
    put(made, "gateway/public", Authority.new().issue_public(["example.org"], soon))
    before = contents(made)
    init.make(made, group=os.getgid())
    after = contents(made)

    assert {name for name in after if after[name] != before[name]} == {
        f"kafka/tls/{name}.pem" for name in ("cert", "key", "keystore")
    }
    left = certificate(made / "kafka/tls/cert.pem").not_valid_after_utc - datetime.now(UTC)
    assert left > timedelta(days=80)


def hosts(made: Path) -> set[str]:
    names = certificate(made / "gateway/public/cert.pem").extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    return {str(name.value) for name in names.value}


@pytest.mark.parametrize("renew", [True, False])
def test_a_gateways_new_certificate_is_for_all_that_the_old_one_was_for(made: Path, renew: bool) -> None:
    ours = Authority.load(*((made / "authority" / name).read_bytes() for name in ("ca.key", "ca.pem")))
    put(made, "gateway/public", ours.issue_public(["gateway", "ai.example.org", "10.0.0.7"], timedelta(days=29)))
    init.make(made, renew=renew, group=os.getgid())

    assert hosts(made) == {"gateway", "localhost", "127.0.0.1", "ai.example.org", "10.0.0.7"}
    assert certificate(made / "gateway/public/cert.pem").not_valid_after_utc > datetime.now(UTC) + timedelta(days=80)


def test_a_host_that_is_named_later_is_added_once(made: Path) -> None:
    for host in ("ai.example.org", "2001:db8:0::7"):
        init.make(made, group=os.getgid(), hosts=[host])
    before = contents(made)
    init.make(made, group=os.getgid(), hosts=["2001:db8:0::7"])

    assert hosts(made) == {"gateway", "localhost", "127.0.0.1", "ai.example.org", "2001:db8::7"}
    assert contents(made) == before


def test_nobody_but_owner_and_group_reads_anything_and_the_authoritys_key_is_the_owners(made: Path) -> None:
    modes = {str(path.relative_to(made)): path.stat().st_mode & 0o777 for path in made.rglob("*")}

    assert not [name for name, mode in modes.items() if mode & 0o027]
    assert modes["authority/ca.key"] == 0o600
    assert {mode for name, mode in modes.items() if name.startswith("words/")} == {0o600}
    assert all((made / name).stat().st_gid == os.getgid() for name in modes)


def test_a_service_is_named_by_its_certificate_and_the_public_one_says_nothing_inside(made: Path) -> None:
    def alternatives(path: Path) -> x509.SubjectAlternativeName:
        return certificate(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    inside = alternatives(made / "trainer/tls/cert.pem")
    outside = alternatives(made / "gateway/public/cert.pem")

    assert inside.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://aimass/trainer"]
    assert "trainer" in inside.get_values_for_type(x509.DNSName)
    assert outside.get_values_for_type(x509.UniformResourceIdentifier) == []


def test_services_of_one_process_share_a_certificate_that_is_renewed_with_the_others(made: Path) -> None:
    init.make(made, group=os.getgid(), groups=["bus,logs"])
    folder = made / "logs+bus/tls"
    first = certificate(folder / "cert.pem")
    names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    init.make(made, group=os.getgid(), renew=True)

    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://aimass/logs", "spiffe://aimass/bus"]
    assert certificate(folder / "cert.pem").serial_number != first.serial_number
    assert Credentials(folder).names == {"logs", "bus"}


def test_a_service_that_there_is_not_gets_no_certificate(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such service: log; there are gateway"):
        init.make(tmp_path / "s", group=os.getgid(), groups=["log,bus"])


def test_every_service_has_what_its_settings_name_and_no_word_of_another(made: Path) -> None:
    files = contents(made)
    for name in SERVICES:
        assert files[f"{name}/database_url"].startswith(f"postgresql+psycopg://{name}:".encode())
        assert files[f"{name}/cache_url"].startswith(f"rediss://{name}:".encode())
        own = files[f"words/postgres_{name}"]
        assert {other for other in files if own in files[other]} == {
            f"words/postgres_{name}", f"{name}/database_url", "postgres/init.sql",
        }  # fmt: skip


def test_gateways_seal_with_the_key_of_the_log_centres_that_is_there_already(made: Path) -> None:
    (made / "gateway/secrets_key").unlink()
    init.make(made, group=os.getgid())

    files = contents(made)
    assert files["gateway/secrets_key"] == files["logs/secrets_key"]


def test_features_have_a_database_of_redis_of_their_own_which_only_the_data_service_knows(made: Path) -> None:
    files = contents(made)
    cache, features = files["data/cache_url"].decode(), files["data/features_url"].decode()

    assert [name for name in files if name.endswith("/features_url")] == ["data/features_url"]
    assert (cache.rpartition("/")[0], cache[-1]) == (features.rpartition("/")[0], "0")
    assert features.endswith("/1")
    user = next(line for line in files["redis/users.acl"].decode().splitlines() if line.startswith("user data "))
    assert "+select" in user
    assert all(f"+evalsha|{digest}" in user for digest in scripts.HASHES.values())


def test_a_stack_of_an_earlier_version_gets_the_url_and_what_its_user_may_ask_of_redis(made: Path) -> None:
    before = contents(made)
    (made / "data/features_url").unlink()
    acl = made / "redis/users.acl"
    acl.write_text(acl.read_text().replace(f" {scripts.permissions()}", ""))
    init.make(made, group=os.getgid())

    assert contents(made) == before
    assert acl.stat().st_mode & 0o777 == 0o640


def test_redis_sees_digests_only(made: Path) -> None:
    users = (made / "redis/users.acl").read_bytes()

    assert b"user registry on #" in users
    assert not [word for word in (made / "words").iterdir() if word.read_bytes() in users]


def test_nothing_secret_is_printed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploy.init", str(tmp_path / "s"), "--host", "gateway.example"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout == f"the secrets are in {tmp_path / 's'}\n"
    assert done.stderr == ""


def test_a_folder_that_cannot_be_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "deploy.init", str(tmp_path / "file/s")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1
    assert "not a directory" in done.stderr
    assert "Traceback" not in done.stderr
