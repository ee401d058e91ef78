"""How raw data is written: its records, compression, encoding, and the dialect of delimited text. Pure."""

from dataclasses import dataclass
from enum import StrEnum


class Records(StrEnum):
    """What the records of a source are; a rule is for one of these."""

    ROWS = "a sql source"
    FIELDS = "files of format csv or parquet"
    DOCUMENTS = "files of format json_lines, json or document, pushed records, topics of kafka, or pages of a site"
    LINES = "files of format text"


class Compression(StrEnum):
    """How a file is compressed."""

    DETECTED = ""  # by its first bytes
    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


class Encoding(StrEnum):
    """How the text of a file is encoded; each is a codec of Python's."""

    DEFAULT = ""  # UTF-8
    UTF_8 = "utf_8"
    UTF_16 = "utf_16"
    UTF_16_LE = "utf_16_le"
    UTF_16_BE = "utf_16_be"
    LATIN_1 = "latin_1"
    WINDOWS_1252 = "windows_1252"


@dataclass(frozen=True)
class Dialect:
    """How delimited text is written. `quote` and `escape`: one character, or none."""

    delimiter: str = ","
    quote: str = '"'
    escape: str = ""
    headless: bool = False
