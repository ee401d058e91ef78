"""Registry and inference apart: two processes' worth of both, over gRPC and the bus of one of them."""

from pathlib import Path

from aimass.v1 import operations_pb2
from tests.support import models
from tests.support.house import House, house, until
from tests.support.server import free_ports
from tests.support.tenants import Tenant, item


async def test_a_version_is_promoted_and_answers_across_processes(tmp_path: Path) -> None:
    bus, registry, inference = (f"127.0.0.1:{port}" for port in free_ports(3))
    where = f"static:registry={registry},inference={inference}"
    first = {"AIMASS_BUS_LISTEN": bus, "AIMASS_REGISTRY_LISTEN": registry}
    second = {"AIMASS_BUS_URL": f"grpc://{bus}", "AIMASS_INFERENCE_LISTEN": inference}
    async with (
        house(tmp_path, "registry", AIMASS_DISCOVERY_URL=where, **first) as models_house,
        house(tmp_path, "inference", AIMASS_DISCOVERY_URL=where, **second) as engines_house,
    ):
        owner, asker = Tenant(models_house), Tenant(engines_house)
        await until(lambda: is_ready(engines_house))
        await owner.add("late", models.logistic())
        operation = await owner.promote("late", 1)
        await until(lambda: asker.is_ready("late", 1))
        await owner.switch("late")

        assert (await owner.ended(operation)).state == operations_pb2.OPERATION_STATE_SUCCEEDED
        (result,) = await asker.infer("late", 1, item([[0, 0, 0, 0]]))
        assert result.outputs[0].raw == b"\x00\x00\x00\x3f"


def is_ready(running: House) -> bool:
    return running.runtime.ready()
