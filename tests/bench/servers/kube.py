"""KServe's Python server: `python kube.py graph port port`."""

import sys
from pathlib import Path
from typing import Any

import kserve  # type: ignore[import-not-found]
import numpy as np
import onnxruntime


class Bench(kserve.Model):  # type: ignore[misc]
    """Takes and gives the protocol's messages as KServe reads and writes them."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        graph = Path(sys.argv[1]).read_bytes()
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.ready = True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        rows = payload.inputs[0].as_numpy().astype(np.float32)
        found: Any = self.session.run(None, {"x": rows})[0]
        output = kserve.InferOutput("probability", list(found.shape), "FP32")
        output.set_data_from_numpy(found, binary_data=False)
        return kserve.InferResponse(payload.id or "", self.name, [output])


if __name__ == "__main__":
    model = Bench("bench")
    server = kserve.ModelServer(http_port=int(sys.argv[2]), grpc_port=int(sys.argv[3]), workers=1)
    server.start([model])
