"""The shape of the code, checked: who may import whom, how long things may be, and what only one module may touch."""

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from services import SERVICES

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "services").rglob("*.py"))
SOURCES = [path for path in FILES if "migrations" not in str(path) and "alembic" not in path.parts]
# Our own modules that a module of a service or slice may import, by the name of the module; kit is said below.
LAYERS = {
    "config": set[str](),
    "domain": {"domain"},
    "events": {"domain", "events"},
    "store": {"domain", "store", "database", "schema"},
    "service": {"api"},  # refused, see below
    "api": {"store", "app", "database", "config"},  # refused
}
REFUSED = {"service", "api"}  # for these the set says what they may NOT import
# What of kit a module may use; everything where nothing is said.
KIT = {
    "config": {"config"},
    "domain": {"errors", "resources", "tensors"},
    "events": {"bus", "auth", "timestamps"},
}
# Raw modules and the only place of ours that may import them (RELIABILITY S22).
CHOKE = {
    "pickle": (),
    "joblib": (),
    "marshal": (),
    "shelve": (),
    "jinja2": (),
    "tarfile": ("services/trainer/parcels.py", "services/data/archive.py"),
    "zipfile": (),
    "yaml": (),
    "requests": (),
    "urllib.request": (),
    "subprocess": (),
    "multiprocessing": (),
    "httpx2": ("services/kit/egress.py",),
    "httpcore2": ("services/kit/egress.py",),
    "re2": ("services/kit/patterns.py",),
    "sqlglot": ("services/data/sql/", "services/data/reading/select.py"),
    "alembic": ("services/kit/migrations.py",),
}
# Who calls other services on a schedule of its own: no caller waits for it, so that it may ask again.
UNHURRIED = ("services/kit/bus_remote.py", "services/inference/registry.py", "services/trainer/workers/worker.py")
REPEATERS = {"tenacity", "backoff", "retrying", "stamina"}
BAD_NAMES = {"utils", "util", "common", "helper", "helpers", "manager", "base", "impl", "misc"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> Iterator[str]:
    """Every import as a dotted name: services.kit.bus.Event."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def ours(path: Path) -> Iterator[list[str]]:
    """Imports of our services, as parts behind `services`; the list of them is everybody's."""
    found = (found for found in imports(path) if found.startswith("services.") and found != "services.SERVICES")
    yield from (one.split(".")[1:] for one in found)


def role(path: Path) -> str:
    """What a file is: the module, or the package that a long module became."""
    for part in reversed(path.relative_to(ROOT).with_suffix("").parts):
        if part in LAYERS:
            return part
    return path.stem


def place(path: Path) -> list[str]:
    """Service, and slice where there is one."""
    return list(path.relative_to(ROOT / "services").parts[:-1])


def broken(rule: Callable[[Path], Iterator[str]], paths: Iterable[Path] = SOURCES) -> list[str]:
    """What breaks a rule, with the file that does: one test for all files, since there are hundreds of them."""
    return [f"{name(path)}: {said}" for path in paths for said in rule(path)]


def test_a_service_imports_itself_and_kit_only() -> None:
    def rule(path: Path) -> Iterator[str]:
        here = place(path)[:1]
        for owner, *_ in ours(path):
            if owner != "kit" and (not here or here == ["kit"]):
                yield f"knows {owner}, and the entry and kit know no service"
            elif owner not in ("kit", *here):
                yield f"imports {owner}; services talk through protos and events"

    assert broken(rule) == []


def test_imports_follow_the_layers() -> None:
    def rule(path: Path) -> Iterator[str]:
        kind = role(path)
        for owner, *rest in ours(path):
            if owner == "kit":
                if rest[0] not in KIT.get(kind, {rest[0]}):
                    yield f"{kind} may not use kit.{rest[0]}"
                continue
            module = next((part for part in rest if part in LAYERS), rest[0] if rest else "")
            if kind in LAYERS and foreign(path, owner, rest):
                if module not in ("service", "domain", "wire") and module in LAYERS:
                    yield f"imports {module} of {rest[0]}; slices call each other's service"
            elif module in (LAYERS.get(kind, set()) if kind in REFUSED else LAYERS.keys() - LAYERS.get(kind, LAYERS)):
                yield f"{kind} may not import {module}"

    assert broken(rule, [path for path in SOURCES if place(path) and place(path)[0] != "kit"]) == []


def test_what_a_domain_uses_of_kit_does_no_io() -> None:
    pure = sys.stdlib_module_names - {"asyncio", "io", "os", "pathlib", "socket", "ssl", "threading"}

    def rule(path: Path) -> Iterator[str]:
        for found in imports(path):
            first, *rest = found.split(".")
            kit = first == "services" and rest[0] == "kit" and rest[1] in KIT["domain"]
            if not kit and first not in pure and found != "grpc.StatusCode":
                yield f"imports {found}"

    assert broken(rule, [ROOT / f"services/kit/{module}.py" for module in KIT["domain"]]) == []


def foreign(path: Path, owner: str, rest: list[str]) -> bool:
    """Whether an import is of another slice."""
    here = place(path)
    return len(here) > 1 and bool(rest) and rest[0] not in here and (ROOT / "services" / owner / rest[0]).is_dir()


def test_dangerous_modules_have_one_door() -> None:
    def rule(path: Path) -> Iterator[str]:
        for found in imports(path):
            for raw, allowed in CHOKE.items():
                meant = found == raw or found.startswith(f"{raw}.")
                if meant and not name(path).startswith(tuple(allowed) or ("-",)):
                    yield f"{raw} is for {allowed or 'nobody'}"

    assert broken(rule) == []


def test_nothing_is_evaluated_and_no_shell_is_started() -> None:
    def rule(path: Path) -> Iterator[str]:
        for node in ast.walk(tree(path)):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in ("eval", "exec", "os.system", "os.popen", "asyncio.create_subprocess_shell"):
                yield f"calls {called}"
            launches = called.endswith("create_subprocess_exec") or called.startswith("os.spawn")
            if launches and name(path) != "services/kit/process.py":
                yield "kit.process is the only launcher"

    assert broken(rule) == []


def test_only_stores_speak_sql() -> None:
    def rule(path: Path) -> Iterator[str]:
        speaks = {found for found in imports(path) if found.split(".")[0] in ("sqlalchemy", "sqlite3", "psycopg")}
        allowed = role(path) in ("store", "database") or place(path)[:1] == ["kit"] or "connectors" in path.parts
        # What reads the SQL sources of users.
        named = name(path).startswith(
            ("services/data/sources/", "services/data/extractions/", "services/data/reading/")
        )
        if not (allowed or named or speaks <= {"sqlalchemy.engine.Connection"}):
            yield f"speaks {', '.join(speaks)}"

    assert broken(rule) == []


def test_only_config_reads_the_environment() -> None:
    allowed = {"services/kit/running.py", "services/kit/process.py", "services/kit/child.py", "services/__init__.py"}
    allowed.add("services/kit/stack/__init__.py")
    assert not [name(path) for path in SOURCES if name(path) not in allowed and "os.environ" in path.read_text()]


@cache
def lines(path: Path) -> int:
    return path.read_text().count("\n")


@cache
def functions(path: Path) -> list[int]:
    found = (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return [node.end_lineno - node.lineno + 1 for node in found if node.end_lineno]


def p90(values: list[int]) -> float:
    return statistics.quantiles(values, n=10)[-1]


def test_no_file_is_too_long() -> None:
    assert not [name(path) for path in SOURCES if lines(path) > 300]  # becomes a package of the same name


def test_no_function_is_too_long() -> None:
    assert not [name(path) for path in SOURCES if max(functions(path), default=0) > 60]


def test_a_module_of_kit_is_one_noun() -> None:
    """What every service needs is in pieces that can be read at once."""
    assert not [name(path) for path in SOURCES if place(path)[:1] == ["kit"] and lines(path) > 200]


def test_the_map_of_the_house_has_every_module_of_kit() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    modules = {path.stem for path in (ROOT / "services/kit").glob("[a-z]*.py")}
    modules |= {path.parent.name for path in (ROOT / "services/kit").glob("*/__init__.py")}

    assert not sorted(module for module in modules if f"`{module}`" not in page)


def test_each_decision_has_a_number_of_its_own() -> None:
    texts = sorted((ROOT / "docs" / "decisions").glob("*.md"))

    assert [int(path.name[:4]) for path in texts] == list(range(1, len(texts) + 1))
    assert [path.name for path in texts if not path.read_text().startswith(f"# {int(path.name[:4])}. ")] == []


def test_nothing_waits_with_a_call_that_may_lose_a_cancellation() -> None:
    waits = re.compile(r"\bwait_for\(")  # Python 3.11's; asyncio.timeout does not

    assert not [name(path) for path in SOURCES if waits.search(path.read_text())]


def tries_in_loops(path: Path) -> Iterator[int]:
    """Lines of what may be tried again: a `try` in a loop, with something that goes on behind what it caught."""
    for loop in ast.walk(tree(path)):
        if isinstance(loop, ast.While | ast.For | ast.AsyncFor):
            tries = [node for node in ast.walk(loop) if isinstance(node, ast.Try)]
            handlers = [handler for node in tries for handler in node.handlers]
            yield from (one.lineno for one in handlers if not isinstance(one.body[-1], ast.Raise | ast.Return))


def test_nobody_but_the_gateway_asks_again_on_the_way_of_a_request() -> None:
    """Where each service asks again, what breaks is asked more often the more of them there are (RELIABILITY S13).

    So no service needs to look whether the call that it answers is a repeat.
    """

    def rule(path: Path) -> Iterator[str]:
        found = list(imports(path))
        yield from (f"imports {one}" for one in found if one.partition(".")[0] in REPEATERS)
        calls = any(one.endswith("Stub") for one in found) and name(path) not in UNHURRIED
        if calls and place(path)[:1] != ["gateway"]:
            yield from (f"calls a service, and may do so again in line {line}" for line in tries_in_loops(path))

    assert broken(rule) == []
    assert not [path for path in UNHURRIED if not any(one.endswith("Stub") for one in imports(ROOT / path))]


def test_files_and_functions_are_short_as_a_rule() -> None:
    sizes = [lines(path) for path in SOURCES if lines(path)]
    bodies = [length for path in SOURCES for length in functions(path)]

    assert statistics.median(sizes) <= 100
    assert p90(sizes) <= 250
    assert statistics.median(bodies) <= 8
    assert p90(bodies) <= 25


def test_names_say_what_a_module_is() -> None:
    assert not [name(path) for path in FILES if path.stem in BAD_NAMES or path.parent.name in BAD_NAMES]


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_says_what_it_is(service: str) -> None:
    text = (ROOT / "services" / service / "README.md").read_text()

    assert all(word in text.lower() for word in ("owns", "rpcs", "publishes", "consumes", "settings", "run it alone"))


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, check=True)
    return [ROOT / found for found in listed.stdout.decode().split("\0") if found]


def test_locks_have_hashes_and_no_addresses() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text()
        pinned = re.findall(r"^[a-z0-9][^\n]*==", text, re.MULTILINE)
        assert pinned
        assert "://" not in text
        assert text.count("--hash=sha256:") >= len(pinned)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_nothing_large_and_nothing_secret_is_tracked() -> None:
    files = [path for path in tracked() if path.is_file()]

    assert not [name(path) for path in files if path.stat().st_size > 100_000 and path.parent.name != "requirements"]
    assert not [name(path) for path in files if path.suffix in (".db", ".parquet", ".onnx", ".pem", ".key")]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_there_is_as_much_test_as_source() -> None:
    source = sum(lines(path) for path in SOURCES) + sum(
        lines(path) for path in (ROOT / "sdk" / "aimass").glob("*.py") if "_pb2" not in path.name
    )
    tests = sum(lines(path) for path in (ROOT / "tests").rglob("*.py"))

    assert tests / source >= 1.0
