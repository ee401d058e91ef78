"""What a description of a topic may say, and what becomes of its records.

With brokers: tests/far/test_kafka_sources.py.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from services.data.reading import kafka_broker, topics
from services.data.reading.connectors import connector
from services.data.reading.folders import Place
from services.data.reading.kafka_broker import Door
from services.data.reading.kafka_records import Broken, document, split
from services.data.reading.kinds import to_json
from services.data.reading.topics import KafkaSource, Mechanism, TopicFormat
from services.data.sources import domain
from services.kit.errors import Code, Failure

SOURCE = KafkaSource(("kafka.example:9093", "[2001:db8::1]:9092"), "orders", TopicFormat.JSON, tls=True)
HERE = Place(Path("/"), (), "127.0.0.1", True, "a-secret", "127.0.0.1")


class Record(NamedTuple):
    """As the library has them."""

    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    partition: int = 3
    offset: int = 7
    timestamp: int = 1_767_225_600_123


def test_a_topic_is_read_from_the_brokers_that_are_named() -> None:
    topics.check(SOURCE)
    assert connector(SOURCE).reaches == [("kafka.example", 9093), ("2001:db8::1", 9092)]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bootstrap_servers": ()}, "1 to 10 bootstrap_servers"),
        ({"bootstrap_servers": ("a:1",) * 11}, "1 to 10 bootstrap_servers"),
        *(({"bootstrap_servers": (text,)}, "must be host:port") for text in (
            "a", "a:", ":1", "a:0", "a:65536", "a:x", "a:²", "u@a:1", "kafka://a:1", "a/b:1", "a b:1", "[::1:1",
        )),
        ({"topic": "a/b"}, "the topic must have"),
        ({"topic": ".."}, "the topic must have"),
        ({"topic": "é"}, "the topic must have"),
        ({"topic": "a" * 250}, "the topic must have"),
        ({"client_key": "k"}, "a client_key needs its client_certificate"),
        ({"client_certificate": "c", "client_key": "k", "sasl_username": "u"}, "not by both"),
        ({"sasl_password": "p"}, "need a sasl_username"),
        ({"sasl_mechanism": Mechanism.SCRAM_SHA_256}, "need a sasl_username"),
        ({"tls": False, "ca_certificates": "c"}, "certificates need tls"),
        ({"tls": False, "client_certificate": "c"}, "certificates need tls"),
        ({"tls": False, "sasl_username": "u", "sasl_mechanism": Mechanism.PLAIN}, "it needs tls"),
    ],
)  # fmt: skip
def test_what_describes_no_topic_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(Failure) as caught:
        domain.check(replace(SOURCE, **change))
    assert (caught.value.code, says in caught.value.detail) == (Code.INVALID_VALUE, True), caught.value.detail


@pytest.mark.parametrize("said", [{"sasl_username": "u", "sasl_password": "a-secret"}, {"client_key": "a-secret"}])
def test_a_secret_is_in_no_text_and_in_no_definition(said: dict[str, str]) -> None:
    source = replace(SOURCE, **said)  # type: ignore[arg-type]
    assert domain.secret_of(source) == "a-secret"
    assert domain.secret_of(domain.without_secret(source)) == ""
    assert "a-secret" not in f"{source!r} {to_json(source)} {HERE!r}"


@pytest.mark.parametrize(
    "change",
    [
        {"bootstrap_servers": ("kafka.example:9093",)},
        {"tls": False},
        {"sasl_username": "u"},
        {"ca_certificates": "c"},
        {"sasl_mechanism": Mechanism.PLAIN},
    ],
)
def test_a_secret_is_for_these_brokers_and_the_way_they_are_known(change: dict[str, Any]) -> None:
    other = replace(SOURCE, **change)
    assert domain.server_of(other) != domain.server_of(SOURCE)
    assert domain.server_of(replace(SOURCE, topic="other")) == domain.server_of(SOURCE)


def test_a_cursor_belongs_to_the_topic_whichever_brokers_are_asked() -> None:
    assert connector(replace(SOURCE, bootstrap_servers=("a:1",))).identity == connector(SOURCE).identity
    assert connector(replace(SOURCE, topic="a" * 249)).identity != connector(replace(SOURCE, topic="a" * 248)).identity
    assert len(connector(replace(SOURCE, topic="a" * 249)).identity) <= 71


def test_a_record_is_its_value_with_its_key_headers_and_place() -> None:
    record = Record(b'{"total": 1}', b"\xff\x00", (("a", b"x"), ("b", None), ("c", b"\xfe"), ("a", b"y")))
    assert document(TopicFormat.JSON, record) == {
        "value": {"total": 1}, "key": "ff00", "headers": {"a": "y", "b": None, "c": "fe"}, "partition": 3, "offset": 7,
        "timestamp": "2026-01-01T00:00:00.123Z",
    }  # fmt: skip
    assert document(TopicFormat.JSON, Record(None, b"key", timestamp=-1)) == {
        "value": None, "key": "key", "headers": {}, "partition": 3, "offset": 7, "timestamp": None,
    }  # fmt: skip
    assert document(TopicFormat.TEXT, Record("é\n".encode()))["value"] == "é\n"
    assert document(TopicFormat.BYTES, Record(b"\xff\n"))["value"] == "ff0a"


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        (TopicFormat.JSON, b"{", "the value is not JSON"),
        (TopicFormat.JSON, b"", "the value is not JSON"),
        (TopicFormat.JSON, b"\xff", "the value is not UTF-8"),
        (TopicFormat.JSON, b"[" * 201 + b"]" * 201, "the value nests too deeply"),
        (TopicFormat.TEXT, b"a\xff", "the value is not UTF-8"),
        (TopicFormat.BYTES, b"a" * (2**20 + 1), "the value is longer than 1 MiB"),
    ],
)
def test_what_is_no_record_is_kept_with_the_reason_and_its_neighbours_are_read(
    kind: TopicFormat, value: bytes, reason: str
) -> None:
    with pytest.raises(Broken):
        document(kind, Record(value))
    documents, whole, broken = split(kind, [Record(b"1", offset=1), Record(value, offset=2), Record(b"2", offset=3)])
    assert [record.offset for record in whole] == [one["offset"] for one in documents] == [1, 3]
    assert [(number, why) for number, _, why in broken] == [(2, reason)]
    assert len(broken[0][1]) <= 8192


def door(allow: str, tls: bool) -> Door:
    return Door(replace(SOURCE, tls=tls), HERE._replace(allow=allow))


def test_a_broker_is_reached_where_the_rules_for_addresses_of_others_allow_it() -> None:
    for host in ("127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "0x7f000001"):
        refusing = door("kafka.example", tls=True)
        assert refusing(host, 9092) is None
        assert [failure.code for failure in refusing.refusals] == [Code.EGRESS_DENIED]
    assert door("localhost:9092", tls=True)("LOCALHOST", 9092) in ("127.0.0.1", "::1")
    assert door("localhost:9092", tls=True)("localhost", 9093) is None
    assert door("", tls=True)("8.8.8.8", 9092) == "8.8.8.8"
    assert door("", tls=False)("8.8.8.8", 9092) is None  # without TLS only what the operator has named


@pytest.mark.parametrize(
    ("source", "place", "code", "says"),
    [
        (replace(SOURCE, tls=False), HERE._replace(trusted=False), Code.INVALID_VALUE, "reached by TLS only"),
        (replace(SOURCE, ca_certificates="x"), HERE, Code.INVALID_VALUE, "the ca_certificates are not PEM"),
        (replace(SOURCE, client_certificate="x"), HERE, Code.INVALID_VALUE, "are not PEM, or no pair"),
        (
            replace(SOURCE, sasl_username="u"),
            HERE._replace(secret=""),
            Code.FAILED_PRECONDITION,
            "say the sasl_password",
        ),
    ],
)
def test_what_cannot_be_connected_as_described_is_said(
    source: KafkaSource, place: Place, code: Code, says: str
) -> None:
    with pytest.raises(Failure) as caught:
        connector(source).preview(place, 5)
    assert (caught.value.code, says in caught.value.detail) == (code, True)
    assert "a-secret" not in caught.value.detail


def test_an_installation_without_the_client_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kafka", None)
    with pytest.raises(Failure) as caught:
        kafka_broker.describe(HERE, SOURCE)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert "install its extra" in caught.value.detail
