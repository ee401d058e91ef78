"""Operations as they lie in a service's database, and as callers see them."""

from datetime import timedelta
from typing import Any

from sqlalchemy import Boolean, Column, Float, Index, LargeBinary, MetaData, String, Table
from sqlalchemy.engine import Row

from aimass.v1 import operations_pb2 as pb
from services.kit.db import UtcDateTime, scoped
from services.kit.timestamps import to_wire

PENDING, RUNNING, SUCCEEDED, FAILED, CANCELLED = "pending", "running", "succeeded", "failed", "cancelled"
ENDED = (SUCCEEDED, FAILED, CANCELLED)


def operation_table(metadata: MetaData) -> Table:
    """The table of one service's operations."""
    return scoped(
        "operation",
        metadata,
        Column("operation", String(64), primary_key=True),
        Column("state", String(16), nullable=False),
        Column("method", String(200), nullable=False),
        Column("resource", String(300), nullable=False),
        Column("progress", Float, nullable=False),
        Column("stage", String(100), nullable=False),
        Column("message", String(1000), nullable=False),
        Column("cancel_requested", Boolean, nullable=False),
        Column("response", LargeBinary),
        Column("error", LargeBinary),
        Column("create_time", UtcDateTime, nullable=False),
        Column("update_time", UtcDateTime, nullable=False),
        Column("end_time", UtcDateTime),
        Index("operation_state", "state"),
    )


def to_message(row: Row[Any]) -> pb.Operation:
    """A row as callers see it; the estimated end goes on at the pace so far."""
    operation = pb.Operation(
        operation=row.operation,
        state=pb.OperationState.Value(f"OPERATION_STATE_{row.state.upper()}"),
        method=row.method,
        resource=row.resource,
        progress=row.progress,
        stage=row.stage,
        message=row.message,
        cancel_requested=row.cancel_requested,
        create_time=to_wire(row.create_time),
        update_time=to_wire(row.update_time),
        end_time=to_wire(row.end_time),
    )
    if row.state == RUNNING and row.progress > 0.01:
        left = (row.update_time - row.create_time).total_seconds() * (1 - row.progress) / row.progress
        operation.estimated_end_time.FromDatetime(row.update_time + timedelta(seconds=left))
    if row.response is not None:
        operation.response.ParseFromString(row.response)
    if row.error is not None:
        operation.error.ParseFromString(row.error)
    return operation
