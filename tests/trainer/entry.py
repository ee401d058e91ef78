"""The entry of the work of test_runner.py, on whatever runs it."""

import os
import socket
import sys
import time
from pathlib import Path

from services.kit.child import Child, Json
from services.kit.errors import Code, Failure


def main(request: Json, child: Child) -> Json:
    """Does as it is asked."""
    match request["do"]:
        case "copy":
            print("printed where a library would", flush=True)
            child.progress({"read": Path(request["graph"]).read_text()})
            text = "".join(Path(file).read_text() for file in request["files"])
            (Path(request["folder"]) / "copy.txt").write_text(text)
            return {"files": {"copy.txt": "text/plain"}}
        case "describe":
            return {"files": {}, **_describe()}
        case "refuse":
            raise Failure(Code.FAILED_PRECONDITION, "no row to train on")
        case "die":
            print("dying", file=sys.stderr, flush=True)
            os._exit(3)
        case "signal":
            os.kill(os.getpid(), request["number"])
        case "grow":
            held = [bytearray(os.urandom(2**20)) for _ in range(request["mib"])]
            time.sleep(5)
            return {"files": {}, "held": len(held)}
        case "claim":
            return {"files": {"../../escaped": "text/plain", "link": "text/plain"}}
    child.progress({"waiting": True})
    time.sleep(120)
    return {"files": {}}


def _describe() -> Json:
    return {
        "user": os.getuid(),
        "environment": sorted(os.environ),
        "interfaces": [name for _, name in socket.if_nameindex()],
        "root": _writes("/app/x") or _writes("/x"),
        "capabilities": next(line for line in Path("/proc/self/status").read_text().splitlines() if "CapEff" in line),
        "privileges": "NoNewPrivs:\t1" in Path("/proc/self/status").read_text(),
    }


def _writes(path: str) -> bool:
    try:
        Path(path).write_text("x")
    except OSError:
        return False
    return True
