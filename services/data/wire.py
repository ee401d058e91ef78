"""Values of several slices between the domain and the wire."""

from collections.abc import Collection, Iterable
from dataclasses import fields
from typing import Any

from google.protobuf.message import Message

from aimass.v1 import options_pb2
from aimass.v1 import schema_pb2 as pb
from services.data.schema import Column, ColumnType
from services.kit.errors import InvalidValue


def column_type_to_wire(kind: ColumnType) -> pb.ColumnType.ValueType:
    """The enum value of a type."""
    return pb.ColumnType.Value(f"COLUMN_TYPE_{kind.name}")


def column_type_from_wire(kind: pb.ColumnType.ValueType) -> ColumnType:
    """Raises invalid_value for a type that is not set or not known."""
    name = pb.ColumnType.Name(kind) if kind in pb.ColumnType.values() else ""
    member = ColumnType.__members__.get(name.removeprefix("COLUMN_TYPE_"))
    if member is None:
        raise InvalidValue("the column type must be set")
    return member


def schema_to_wire(columns: Iterable[Column]) -> pb.TableSchema:
    """The columns of a table, in order."""
    return pb.TableSchema(
        columns=[pb.Column(name=c.name, type=column_type_to_wire(c.type), nullable=c.nullable) for c in columns]
    )


def plain(message: Message) -> dict[str, Any]:
    """The fields of a message by name: enum values as words, such as csv; one that is not set is an empty word.

    Raises invalid_value for a value that is not known, and for one that must be set.
    """
    return {field.name: _plain(field, getattr(message, field.name)) for field in message.DESCRIPTOR.fields}


def _plain(field: Any, value: Any) -> Any:
    if field.enum_type is None:
        return value
    known = field.enum_type.values_by_number.get(value)
    if known and not value and not field.GetOptions().Extensions[options_pb2.field].required:
        return ""
    if not known or not value:
        raise InvalidValue(f"the {field.name} is not known")
    return known.name.removeprefix(_prefix(field)).lower()


def fields_of(value: Any, message: Any, beside: Collection[str] = ()) -> dict[str, Any]:
    """The fields of a dataclass as those of the same name in a message (its descriptor), but those `beside` it."""
    known, own = message.fields_by_name, [one.name for one in fields(value) if one.name not in beside]
    return {name: _wired(known[name], getattr(value, name)) for name in own}


def _wired(field: Any, value: Any) -> Any:
    return f"{_prefix(field)}{value.upper() or 'UNSPECIFIED'}" if field.enum_type else value


def _prefix(field: Any) -> str:
    return str(field.enum_type.values_by_number[0].name).removesuffix("UNSPECIFIED")
