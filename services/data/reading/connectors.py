"""Which connector reads a source: one for each kind."""

from services.data.reading.connector import Connector
from services.data.reading.connector_files import FilesConnector
from services.data.reading.connector_kafka import KafkaConnector
from services.data.reading.connector_postgres import PostgresConnector
from services.data.reading.connector_pushed import PushedConnector
from services.data.reading.connector_sql import SqlConnector
from services.data.reading.kinds import Definition, FilesSource, PushedSource, SqlSource
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
        case FilesSource():
            return FilesConnector(definition)
