"""Topics on a real broker, for far tests: what makes them and writes to them."""

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaAdminClient, KafkaProducer

from tests.support.servers import address

Written = tuple[int, bytes | None, bytes | None]  # partition, key, value
FORMATS = {"json": "TOPIC_FORMAT_JSON", "text": "TOPIC_FORMAT_TEXT", "bytes": "TOPIC_FORMAT_BYTES"}


@contextmanager
def admin(where: str) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(bootstrap_servers=where)
    try:
        yield client
    finally:
        client.close()


def topic(partitions: int = 1, name: str = "", where: str = "", **configs: str) -> str:
    """A new topic."""
    name = name or f"t-{secrets.token_hex(6)}"
    settings = {key.replace("_", "."): value for key, value in configs.items()}
    with admin(where or address("kafka")) as client:
        shape = {"num_partitions": partitions, "replication_factor": 1, "configs": settings}
        client.create_topics({name: shape}, wait_for_metadata=True)
    return name


def write(name: str, records: Iterable[Written], where: str = "", headers: Any = (), **more: Any) -> None:
    """Writes records, which are on the broker when this returns."""
    producer = KafkaProducer(bootstrap_servers=where or address("kafka"), **more)
    try:
        for partition, key, value in records:
            producer.send(name, value, key, list(headers), partition)
        producer.flush()
    finally:
        producer.close()


def source(name: str, kind: str = "json", where: str = "", **more: Any) -> dict[str, Any]:
    """The description of a source."""
    said = {"bootstrap_servers": [where or address("kafka")], "topic": name, "value_format": FORMATS[kind]}
    return {"kafka": {**said, **more}}
