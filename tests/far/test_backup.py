"""A stack is backed up while somebody writes, and lost; another one on new, empty servers goes on from the archive.

AIMASS_TEST_BACKUP_MIB says how much there is to copy.
"""

import base64
import json
import os
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aimass import Client
from aimass.backup import held
from services.kit.digests import digest_of
from services.kit.stack.writing import FORMAT
from tests.far.chaos import BODY, COLUMNS
from tests.journeys import steps
from tests.journeys.test_backup import Writing, airports, read
from tests.support.fleet import Fleet, fleet
from tests.support.models import logistic
from tests.support.server import ROOT, free_ports
from tests.support.servers import Missing, address
from tests.support.sink import Sink

pytestmark = pytest.mark.far
SERVERS = ("kafka", "postgres", "redis", "s3")
MIB = int(os.environ.get("AIMASS_TEST_BACKUP_MIB", "4"))


@dataclass
class Story:
    """What was known of the first stack, and the second one."""

    folder: Path
    settings: dict[str, str]
    port: int
    key: str = ""
    known: dict[str, Any] = field(default_factory=dict)
    said: dict[str, subprocess.CompletedProcess[str]] = field(default_factory=dict)
    second: Fleet | None = None

    @property
    def archive(self) -> Path:
        return self.folder / "all.aimass"

    def client(self) -> Client:
        assert self.second
        return self.second.client(self.key)


def secret() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def program(env: dict[str, str], *arguments: str) -> "subprocess.Popen[str]":
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AIMASS_")}
    kept["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "sdk")])
    command = [sys.executable, "-m", "services", *arguments]
    return subprocess.Popen(
        command, env=kept | env, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    process = program(env, *arguments)
    output, wrong = process.communicate(timeout=300)
    return subprocess.CompletedProcess([], process.returncode, output, wrong)


def fill(story: Story, client: Client) -> None:
    """A data set, a released model, a key, somebody who wants to be told, and bytes."""
    airports(client)
    client.models.create_model(model="late")
    version(story, client)
    client.releases.promote_version(model="late", version=1).wait()
    story.known["data set"] = client.data_sets.get_data_set_version(data_set="airports", version=1)
    story.known["key"] = str(client.access.create_api_key(tenant="default").secret)
    client.subscriptions.create_subscription(
        subscription="told",
        filter="kind:event AND name:ModelVersionChanged",
        webhook={"url": f"http://127.0.0.1:{story.port}/hook"},
    )
    story.known["digests"] = [client.upload(os.urandom(2**20), to="artifacts").digest for _ in range(MIB)]


def predict(there: Fleet, key: str) -> Any:
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(f"{there.url}/v2/models/late/infer", BODY.encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())["outputs"]


def version(story: Story, client: Client) -> None:
    graph = story.folder / "late.onnx"
    graph.write_bytes(logistic(COLUMNS))
    uploaded = client.upload(graph, to="artifacts")
    client.models.create_model_version(model="late", files=[{"name": "model.onnx", "digest": uploaded.digest}])


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    address("postgres")  # only in a far run; the fleets bring servers of their own
    folder = tmp_path_factory.mktemp("backup")
    (port,) = free_ports(1)
    settings = {
        "AIMASS_GATEWAY_PEPPER": secret(),
        "AIMASS_SECRETS_KEY": secret(),
        "AIMASS_SECRETS_OLD_KEYS": secret(),
        "AIMASS_EGRESS_ALLOW": f"127.0.0.1:{port}",
        "AIMASS_TRAINER_WORKERS": "0",
        "AIMASS_LOG_LEVEL": "WARNING",
    }
    made = Story(folder, settings, port)
    try:
        with fleet(folder / "first", SERVERS, settings) as first:
            before(made, first)
        second = Fleet(folder / "second-fleet", folder / "second", settings)
        try:
            after(made, second.start_servers(SERVERS))
            yield made
        finally:
            second.stop()
    except Missing as error:
        pytest.skip(str(error))


def before(story: Story, first: Fleet) -> None:
    story.key = first.key
    with first.client() as client, Writing(first) as writing:  # type: ignore[arg-type]
        fill(story, client)
        story.known["answer"] = predict(first, story.key)
        story.known["written"] = list(writing.made)
        story.said["backup"] = run(first.everything(), "--backup", str(story.archive))
        assert not story.said["backup"].returncode, story.said["backup"].stderr
        story.known["later"] = list(writing.made)
        story.said["second backup"] = run(first.everything(), "--backup", str(story.archive))
    story.said["into what is used"] = run(first.everything(), "--restore", str(story.archive))


def after(story: Story, second: Fleet) -> None:
    """Restores with another pepper, without old keys, killed half way, and whole; then the services."""
    env, archive = second.everything(), str(story.archive)
    story.said["other pepper"] = run(env | {"AIMASS_GATEWAY_PEPPER": secret()}, "--restore", archive)
    story.said["no old keys"] = run(env | {"AIMASS_SECRETS_OLD_KEYS": ""}, "--restore", archive)
    dying = program(env, "--restore", archive)
    objects = second.folder / "s3" / "s3" / "far"
    deadline = time.monotonic() + 60
    while not list(objects.rglob("blobs/*")) and time.monotonic() < deadline and dying.poll() is None:
        time.sleep(0.01)
    dying.kill()
    dying.communicate()
    story.known["left by the dead"] = bool(list(objects.rglob("blobs/*")))
    story.said["restore"] = run(env, "--restore", archive)
    assert not story.said["restore"].returncode, story.said["restore"].stderr
    story.second = second.man().start()


def test_a_backup_says_what_it_has_written(story: Story) -> None:
    done = story.said["backup"]
    print(done.stdout)

    assert done.returncode == 0, done.stderr
    assert "MiB, sha256:" in done.stdout


def test_a_restore_says_the_same_after_one_that_was_killed(story: Story) -> None:
    done = story.said["restore"]
    print(done.stdout)

    assert story.known["left by the dead"]
    assert done.returncode == 0, done.stderr
    assert done.stdout.rpartition(",")[0] == story.said["backup"].stdout.rpartition(",")[0]


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("second backup", "exists already"),
        ("into what is used", "the bus is not empty"),
        ("other pepper", "AIMASS_GATEWAY_PEPPER is not the one that the archive was made with"),
        ("no old keys", "AIMASS_SECRETS_OLD_KEYS lacks a key that the archive was made with"),
    ],
)
def test_what_would_do_harm_is_refused_in_a_sentence(story: Story, what: str, sentence: str) -> None:
    assert story.said[what].returncode == 1
    assert sentence in story.said[what].stderr


def test_no_secret_is_in_the_archive(story: Story) -> None:
    content = story.archive.read_bytes()

    for name in ("AIMASS_GATEWAY_PEPPER", "AIMASS_SECRETS_KEY", "AIMASS_SECRETS_OLD_KEYS"):
        assert story.settings[name].encode() not in content
        assert base64.b64decode(story.settings[name]) not in content
    assert story.key.encode() not in content


def test_the_archive_can_be_checked_without_a_stack(story: Story) -> None:
    with held(story.archive, FORMAT) as archive:
        assert archive.made.digest in story.said["backup"].stdout


def test_everything_acknowledged_before_is_there_and_nothing_that_was_never_sent(story: Story) -> None:
    with story.client() as client:
        found = {model.model for model in client.models.iterate_models()} - {"late"}

    later = story.known["later"]
    assert set(story.known["written"]) <= found <= {*later, f"m{len(later)}"}


def test_rows_and_files_have_the_digests_they_had(story: Story) -> None:
    with story.client() as client:
        assert read(client) == ["JFK", "LGA"]
        version = client.data_sets.get_data_set_version(data_set="airports", version=1)
        assert version == story.known["data set"]
        for digest in story.known["digests"]:
            assert digest_of(client.download(digest)) == digest  # type: ignore[arg-type]


def test_the_released_model_answers_as_before(story: Story) -> None:
    assert story.second
    assert predict(story.second, story.key) == story.known["answer"]


def test_keys_open_the_doors_that_they_opened(story: Story) -> None:
    assert story.second
    with story.second.client(story.known["key"]) as client:
        assert client.access.who_am_i().tenant == "default"


def test_the_log_centre_has_the_records_and_makes_its_index_anew(story: Story) -> None:
    with story.client() as client:
        until = time.monotonic() + 30
        while (
            not (found := client.logs.search_logs(query="kind:event AND name:ReleaseChanged").records)
            and time.monotonic() < until
        ):
            time.sleep(0.2)

        assert found


def test_events_go_on_and_reach_who_subscribed(story: Story) -> None:
    with Sink(story.port) as sink, story.client() as client:
        version(story, client)

        assert b"ModelVersionChanged" in sink.wait(1, 60)[0][1]


def test_an_extraction_remembers_what_it_has_read(story: Story) -> None:
    with story.client() as client:
        assert steps.extract(client, "airports")["airports"].data_set_version == 0
