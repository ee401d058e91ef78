"""A server that speaks Triton's protocol and runs graphs with ONNX Runtime; a test says where it answers otherwise."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import numpy
import orjson
from grpc import aio
from tritonclient.grpc import service_pb2 as pb

from services.kit import graphs

_SERVICE = "inference.GRPCInferenceService"
_METHODS = ("ServerLive", "ModelStatistics", "ModelReady", "ModelConfig", "ModelInfer", "RepositoryModelLoad")
_NAMES = {name: datatype for datatype, name in graphs.NUMPY.items()}
Instead = Callable[[Any, Any], Awaitable[None]]  # the request, its context


class Triton:
    """In this process, on the loopback. `instead` runs before a method's own answer, and may end it with a status."""

    def __init__(self) -> None:
        self.instead: dict[str, Instead] = {}
        self.asked: list[str] = []
        self._configs: dict[str, Any] = {}
        self._sessions: dict[str, Any] = {}
        self._server = aio.server()
        self.address = ""

    async def start(self) -> "Triton":
        handlers = {name: self._handler(name) for name in (*_METHODS, "RepositoryModelUnload")}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def stop(self) -> None:
        await self._server.stop(None)

    def backend(self, name: str) -> str:
        """What a version runs on; empty when it is not there."""
        return str(self._configs[name]["backend"]) if name in self._configs else ""

    async def put(self, request: Any) -> None:
        """Loads what was asked for, whether or not somebody still waits for it."""
        await self._RepositoryModelLoad(request, None)

    def _handler(self, name: str) -> Any:
        async def answer(request: Any, context: Any) -> Any:
            self.asked.append(name)
            if instead := self.instead.get(name):
                await instead(request, context)
            return await getattr(self, f"_{name}")(request, context)

        request, response = getattr(pb, f"{name}Request"), getattr(pb, f"{name}Response")
        return grpc.unary_unary_rpc_method_handler(answer, request.FromString, response.SerializeToString)

    async def _ServerLive(self, request: Any, context: Any) -> Any:
        return pb.ServerLiveResponse(live=True)

    async def _ModelStatistics(self, request: Any, context: Any) -> Any:
        return pb.ModelStatisticsResponse(model_stats=[pb.ModelStatistics(name=name) for name in self._configs])

    async def _ModelReady(self, request: Any, context: Any) -> Any:
        return pb.ModelReadyResponse(ready=request.name in self._configs)

    async def _ModelConfig(self, request: Any, context: Any) -> Any:
        reply = pb.ModelConfigResponse()
        for key, said in self._configs[request.name]["parameters"].items():
            reply.config.parameters[key].string_value = said["string_value"]
        return reply

    async def _RepositoryModelLoad(self, request: Any, context: Any) -> Any:
        self._sessions[request.model_name] = graphs.open_session(request.parameters["file:1/model.onnx"].bytes_param)
        self._configs[request.model_name] = orjson.loads(request.parameters["config"].string_param)
        return pb.RepositoryModelLoadResponse()

    async def _RepositoryModelUnload(self, request: Any, context: Any) -> Any:
        self._configs.pop(request.model_name, None)
        return pb.RepositoryModelUnloadResponse()

    async def _ModelInfer(self, request: Any, context: Any) -> Any:
        if request.model_name not in self._configs:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{request.model_name}'")
        session = self._sessions[request.model_name]
        shapes = {node.name: len(node.shape) for node in session.get_inputs()}
        feeds = {}
        for given, raw in zip(request.inputs, request.raw_input_contents, strict=True):
            values = numpy.frombuffer(raw, graphs.NUMPY[given.datatype])
            feeds[given.name] = values.reshape(tuple(given.shape)[: shapes[given.name]])
        names = [output.name for output in request.outputs]
        try:
            results = session.run(names, feeds)
        except Exception as error:  # as Triton's own back end for ONNX says it
            internal = self.backend(request.model_name) == "onnxruntime"
            code = grpc.StatusCode.INTERNAL if internal else grpc.StatusCode.INVALID_ARGUMENT
            await context.abort(code, f"{'onnx runtime error 2: ' * internal}{error}")
        reply = pb.ModelInferResponse(raw_output_contents=[result.tobytes() for result in results])
        for name, result in zip(names, results, strict=True):
            reply.outputs.add(name=name, datatype=_NAMES[result.dtype.name], shape=result.shape or (1,))
        return reply
