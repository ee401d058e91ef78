"""LitServe, one worker, with its batching: `python lit.py graph port`."""

import sys
from pathlib import Path
from typing import Any

import litserve  # type: ignore[import-not-found]
import numpy as np
import onnxruntime


class Bench(litserve.LitAPI):  # type: ignore[misc]
    """Decodes the protocol's JSON, runs rows together, encodes."""

    def setup(self, device: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        graph = Path(sys.argv[1]).read_bytes()
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def decode_request(self, request: dict[str, Any]) -> Any:
        asked = request["inputs"][0]
        return np.array(asked["data"], np.float32).reshape(asked["shape"])

    def batch(self, inputs: list[Any]) -> Any:
        return np.concatenate(inputs)

    def predict(self, rows: Any) -> Any:
        return self.session.run(None, {"x": rows})[0]

    def unbatch(self, output: Any) -> list[Any]:
        return [output[place : place + 1] for place in range(len(output))]

    def encode_response(self, output: Any) -> dict[str, Any]:
        found = {"name": "probability", "datatype": "FP32", "shape": output.shape, "data": output.ravel().tolist()}
        return {"model_name": "bench", "model_version": "1", "outputs": [found]}


if __name__ == "__main__":
    api = Bench(max_batch_size=64, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
