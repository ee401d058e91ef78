"""MLServer with a runtime of one's own: `python ml.py graph port port port`."""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from mlserver import MLModel  # type: ignore[import-not-found]
from mlserver.codecs import NumpyCodec  # type: ignore[import-not-found]
from mlserver.types import InferenceRequest, InferenceResponse  # type: ignore[import-not-found]


class Bench(MLModel):  # type: ignore[misc]
    """Its codec reads the rows and writes the answer."""

    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        graph = Path(os.environ["BENCH_GRAPH"]).read_bytes()
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        found: Any = self.session.run(None, {"x": rows})[0]
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("probability", found)])


if __name__ == "__main__":
    ports = dict(zip(("http_port", "grpc_port", "metrics_port"), map(int, sys.argv[2:5]), strict=True))
    folder = Path(tempfile.mkdtemp())
    settings = {"host": "127.0.0.1", "parallel_workers": 0, "debug": False, "use_structured_logging": False} | ports
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps({"name": "bench", "implementation": "ml.Bench"}))
    os.environ |= {"BENCH_GRAPH": sys.argv[1], "PYTHONPATH": str(Path(__file__).parent)}
    os.execv(Path(sys.executable).parent / "mlserver", ["mlserver", "start", str(folder)])
