"""Valid HTTP requests of every kind of door: what damages are done to."""

import gzip
import json
import random
import struct
from typing import NamedTuple

Pairs = tuple[tuple[bytes, bytes], ...]
_JSON = (b"Content-Type", b"application/json")
_BYTES = (b"Content-Type", b"application/octet-stream")


class Seed(NamedTuple):
    """A request without what says who sends it; `weight` is how often it comes."""

    method: bytes
    target: bytes
    headers: Pairs = ()
    body: bytes = b""
    weight: int = 4


def rows(name: str = "x", columns: int = 4, **more: object) -> bytes:
    """A prediction of one row, in JSON."""
    tensor = {"name": name, "datatype": "FP32", "shape": [1, columns], "data": [0.25 * n for n in range(columns)]}
    return json.dumps({"inputs": [tensor], **more}).encode()


def binary(columns: int = 4, wanted: bool = True) -> tuple[bytes, int]:
    """The same with binary tensors, and the length of its JSON."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, columns], "parameters": {"binary_data_size": 4 * columns}}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": wanted}}).encode()
    return text + struct.pack(f"<{columns}f", *range(columns)), len(text)


def seeds(upload: str) -> list[Seed]:
    """All kinds; `upload` is one that is under way."""
    return [*_reads(), *_streams(), *_writes(upload), *_predictions(), *_odd()]


def _reads() -> list[Seed]:
    paths = (b"/v1/whoami", b"/v1/models", b"/v1/models/m", b"/v1/models/m/versions/1", b"/v1/models/m/release")
    more = (b"/v1/models?page_size=2&order_by=model", b"/v1/roles?page_token=AAAA", b"/v1/api-keys", b"/v1/usage")
    logs = (
        b"/v1/logs?query=status%3A200&page_size=3",
        b"/v1/logs:count",
        b"/v1/traces/none",
        b"/v1/policies/decisions",
    )
    pages = (b"/", b"/docs", b"/docs/start.js", b"/v1/login", b"/health/ready", b"/v1/receipt-key")
    found = [Seed(b"GET", path) for path in (*paths, *more, *logs)]
    found += [Seed(b"GET", path, weight=1) for path in pages]
    return [*found, Seed(b"HEAD", b"/v1/models"), Seed(b"GET", b"/v1/models/n%C3%A4h%2Fe", ((b"Accept", b"*/*"),))]


def _streams() -> list[Seed]:
    events, lines = (b"Accept", b"text/event-stream"), (b"Accept", b"application/x-ndjson")
    none = b"/v1/operations/registry-01890000-0000-7000-8000-000000000000"
    return [
        Seed(b"GET", b"/v1/logs:tail", (events,), weight=1),
        Seed(b"GET", b"/v1/logs:tail?query=severity%3AERROR", (lines,), weight=1),
        Seed(b"GET", none + b":stream", (events, (b"Last-Event-ID", b"7"))),
        Seed(b"GET", none + b":wait"),
    ]


def _writes(upload: str) -> list[Seed]:
    named = (b"Idempotency-Key", b"again-7")
    put, tag = b"/v1/artifacts/uploads/" + upload.encode(), (b"If-Match", b'"1"')
    return [
        Seed(b"POST", b"/v1/models", (_JSON, named), b'{"model":"made","description":"x"}'),
        Seed(b"POST", b"/v1/roles", (_JSON,), b'{"role":"made","permissions":["models.*"],"description":"M"}'),
        Seed(b"PATCH", b"/v1/roles/made", (_JSON, tag), b'{"description":"N","update_mask":"description"}'),
        Seed(b"DELETE", b"/v1/roles/none", (tag,)),
        Seed(b"POST", b"/v1/models/none:rollback", (_JSON,), b'{"reason":"worse"}'),
        Seed(b"POST", b"/v1/models/m/versions", (_JSON,), b'{"files":[{"name":"model.onnx","digest":"sha256:00"}]}'),
        Seed(
            b"POST",
            b"/v1/sources:preview",
            (_JSON,),
            b'{"sql":{"url":"sqlite:///none.db","table":"t","cursor":"id"},"records":5}',
            weight=1,
        ),
        Seed(
            b"POST", b"/v1/policies:explain", (_JSON,), b'{"request":{"permission":"models.get","object":"models/m"}}'
        ),
        Seed(b"PUT", put + b"?offset=0", (_BYTES,), bytes(range(64))),
        Seed(b"PUT", put + b"?offset=4096", (_BYTES,), b"late"),
        Seed(b"POST", put + b":commit", (_JSON,), b'{"digest":"sha256:' + b"0" * 64 + b'"}'),
        Seed(b"POST", b"/v1/models/m/outcomes", (_JSON,), b'{"outcomes":[{"request_id":"r1","value":0.5}]}', weight=2),
    ]


def _predictions() -> list[Seed]:
    body, size = binary()
    path, length = b"/v2/models/m/infer", (b"Inference-Header-Content-Length", b"%d" % size)
    hurry = (b"X-Request-Timeout", b"5")
    return [
        Seed(b"POST", path, (_JSON,), rows(), weight=12),
        Seed(b"POST", path, (_JSON, hurry), rows(id="a", outputs=[{"name": "probability"}])),
        Seed(b"POST", path, (_BYTES, length), body, weight=12),
        Seed(b"POST", b"/v2/models/m/versions/1/infer", (_BYTES, length), body),
        Seed(b"POST", b"/v2/models/none/infer", (_JSON,), rows()),
        Seed(b"GET", b"/v2"),
        Seed(b"GET", b"/v2/health/ready"),
        Seed(b"GET", b"/v2/models/m"),
        Seed(b"GET", b"/v2/models/m/versions/1/ready"),
    ]


def _odd() -> list[Seed]:
    asks = ((b"Origin", b"https://console.example"), (b"Access-Control-Request-Method", b"POST"))
    packed = gzip.compress(b'{"model":"made"}', mtime=0)
    trace = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    return [
        Seed(b"OPTIONS", b"/v1/models", (*asks, (b"Access-Control-Request-Headers", b"authorization"))),
        Seed(b"OPTIONS", b"*"),
        Seed(b"POST", b"/v1/models", (_JSON, (b"Content-Encoding", b"gzip")), packed),
        Seed(b"GET", b"/v1/whoami", ((b"Accept-Encoding", b"gzip, br;q=0.5"), (b"If-None-Match", b'"1"'), trace)),
        Seed(b"GET", b"/v1/whoami", ((b"X-Request-Id", b"own-1"), (b"X-Project", b"default"), (b"X-Receipt", b"?1"))),
        Seed(b"POST", b"/v2/models/m/infer", (_JSON, (b"Expect", b"100-continue")), rows()),
    ]


def dressed(seed: Seed, credential: Pairs, chance: random.Random) -> tuple[bytes, bytes]:
    """Head and body of a request; some bodies come in chunks."""
    headers = ((b"Host", b"localhost"), *credential, *seed.headers)
    body = seed.body
    if body and chance.random() < 0.15:
        half = len(body) // 2
        pieces = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:half], body[half:]) if piece]
        headers, body = (*headers, (b"Transfer-Encoding", b"chunked")), b"".join(pieces) + b"0\r\n\r\n"
    elif body:
        headers = (*headers, (b"Content-Length", b"%d" % len(body)))
    return head(seed.method, seed.target, headers), body


def head(method: bytes, target: bytes, headers: Pairs) -> bytes:
    """The first lines of a request, with the empty one."""
    lines = [b"%b %b HTTP/1.1" % (method, target), *(b"%b: %b" % pair for pair in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n"
