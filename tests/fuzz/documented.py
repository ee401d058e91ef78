"""Requests made up from the OpenAPI document, as it says they must be and not quite so; answers held against it."""

import asyncio
import json
import random
import re
import socket
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, NamedTuple
from urllib.parse import urlencode

import jsonschema_rs
import orjson
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.errors import HypothesisException
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from tests.fuzz import wire
from tests.fuzz.judging import judged
from tests.fuzz.seeds import head
from tests.fuzz.target import NAMES, Target, Wrong

EACH = 20  # requests of one operation in a row
_MORE = 24  # that are asked for, as not all differ
_PROCESSES = 2
_PATIENCE = 60.0  # seconds
_A_WHILE = 0.3  # seconds that one reads what has no end
_MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}\Z")
_TENANTS = tuple(name for name in NAMES if name != "default")
_TIDY = re.compile(rb"[\x00-\x20\x7f]")


class Task(NamedTuple):
    """Some requests of one operation."""

    number: int
    seed: int
    port: int
    key: str
    admin: str


class Done(NamedTuple):
    """What came of a task: answers by status, and what was wrong with which bytes."""

    said: Counter[str]
    wrong: list[tuple[str, bytes]]


class Documented:
    """Fires them from processes of their own: making them up costs more than sending them."""

    def __init__(self, target: Target, seed: int, wrong: Wrong) -> None:
        self._target, self._seed, self._wrong = target, seed, wrong
        self.said: Counter[str] = Counter()
        document = target.get("/openapi.json").content
        self._pool = ProcessPoolExecutor(_PROCESSES, get_context("spawn"), _begin, (document,))

    async def fire(self, first: int, end: int) -> None:
        """About as many as there are numbers from `first` to `end`."""
        target, loop = self._target, asyncio.get_running_loop()
        same = self._seed, target.port, target.key, target.admin
        tasks = [Task(number, *same) for number in range(first // EACH, -(-end // EACH))]
        for task, done in zip(
            tasks, await asyncio.gather(*(loop.run_in_executor(self._pool, _fire, task) for task in tasks)), strict=True
        ):
            self.said += done.said
            for what, data in done.wrong:
                self._wrong(task.number * EACH, what, data)

    def close(self) -> None:
        self._pool.shutdown()


class _Operations:
    """What a process knows of the document."""

    def __init__(self, document: dict[str, Any]) -> None:
        found = (
            one.ok() for one in schemathesis.openapi.from_dict(document).get_all_operations() if isinstance(one, Ok)
        )
        self.all = sorted(found, key=lambda one: (one.method != "post", str(one.label)))
        self._document, self._rules = document, dict[tuple[str, str], Any]()

    def unlike(self, label: str, raw: Any, answer: wire.Answer) -> str:
        """How an answer differs from what the document says of its operation; empty if not."""
        documented = raw["responses"].get(str(answer.status)) or (
            raw["responses"].get("default") if answer.status >= 400 else None
        )
        if documented is None:
            return f"{label} has no answer {answer.status}: {answer.body[:200]!r}"
        kinds = self._shown(documented).get("content", {})
        kind = answer.headers.get(b"content-type", b"").decode().partition(";")[0]
        if kind not in kinds and "*/*" not in kinds:
            return f"{label} answers {answer.status} with {kind}, not with {', '.join(kinds)}"
        if not kind.endswith("json") or "*/*" in kinds:
            return ""
        rules = self._rule(label, str(answer.status), kinds[kind]["schema"])
        found = next(rules.iter_errors(orjson.loads(answer.body)), None)
        return f"{label} answers {answer.status} with another shape: {str(found)[:500]}" if found else ""

    def _shown(self, said: dict[str, Any]) -> dict[str, Any]:
        shown: dict[str, Any] = said
        for part in said.get("$ref", "").split("/")[1:]:
            shown = self._document[part] if shown is said else shown[part]
        return shown

    def _rule(self, label: str, status: str, schema: dict[str, Any]) -> Any:
        if (label, status) not in self._rules:
            whole = schema | {"components": self._document["components"]}
            self._rules[label, status] = jsonschema_rs.Draft202012Validator(whole)
        return self._rules[label, status]


_operations: _Operations


def _begin(document: bytes) -> None:
    global _operations
    _operations = _Operations(json.loads(document))


def _fire(task: Task) -> Done:
    """Runs in a process of the pool."""
    count = len(_operations.all)
    operation, mode = _operations.all[task.number % count], _MODES[task.number // count % 2]
    chance, done = random.Random(task.seed << 40 | task.number), Done(Counter(), [])
    line = _Line(task.port)

    @seeded(task.seed << 32 | task.number)
    @settings(
        max_examples=_MORE,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def one(case: Any) -> None:
        key = task.admin if operation.path.startswith("/v1/tenants") else task.key
        data = request(case, key, chance)
        raw = operation.definition.raw
        answer = line.ask(data, streams="text/event-stream" in str(raw["responses"]))
        done.said[str(answer.status) if answer else "silence"] += 1
        if answer is None:
            done.wrong.append((f"{operation.label} was not answered", data))
        elif what := judged(answer, data, True, set()) or _operations.unlike(operation.label, raw, answer):
            done.wrong.append((what, data))

    try:
        one()
    except HypothesisException:
        pass  # there is no such request: nothing can be wrong in one that has no parts
    finally:
        line.close()
    return done


def request(case: Any, key: str, chance: random.Random) -> bytes:
    """The bytes of a made up request. Many of the names in it are of the few that are in use."""
    names = _TENANTS if case.path.startswith("/v1/tenants") else NAMES
    for name, value in (case.path_parameters or {}).items():
        case.path_parameters[name] = _known(name, value, names, chance)
    body = b"" if isinstance(case.body, type(schemathesis.core.NOT_SET)) else case.body
    if isinstance(body, dict):
        body = {name: _known(name, value, names, chance) for name, value in body.items()}
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()  # unlike faster writers it writes numbers of any size
    own = {str(name).lower(): str(value).strip() for name, value in (case.headers or {}).items()}
    if "if-match" in own and chance.random() < 0.7:
        own["if-match"] = f'"{chance.choice((1, 1, 1, 2, 3))}"'
    kept = {name: value for name, value in own.items() if value.isprintable() and name != "authorization"}
    pairs = [(name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in kept.items()]
    if body:
        pairs.append((b"content-type", str(case.media_type or "application/json").encode()))
        pairs.append((b"content-length", b"%d" % len(body)))
    query = urlencode({name: value for name, value in (case.query or {}).items() if not isinstance(value, dict)}, True)
    target = _TIDY.sub(b"", f"{case.formatted_path}{'?' if query else ''}{query}".encode("ascii", "replace"))
    always = ((b"Host", b"localhost"), (b"Authorization", b"Bearer " + key.encode()))
    return head(case.method.upper().encode(), target, (*always, *pairs)) + body


def _known(name: str, value: Any, names: Sequence[str], chance: random.Random) -> Any:
    if name == "version" and chance.random() < 0.5:
        return 1 if isinstance(value, int) else "1"
    if isinstance(value, str) and _NAME.match(value) and chance.random() < 0.6:
        return chance.choice(names)
    return value


class _Line:
    """A connection that is opened again when it has to be."""

    def __init__(self, port: int) -> None:
        self._port, self._socket = port, None

    _socket: socket.socket | None

    def ask(self, data: bytes, streams: bool) -> wire.Answer | None:
        """The answer; None when the connection breaks or nothing comes. Of a stream what came in a while."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), _PATIENCE)
        came, answers = b"", list[wire.Answer]()
        try:
            self._socket.sendall(data)
            while not answers:
                self._socket.settimeout(_A_WHILE if streams and b"\r\n\r\n" in came else _PATIENCE)
                more = self._socket.recv(2**16)
                came += more
                answers, _ = wire.stream(came, bare=False)
                if not more:
                    break
        except OSError:
            pass
        if not answers or answers[0].headers.get(b"connection") == b"close":
            self.close()
        if not answers and streams and b"\r\n\r\n" in came:
            start, apart, _ = came.partition(b"\r\n\r\n")
            answers, _ = wire.stream(start + apart)
        return answers[0] if answers else None

    def close(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None
