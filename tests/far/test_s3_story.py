"""The main job with its bytes on S3 and two machines: one has the data, the other trains, keeps models and predicts."""

import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pytest
from google.protobuf.json_format import MessageToDict

from aimass.v1 import datasets_pb2, engines_pb2, jobs_pb2, uploads_pb2
from aimass.v1 import features_pb2 as fpb
from aimass.v1.artifacts_pb2 import DownloadArtifactRequest
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.features_pb2_grpc import FeatureSetsStub
from aimass.v1.operations_pb2 import OPERATION_STATE_SUCCEEDED
from aimass.v1.rules_pb2 import DiscoverRulesRequest, RuleColumn
from aimass.v1.rules_pb2_grpc import RulesStub
from aimass.v1.schema_pb2 import ColumnType
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.kit.digests import digest_of
from tests.data.extracting import Tenant as DataTenant
from tests.support import storages
from tests.support.house import House, house, until
from tests.support.server import free_ports
from tests.support.tables import flights
from tests.support.tenants import Tenant
from tests.trainer.conftest import STEPS
from tests.trainer.steps import run_of, trained

pytestmark = pytest.mark.far
_TYPES = {"id": "INT64", "month": "INT64", "hour": "INT64", "carrier": "STRING", "temp": "DOUBLE", "late": "INT64"}
RULE = {"file": {"columns": [{"name": name, "type": f"COLUMN_TYPE_{kind}"} for name, kind in _TYPES.items()]}}


def csv() -> bytes:
    """The flights of a year, as a client has them in a file."""
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(flights().drop_columns(["tailnum"]), sink)
    return bytes(sink.getvalue())


async def handed_over(running: House, data: bytes) -> str:
    """An upload in three chunks; its digest."""
    sources = running.stub(SourcesStub, "data")
    upload = (await sources.CreateSourceUpload(uploads_pb2.CreateUploadRequest())).upload
    third = len(data) // 3 + 1
    for offset in range(0, len(data), third):
        request = uploads_pb2.WriteUploadRequest(upload=upload, offset=offset)
        request.body.data = data[offset : offset + third]
        await sources.WriteSourceUpload(request)
    digest = digest_of(data)
    await sources.CommitSourceUpload(uploads_pb2.CommitUploadRequest(upload=upload, digest=digest))
    return digest


async def fitted(running: House, data: DataTenant) -> None:
    sets = running.stub(FeatureSetsStub, "data")
    made = fpb.CreateFeatureSetRequest(feature_set="late", data_set="flights", label="late", key="id", steps=STEPS)
    await sets.CreateFeatureSet(made)
    fit = fpb.FitFeatureSetRequest(feature_set="late", train=fpb.RowRange(column="month", to=9))
    done = await data.ended((await sets.FitFeatureSet(fit)).operation)
    assert done.state == OPERATION_STATE_SUCCEEDED, done


def row(signature: Any, **values: Any) -> engines_pb2.InferItem:
    """One row as the signature wants it."""
    tensors = []
    for wanted in signature.inputs:
        value = values[wanted.name]
        if wanted.datatype == "BYTES":
            raw = struct.pack("<I", len(value)) + value.encode()
        else:
            raw = struct.pack({"FP64": "<d", "FP32": "<f", "INT64": "<q"}[wanted.datatype], value)
        tensors.append(engines_pb2.Tensor(name=wanted.name, datatype=wanted.datatype, shape=[1, 1], raw=raw))
    return engines_pb2.InferItem(request_id="r", inputs=tensors)


async def test_the_main_job_keeps_its_bytes_on_s3(tmp_path: Path) -> None:
    storage = storages.settings("far")
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "keys").mkdir(parents=True, mode=0o700)
    there.mkdir(mode=0o700)
    (there / "keys").symlink_to(here / "keys")
    data_at, bus_at = (f"127.0.0.1:{port}" for port in free_ports(2))
    far = {"AIMASS_DISCOVERY_URL": f"static:data={data_at}", "AIMASS_BUS_URL": f"grpc://{bus_at}"}
    async with (
        house(here, "data", AIMASS_DATA_LISTEN=data_at, AIMASS_BUS_LISTEN=bus_at, **storage) as first,
        house(there, "trainer", "registry", "inference", **far, **storage) as second,
    ):
        data = DataTenant(first)
        files = {"files": {"upload_digest": await handed_over(first, csv()), "format": "FILE_FORMAT_CSV"}}
        await data.rule("flights", files, RULE)
        found = await first.stub(RulesStub, "data").DiscoverRules(DiscoverRulesRequest(source="flights", records=100))
        assert _TYPES.items() <= {c.name: name_of(c) for c in found.proposals[0].definition.file.columns}.items()
        assert (await data.extract("flights")).rows_accepted == 3000
        assert len(await data.rows("flights")) == 1000

        tables = [datasets_pb2.QueryTable(data_set="flights")]
        query = datasets_pb2.QueryDataSetsRequest(
            sql="SELECT sum(late) AS n, count(*) AS m FROM flights", tables=tables
        )
        answer = MessageToDict((await first.stub(DataSetsStub, "data").QueryDataSets(query)).rows[0])
        assert answer["m"] == 3000

        await fitted(first, data)
        job = await trained(second)
        assert job.state == jobs_pb2.JOB_STATE_SUCCEEDED, job.error
        assert (await run_of(second, job)).metrics["auc"] > 0.6

        acme = Tenant(second)
        await until(lambda: _there(acme))
        version = await acme.version("late", 1)
        graph = next(file.digest for file in version.files if file.name == "model.onnx")
        request = DownloadArtifactRequest(digest=graph)
        assert digest_of(b"".join([p.data async for p in acme.artifacts().DownloadArtifact(request)])) == graph
        assert (await acme.serve("late", 1)).state == OPERATION_STATE_SUCCEEDED
        asked = row(version.signature, carrier="EV", hour=18.0, temp=20.0)
        (result,) = await acme.infer("late", 1, asked)
        assert not result.HasField("failure"), result.failure

    for home in (here, there):
        assert not (home / "blobs").exists()
        assert not [path for path in home.rglob("*.parquet") if "cache" not in path.parts]
        assert not list((home / "cache" / "blobs" / "held").iterdir())


def name_of(column: RuleColumn) -> str:
    """The type of a column, as it is in `_TYPES`."""
    return ColumnType.Name(column.type).removeprefix("COLUMN_TYPE_")


async def _there(acme: Tenant) -> bool:
    try:
        return bool(await acme.version("late", 1))
    except Exception:
        return False
