"""The peer: the same graph in bare uvicorn and ONNX Runtime, with nothing in front of it and nothing behind."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson


def application(model: Path) -> Any:
    """The smallest ASGI application that answers with the graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.read_bytes(), options, providers=["CPUExecutionProvider"])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        asked = orjson.loads(body)["inputs"][0]
        rows = np.array(asked["data"], dtype=np.float32).reshape(asked["shape"])
        (found,) = session.run(None, {"x": rows})
        outputs = [{"name": "probability", "datatype": "FP32", "shape": found.shape, "data": found.ravel()}]
        content = orjson.dumps(
            {"model_name": "bench", "model_version": "1", "outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY
        )
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    return app


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(
        application(Path(sys.argv[1])),
        port=int(sys.argv[2]),
        http="httptools",
        loop="uvloop",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
