"""Path tricks in every place of a source that names a file: refused, and nothing outside is opened."""

from itertools import product
from pathlib import Path

import pytest

from aimass.v1 import sources_pb2 as pb
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.kit.errors import Code, Failure
from tests.data import places
from tests.support.house import House, house

UPS = [
    "../",
    "..//",
    "./../",
    "x/../../",
    "..\\",
    "%2e%2e/",
    "%252e%252e/",
    "..%2f",
    "..%c0%af",
    "\uff0e\uff0e/",
    ".../",
    "....//",
]
TARGETS = ["umbrella/secret.csv", "umbrella/*.csv", "../data.db", "../admin-key"]
ABSOLUTE = [
    "{home}/import/umbrella/secret.csv",
    "{home}/data.db",
    "/etc/passwd",
    "//etc/passwd",
    "/proc/self/environ",
    "/dev/zero",
]
FORMS = [
    *(up * depth + target for up, target, depth in product(UPS, TARGETS, (1, 3))),
    *ABSOLUTE,
    "file:///etc/passwd",
    "~/a",
]
CODES = (Code.INVALID_VALUE, Code.EGRESS_DENIED)


def sources_of(form: str) -> list[pb.PreviewSourceRequest]:
    table = pb.SqlSource(url=f"sqlite:///{form}", table="source", cursor="source")
    files = pb.FilesSource(pattern=form, format=pb.FILE_FORMAT_TEXT)
    return [pb.PreviewSourceRequest(sql=table), pb.PreviewSourceRequest(files=files)]


async def test_no_form_of_path_leaves_the_import_folder(home: Path) -> None:
    places.write(home, "a.csv", "mine\n")
    places.write(home, "secret.csv", "not yours\n", tenant="umbrella")
    async with house(home, "data") as running:
        for form in FORMS:
            for request in sources_of(form.format(home=home)):
                assert await code_of(running, request) in CODES, form


async def code_of(running: House, request: pb.PreviewSourceRequest) -> Code:
    with pytest.raises(Failure) as caught:
        await running.stub(SourcesStub, "data").PreviewSource(request)
    return caught.value.code


@pytest.mark.parametrize(
    "digest", ["sha256:../../../etc/passwd", "../secret", "sha256:" + "0" * 64, "sha256:" + "A" * 64]
)
async def test_an_upload_is_named_by_its_digest_only(home: Path, digest: str) -> None:
    files = pb.FilesSource(upload_digest=digest, format=pb.FILE_FORMAT_TEXT)
    async with house(home, "data") as running:
        assert await code_of(running, pb.PreviewSourceRequest(files=files)) is Code.INVALID_VALUE
