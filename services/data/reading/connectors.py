"""Which connector reads a source: one for each kind."""

from collections.abc import Mapping
from typing import Any

from services.data.reading.connector import Connector
from services.data.reading.connector_crawl import CrawlConnector
from services.data.reading.connector_files import FilesConnector
from services.data.reading.connector_kafka import KafkaConnector
from services.data.reading.connector_landed import LandedConnector
from services.data.reading.connector_postgres import PostgresConnector
from services.data.reading.connector_pushed import PushedConnector
from services.data.reading.connector_sql import SqlConnector
from services.data.reading.crawls import CrawlSource
from services.data.reading.kinds import Definition, FilesSource, PushedSource, SqlSource, source_from_json
from services.data.reading.landed import LandedRecords
from services.data.reading.topics import KafkaSource


def connector(definition: Definition) -> Connector:
    """What reads a source."""
    match definition:
        case SqlSource():
            return PostgresConnector(definition) if definition.remote else SqlConnector(definition)
        case PushedSource():
            return PushedConnector(definition)
        case KafkaSource():
            return KafkaConnector(definition)
        case CrawlSource():
            return CrawlConnector(definition)
        case FilesSource():
            return FilesConnector(definition)


def of_json(stored: Mapping[str, Any]) -> Connector:
    """What reads a source, or what landed of it, as a child is told."""
    if stored["kind"] != "landed":
        return connector(source_from_json(stored))
    records = LandedRecords.from_json(stored)
    return LandedConnector(records, connector(records.source))
