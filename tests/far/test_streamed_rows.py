"""Versions that lie in a bucket, in clear and sealed, as streams and as Delta tables."""

from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from aimass.v1 import datasets_pb2 as data_sets
from aimass.v1 import exports_pb2 as pb
from aimass.v1.exports_pb2_grpc import ExportsStub
from tests.data.tables import add
from tests.data.test_exports import archive, table, unpacked
from tests.support.house import house
from tests.support.storages import settings

pytestmark = pytest.mark.far


@pytest.mark.parametrize("kind", ["far", "sealed"])
async def test_rows_of_a_bucket_leave_as_those_of_a_folder(tmp_path: Path, kind: str) -> None:
    async with house(tmp_path / "home", "data", AIMASS_DISK_PERCENT="100", **settings(kind)) as running:
        await add(running, "flights", {"id": [1, 2]}, append=True)
        await add(running, "flights", {"id": [3], "gate": ["A"]}, append=True)
        stub: Any = running.stub(ExportsStub, "data")
        version = pb.StreamVersionRequest(data_set="flights")
        whole = await table(stub.StreamVersion(version))
        sql = "SELECT sum(id) AS n FROM flights"
        asked = pb.StreamQueryRequest(sql=sql, tables=[data_sets.QueryTable(data_set="flights", version=1)])
        found = await table(stub.StreamQuery(asked))
        content = await archive(running, version)

    assert whole.to_pydict() == {"id": [1, 2, 3], "gate": [None, None, "A"]}
    assert found.to_pydict() == {"n": [3]}
    assert DeltaTable(str(unpacked(content, tmp_path / "table"))).to_pyarrow_table() == whole
