"""Messages to JSON: names of the proto, enum names in full, 64-bit integers as strings, defaults printed."""

import orjson
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message


def encode(message: Message) -> bytes:
    """One line of JSON."""
    fields = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return orjson.dumps(fields)
