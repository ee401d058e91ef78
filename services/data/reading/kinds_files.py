"""What a source of files says: where they are, and how they divide into records. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from services.data.reading.formats import Compression, Dialect, Encoding, Records


class FileFormat(StrEnum):
    """How a file divides into records."""

    CSV = "csv"
    JSON_LINES = "json_lines"
    TEXT = "text"
    JSON = "json"
    PARQUET = "parquet"
    DOCUMENT = "document"


_OF_FILES = {
    FileFormat.CSV: Records.FIELDS,
    FileFormat.PARQUET: Records.FIELDS,
    FileFormat.JSON_LINES: Records.DOCUMENTS,
    FileFormat.JSON: Records.DOCUMENTS,
    FileFormat.DOCUMENT: Records.DOCUMENTS,
    FileFormat.TEXT: Records.LINES,
}

# Where files are and how their server is asked, whatever their format is.
SERVER_FIELDS = ("endpoint", "region", "access_key", "header_name")


@dataclass(frozen=True)
class FilesSource:
    """Files that a pattern names, or one upload."""

    format: FileFormat
    pattern: str = ""
    upload_digest: str = ""
    delimiter: str = ","
    null_values: tuple[str, ...] = ()
    compression: Compression = Compression.DETECTED
    encoding: Encoding = Encoding.DEFAULT
    quote: str = ""
    unquoted: bool = False
    escape: str = ""
    headless: bool = False
    record_start: str = ""
    record_lines: int = 0
    record_bytes: int = 0
    record_wait_seconds: int = 0
    # Of a bucket. The secret is as a caller says it; it is stored encrypted, beside the definition.
    endpoint: str = ""
    region: str = ""
    access_key: str = ""
    secret: str = field(default="", repr=False, compare=False)

    # Of an endpoint that is polled; the secret is the value of the header.
    header_name: str = ""
    records_path: str = ""
    next_path: str = ""
    next_parameter: str = ""
    since_path: str = ""
    since_parameter: str = ""

    @property
    def bucket(self) -> bool:
        """Whether they are objects of a bucket."""
        return self.pattern.startswith("s3://")

    @property
    def polled(self) -> bool:
        """Whether they are what an endpoint answers."""
        return self.pattern.startswith(("https://", "http://"))

    @property
    def remote(self) -> bool:
        """Whether they are on a server."""
        return self.bucket or self.polled

    @property
    def records(self) -> Records:
        """What the format divides them into."""
        return _OF_FILES[self.format]

    @property
    def dialect(self) -> Dialect:
        """How its delimited text is written."""
        return Dialect(self.delimiter, "" if self.unquoted else self.quote or '"', self.escape, self.headless)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "FilesSource":
        """From plain values by the names of the fields, as they are stored and sent."""
        typed = {
            "format": FileFormat(values["format"]),
            "delimiter": values["delimiter"] or ",",
            "null_values": tuple(values["null_values"]),
            "compression": Compression(values.get("compression", "")),
            "encoding": Encoding(values.get("encoding", "")),
        }
        return cls(**{**values, **typed})
