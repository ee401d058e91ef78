import socket
from pathlib import Path

from aimass.v1 import jobs_pb2 as pb
from aimass.v1.jobs_pb2_grpc import JobsStub
from services.kit.errors import Code, Failure
from tests.support.house import house
from tests.trainer.steps import run_of, spec, trained


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_the_trainer_works_in_a_process_of_its_own(home: Path) -> None:
    """Data and bus are reached over gRPC; only the home is shared."""
    data, bus = (f"127.0.0.1:{free_port()}" for _ in range(2))
    here = {"AIMASS_DATA_LISTEN": data, "AIMASS_BUS_LISTEN": bus}
    there = {"AIMASS_DISCOVERY_URL": f"static:data={data}", "AIMASS_BUS_URL": f"grpc://{bus}"}
    async with house(home, "data", **here), house(home, "trainer", **there) as running:
        job = await trained(running, logistic_regression=pb.LogisticRegression())

        assert job.state == pb.JOB_STATE_SUCCEEDED, job.error
        assert (await run_of(running, job)).metrics["auc"] > 0.7
        try:
            await running.stub(JobsStub, "trainer").SubmitJob(pb.SubmitJobRequest(spec=spec(feature_set="none")))
        except Failure as failure:
            assert (failure.code, failure.detail) == (Code.NOT_FOUND, "there is no feature set none")
        else:
            raise AssertionError("a job without features was taken")
