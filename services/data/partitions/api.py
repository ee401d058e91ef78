"""The RPCs of partitions."""

from aimass.v1 import partitions_pb2 as pb
from aimass.v1.operations_pb2 import Operation
from services.data.datasets.wire_layouts import layout_from_wire
from services.data.metering.domain import CpuBudget
from services.data.partition_advice.service import PartitionAdvice
from services.data.partitions.service import Partitions
from services.data.partitions.wire import division_to_wire
from services.kit.rpc import Call


class PartitionsApi:
    """aimass.v1.Partitions."""

    def __init__(self, partitions: Partitions, advice: PartitionAdvice) -> None:
        self._partitions, self._advice = partitions, advice

    async def RepartitionDataSet(self, request: pb.RepartitionDataSetRequest, call: Call) -> Operation:
        layout, budget = layout_from_wire(request.partitioning), CpuBudget(call.principal.id, request.cpu_seconds)
        return await self._partitions.repartition(
            call.principal, request.data_set, layout, call.etag, call.once(), budget, request.create
        )

    async def ListPartitions(self, request: pb.ListPartitionsRequest, call: Call) -> pb.ListPartitionsResponse:
        found = await self._partitions.division(
            call.principal, request.data_set, request.version, request.page_size, request.page_token
        )
        return division_to_wire(*found)

    async def AdvisePartitions(self, request: pb.AdvisePartitionsRequest, call: Call) -> Operation:
        budget = CpuBudget(call.principal.id, request.cpu_seconds)
        return await self._advice.advise(call.principal, request.data_set, call.once(), budget)
