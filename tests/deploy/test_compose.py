"""What the stack promises of every container, read from what compose makes of the file."""

import ast
import json
import re
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

from deploy.servers import PORTS
from tests.support.images import composes
from tests.support.server import ROOT

FILE = ROOT / "deploy/compose.yaml"
OPEN_ROOTS = {"kafka", "triton"}  # decision 25 says why
OURS = ("gateway", "data", "trainer", "registry", "inference", "logs")


@cache
def described(*profiles: str) -> dict[str, Any]:
    """The services of profiles; a visible skip without compose."""
    if not composes():
        pytest.skip("no docker compose")
    chosen = [part for profile in profiles for part in ("--profile", profile)]
    command = ["docker", "compose", "-f", str(FILE), *chosen, "config", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout)["services"])


def whole() -> dict[str, Any]:
    return described("core", "far", "observability")


@pytest.mark.far
def test_every_container_is_held_tightly() -> None:
    for name, service in whole().items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service.get("read_only", False) == (name not in OPEN_ROOTS), name
        assert not service.get("privileged"), name
        assert "/var/run/docker.sock" not in json.dumps(service), name


@pytest.mark.far
def test_every_container_that_stays_has_limits_and_comes_back() -> None:
    for name, service in whole().items():
        if name == "init":
            continue
        limits = service["deploy"]["resources"]["limits"]
        assert {"cpus", "memory", "pids"} <= limits.keys(), name
        assert service["restart"] == "unless-stopped", name
        assert service["init"], name
        assert name == "door" or service["healthcheck"]["test"], name


@pytest.mark.far
def test_nothing_but_the_gateways_address_can_be_reached_from_outside() -> None:
    published = {name: service["ports"] for name, service in described("core", "far").items() if service.get("ports")}
    assert published.keys() == {"door"}
    assert {port["host_ip"] for port in published["door"]} == {"127.0.0.1"}
    assert whole()["gateway"]["network_mode"] == "service:door"


@pytest.mark.far
def test_servers_are_on_a_network_that_leads_nowhere() -> None:
    for name in ("postgres", "redis", "kafka", "s3", "triton"):
        assert set(whole()[name]["networks"]) == {"servers"}, name


@pytest.mark.far
def test_services_begin_when_what_they_need_is_healthy_and_have_time_to_drain() -> None:
    for name in OURS:
        service = whole()[name]
        needs = {needed: condition["condition"] for needed, condition in service["depends_on"].items()}
        assert needs["init"] == "service_completed_successfully"
        assert {needs[server] for server in ("postgres", "redis", "kafka", "s3")} == {"service_healthy"}
        assert service["stop_grace_period"] == "40s"


@pytest.mark.far
def test_a_container_sees_its_own_secrets_only() -> None:
    for name, service in whole().items():
        mounted = [volume["source"] for volume in service.get("volumes", ()) if "/secrets" in volume.get("source", "")]
        expected = {"init": ["secrets"], "door": [], "prometheus": []}.get(name, [f"secrets/{name}"])
        assert [source.rpartition("/deploy/")[2] for source in mounted] == expected, name


@pytest.mark.far
def test_who_looks_at_certificates_sees_no_key_of_a_server() -> None:
    looks = described("tools")["certificates"]
    mounted = {volume["source"].rpartition("/deploy/secrets/")[2] for volume in looks["volumes"]}
    assert mounted == {"probe", *(f"{server}/tls/cert.pem" for server in PORTS)}
    assert looks["cap_drop"] == ["ALL"]
    assert set(looks["networks"]) == {"servers"}


@pytest.mark.far
def test_the_core_does_without_triton() -> None:
    command = ["docker", "compose", "--env-file", str(ROOT / "deploy/core.env"), "-f", str(FILE), "config", "--format"]
    described("core")  # skips where there is no compose
    found = subprocess.run([*command, "json"], capture_output=True, text=True, check=True, timeout=60)
    services = json.loads(found.stdout)["services"]
    assert "triton" not in services
    assert services["inference"]["environment"]["AIMASS_INFERENCE_ENGINE"] == ""


@pytest.mark.far
def test_how_full_the_disk_may_be_is_said_to_every_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is the machine's: who is refused on it is told to raise this, and it has to reach the container."""
    monkeypatch.setenv("AIMASS_DISK_PERCENT", "97")
    found = described.__wrapped__("core", "far", "observability")
    assert {found[name]["environment"]["AIMASS_DISK_PERCENT"] for name in OURS} == {"97"}


@pytest.mark.far
def test_features_are_read_from_redis_and_leave_room_for_leases_and_counters() -> None:
    found = whole()
    settings = found["data"]["environment"]
    assert settings["AIMASS_DATA_FEATURES_URL_FILE"] == "/run/aimass/features_url"
    assert [name for name in OURS if "AIMASS_DATA_FEATURES_URL_FILE" in found[name]["environment"]] == ["data"]
    said = dict(zip(found["redis"]["command"], found["redis"]["command"][1:], strict=False))
    most = int(said["--maxmemory"].removesuffix("mb"))
    assert said["--maxmemory-policy"] == "noeviction"
    assert int(settings["AIMASS_DATA_FEATURES_MIB"]) + 300 <= most
    # Writing its file anew takes memory beside what it holds.
    assert int(found["redis"]["deploy"]["resources"]["limits"]["memory"]) >= 1.5 * most * 2**20


@pytest.mark.far
def test_how_many_features_are_kept_is_said_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIMASS_FEATURES_MIB", "1024")
    monkeypatch.setenv("AIMASS_REDIS_MIB", "1500")
    found = described.__wrapped__("core")
    assert found["data"]["environment"]["AIMASS_DATA_FEATURES_MIB"] == "1024"
    assert "1500mb" in found["redis"]["command"]


@pytest.mark.far
def test_triton_is_built_with_our_packages_in_it() -> None:
    assert whole()["triton"]["build"]["dockerfile"] == "deploy/triton.Dockerfile"


def test_everything_that_our_program_in_triton_imports_is_locked_for_its_image() -> None:
    tree = ast.parse((ROOT / "services/inference/triton/model.py").read_text())
    modules = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    foreign = modules - sys.stdlib_module_names - {"triton_python_backend_utils"}
    locked = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements/triton.txt").read_text(), re.MULTILINE)

    assert foreign
    assert foreign <= set(locked)
    assert "requirements/triton.txt" in (ROOT / "deploy/triton.Dockerfile").read_text()


def test_no_secret_is_in_the_files() -> None:
    # Something that is called a secret and is given a value, which is no path.
    given = re.compile(r"(?i)(password|secret|token|key)[a-z_]*\s*[:=]\s*[\"']?[a-z0-9+][a-z0-9+/]{7,}")
    for path in (FILE, *(ROOT / "deploy" / name for name in (".env", "core.env", "Dockerfile", "triton.Dockerfile"))):
        assert not given.search(path.read_text()), path
    assert given.search("POSTGRES_PASSWORD: hunter2hunter2")
