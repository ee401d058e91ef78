"""The messages of the Open Inference Protocol over gRPC, in a descriptor pool of their own.

The process-wide pool must stay free of them: client libraries of others register the same names there.
"""

from functools import cache
from importlib import resources
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from services.gateway.traffic import domain

SERVICE = domain.SERVICE


@cache
def pool() -> DescriptorPool:
    """The published protocol's descriptors."""
    found = DescriptorPool()
    for file in FileDescriptorSet.FromString(
        resources.files("aimass.v1").joinpath("inference.binpb").read_bytes()
    ).file:
        found.Add(file)
    return found


@cache
def message(name: str) -> Any:
    """A message class by its short name: ModelInferRequest."""
    return GetMessageClass(pool().FindMessageTypeByName(f"inference.{name}"))
