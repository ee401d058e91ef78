"""Where a source lies, before anything is opened."""

from pathlib import Path

import orjson
import pytest

from services.data.reading.folders import Place
from services.data.reading.kinds import Definition, FileFormat, FilesSource, SqlSource
from services.data.reading.places import Places
from services.kit.blobs import FolderBlobs
from services.kit.errors import Code, Failure

DIGEST = "sha256:" + "ab" * 32
HOME = Path("/home")


def places(setting: str = "") -> Places:
    return Places(setting, HOME, FolderBlobs(HOME / "blobs"))


async def found(where: Places, definition: Definition, tenant: str = "acme") -> Place:
    async with where.of(tenant, definition) as place:
        return place


def files(pattern: str) -> FilesSource:
    return FilesSource(FileFormat.TEXT, pattern)


@pytest.mark.parametrize(
    ("definition", "place"),
    [
        (files("logs/*.log"), Place(HOME / "import/acme", ("logs", "*.log"))),
        (files("/home/import/acme/a.log"), Place(HOME / "import/acme", ("a.log",))),
        (SqlSource("sqlite:///x/a.db", "t", "id"), Place(HOME / "import/acme", ("x", "a.db"))),
        (SqlSource("sqlite:////home/import/acme/a.db", "t", "id"), Place(HOME / "import/acme", ("a.db",))),
    ],
)
async def test_a_source_lies_in_its_tenants_folder(definition: Definition, place: Place) -> None:
    assert await found(places(), definition) == place
    assert Place.from_json(orjson.loads(orjson.dumps(place.to_json()))) == place


@pytest.mark.parametrize(
    ("definition", "code"),
    [
        (files("/home/import/umbrella/a.log"), Code.EGRESS_DENIED),
        (SqlSource("sqlite:////home/data.db", "t", "id"), Code.EGRESS_DENIED),
        (files("../umbrella/a.log"), Code.INVALID_VALUE),
        (files("**/a.log"), Code.INVALID_VALUE),
        (files("?" * 11), Code.INVALID_VALUE),
        (FilesSource(FileFormat.CSV, upload_digest="sha256:../../x"), Code.INVALID_VALUE),
        (FilesSource(FileFormat.CSV, upload_digest=DIGEST.upper()), Code.INVALID_VALUE),
    ],
)
async def test_a_source_elsewhere_is_refused(definition: Definition, code: Code) -> None:
    with pytest.raises(Failure) as caught:
        await found(places(), definition)
    assert caught.value.code is code


async def test_an_upload_is_its_blob(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    digest = await blobs.put("acme", b"a,b")
    where, upload = Places("", HOME, blobs), FilesSource(FileFormat.CSV, upload_digest=digest)
    place = await found(where, upload)

    assert place.root.joinpath(*place.steps).read_bytes() == b"a,b"
    with pytest.raises(Failure, match="there is no sha256"):
        await found(where, upload, "umbrella")
    blobs.close()


async def test_a_file_name_of_a_database_is_no_pattern() -> None:
    """SQLite files may have any name; only files are matched."""
    assert (await found(places(), SqlSource("sqlite:///**.db", "t", "id"))).steps == ("**.db",)


async def test_folders_of_the_operator_replace_the_import_folder() -> None:
    where = places("/in/{tenant}:/open")
    assert (await found(where, files("a.log"))).root == Path("/in/acme")
    assert (await found(where, files("/open/a.log"), "umbrella")).root == Path("/open")
    for path in ("/in/umbrella/a.log", "/home/import/acme/a.log"):
        with pytest.raises(Failure) as caught:
            await found(where, files(path))
        assert caught.value.code is Code.EGRESS_DENIED


@pytest.mark.parametrize(
    ("setting", "path", "owned"),
    [
        ("", "import/acme/x.db", True),
        ("/home/{tenant}", "acme/x.db", True),
        ("/home/{tenant}:/home/other", "acme/x.db", True),
        ("/home/all", "all/x.db", False),
        ("/home/{tenant}:/home", "acme/x.db", False),
        ("/home:/home/{tenant}", "acme/x.db", False),
        ("/home/{tenant}:/home/acme/all", "acme/all/x.db", False),
    ],
)
async def test_a_file_that_a_folder_of_all_tenants_has_is_nobodys_own(setting: str, path: str, owned: bool) -> None:
    where = places(setting)
    place = await found(where, SqlSource(f"sqlite:////home/{path}", "t", "id"))
    assert where.owns("acme", place) is owned
