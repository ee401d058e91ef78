import importlib.util
import subprocess
import sys
from pathlib import Path

from aimass import contract

ROOT = Path(__file__).parents[2]


def test_every_public_method_can_be_called_and_says_what_it_does() -> None:
    for name, methods in contract.services().items():
        for method in methods.values():
            assert method.route.startswith("/v1/"), method.name
            assert method.service == name
            assert contract.comments().get(method.descriptor.full_name), method.descriptor.full_name


def test_methods_that_services_keep_to_themselves_are_not_there() -> None:
    assert "workers" not in contract.services()
    assert "snapshot_releases" not in contract.services()["releases"]


def test_every_list_has_an_iterator_of_its_own() -> None:
    for methods in contract.services().values():
        iterators = [method.iterator for method in methods.values() if method.items]
        assert len(set(iterators)) == len(iterators)
        assert not set(iterators) & set(methods)


def test_the_types_of_the_client_are_fresh(tmp_path: Path) -> None:
    place = importlib.util.spec_from_file_location("stubs", ROOT / "sdk/tools/stubs.py")
    assert place
    assert place.loader
    stubs = importlib.util.module_from_spec(place)
    place.loader.exec_module(stubs)
    for prefix, name in (("", "services.pyi"), ("Async", "async_services.pyi")):
        (tmp_path / name).write_text(stubs.text(prefix))
    command = [sys.executable, "-m", "ruff", "format", "--quiet", "--no-cache", "--isolated", "--line-length", "120"]
    subprocess.run([*command, str(tmp_path)], check=True)
    for made in tmp_path.iterdir():
        assert made.read_text() == (ROOT / "sdk/aimass" / made.name).read_text(), "make proto writes them anew"


def test_the_client_needs_no_server_and_no_heavy_package() -> None:
    code = "import sys, aimass; aimass.Client; aimass.AsyncClient; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT / "sdk")}
    ).stdout.split()
    heavy = {"services", "grpc", "tritonclient", "pyarrow", "sqlalchemy", "typer", "rich", "pandas"}
    assert heavy & set(loaded) <= {"grpc"}


def test_the_messages_alone_load_neither_http_nor_numpy() -> None:
    code = "import sys, aimass.v1.models_pb2; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT / "sdk")}
    ).stdout.split()
    assert not {"httpx2", "numpy", "orjson"} & set(loaded)
