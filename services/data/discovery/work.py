"""The child that finds rules: reads the first records of a source and learns from them."""

from dataclasses import replace
from pathlib import Path

from services.data.discovery import columns, documents, downloads, records, topics
from services.data.discovery.domain import discovery_to_json
from services.data.discovery.evidence import fitting
from services.data.reading import connectors
from services.data.reading.connector_postgres import PostgresConnector
from services.data.reading.connector_sql import SqlConnector
from services.data.reading.crawls import CrawlSource
from services.data.reading.folders import Place
from services.data.reading.formats import Records
from services.data.reading.kinds import FilesSource, PushedSource, SqlSource, source_from_json
from services.data.reading.topics import KafkaSource
from services.kit.child import Child, Json


def main(request: Json, child: Child) -> Json:
    """`{source, place, records, allow, folder}` to a Discovery; with a folder for them, some URLs are looked into.

    Raises invalid_value, limit_exceeded.
    """
    said, place = request["source"], Place.from_json(request["place"])
    source = source_from_json(said["source"] if said["kind"] == "landed" else said)
    sample = connectors.of_json(said).preview(place, int(request["records"]))
    match source:
        case SqlSource():
            reader = PostgresConnector(source) if source.remote else SqlConnector(source)
            found = columns.of_rows(source, reader.look(place), sample)
        case PushedSource() | CrawlSource():
            found = documents.of_documents(sample)
        case KafkaSource():
            found = topics.of_records(source, sample)
        case FilesSource() if source.records is Records.LINES:
            found = records.of_records([record["line"] for record in sample.records])
        case FilesSource() if source.records is Records.DOCUMENTS:
            found = documents.of_documents(sample)
        case FilesSource():
            found = columns.of_fields(source, sample)
    found = replace(fitting(found), suggested=sample.suggested)
    folder = request["folder"]
    return discovery_to_json(downloads.checked(found, request["allow"], Path(folder)) if folder else found)
