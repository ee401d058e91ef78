"""The public gRPC surface: every public method of the contract, forwarded to the service that owns it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import aio

from aimass.v1 import options_pb2
from aimass.v1.failure_pb2 import FailureDetail
from services.gateway.access.origin import called
from services.gateway.access_log import AccessLog, Entry
from services.gateway.admission import Admission
from services.gateway.calls import Caller, Calls, passed_metadata
from services.gateway.grpc_call import GrpcCall, current
from services.kit import telemetry
from services.kit.contract import HTTP_BODY, Method
from services.kit.errors import Code, Failure, Internal
from services.kit.fields import read
from services.kit.rpc import REPLAYED, SIZE, metadata_of
from services.kit.status import TRAILER, failure_from, refuse
from services.kit.underway import Underway

log = logging.getLogger(__name__)
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Forward(grpc.GenericRpcHandler):
    """Handlers by path. A caller without a key learns nothing, not even which methods there are."""

    def __init__(self, calls: Calls, admission: Admission, access_log: AccessLog) -> None:
        self._calls, self._admission, self._access_log = calls, admission, access_log
        self.underway = Underway()
        self._handlers = {method.path: self._handler(method) for method in calls.methods()}
        self._unknown = self._watched("unknown", grpc.stream_stream_rpc_method_handler(_nothing), True)

    def add(self, handlers: Mapping[str, Handler], asks: bool) -> None:
        """Adds handlers by path. Unless they admit their callers themselves (`asks`), it is done here."""
        for path, handler in handlers.items():
            self._handlers[path] = self._watched(path, handler, not asks)

    @property
    def paths(self) -> Collection[str]:
        """All that can be called."""
        return self._handlers.keys()

    def service(self, details: grpc.HandlerCallDetails) -> Handler:
        return self._handlers.get(details.method, self._unknown)

    def _handler(self, method: Method) -> Handler:
        async def unary(content: bytes, context: Any) -> Any:
            caller, request = await self._admit(method, content, context)
            name, tenant = f"forward {method.path[1:]}", caller.principal.scope.tenant
            with telemetry.span(name, caller.trace, telemetry.Kind.SERVER, tenant=tenant):
                reply, replayed = await self._calls.unary(method, request, caller, context.time_remaining(), bytes)
            if replayed:
                context.set_trailing_metadata(((REPLAYED, "true"),))
            return reply

        async def stream(content: bytes, context: Any) -> AsyncIterator[Any]:
            caller, request = await self._admit(method, content, context)
            async for item in self._calls.stream(method, request, caller, context.time_remaining(), bytes):
                yield item

        if method.descriptor.server_streaming:
            return self._watched(method.path, grpc.unary_stream_rpc_method_handler(stream), False)
        return self._watched(method.path, grpc.unary_unary_rpc_method_handler(unary), False)

    async def _admit(self, method: Method, content: bytes, context: Any) -> tuple[Caller, Message]:
        call, policy = current.get(), method.policy
        call.content, keyed = content, policy.effect == options_pb2.EFFECT_KEYED
        principal, request_id = await self._admission.admit(call, policy.cost or 1, policy.costly, keyed)
        large = any(f.message_type and f.message_type.full_name == HTTP_BODY for f in method.takes.fields)
        if len(content) > SIZE and not large:
            raise Failure(Code.BODY_TOO_LARGE, f"the message is larger than {SIZE // 2**20} MiB")
        request = read(GetMessageClass(method.takes).FromString, content)
        given = passed_metadata(lambda name: call.metadata.get(name, ""))
        return Caller(principal, request_id, call.peer, given, call.charge), request

    def _watched(self, path: str, handler: Handler, admit: bool) -> Handler:
        """The handler with failures turned into statuses, and a line in the access log for each call."""
        run: Any = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream

        # A single message stays bytes until its caller is admitted: a signature is over them.
        whole = handler.request_deserializer if admit and not handler.request_streaming else None

        async def single(request: Any, context: Any) -> Any:
            async with self._watch(path, context, admit, request if whole else b""):
                with self.underway.waiting():
                    reply = await run(read(whole, request) if whole else request, context)
                content = handler.response_serializer(reply) if handler.response_serializer else reply
                if receipt := await _receipt(0, content):
                    context.set_trailing_metadata((*(context.trailing_metadata() or ()), *receipt))
                return content

        async def many(request: Any, context: Any) -> AsyncIterator[Any]:
            async with self._watch(path, context, admit, request if whole else b""):
                async for item in self.underway.each(run(read(whole, request) if whole else request, context)):
                    yield item

        kinds = ["stream" if many else "unary" for many in (handler.request_streaming, handler.response_streaming)]
        make = getattr(grpc, f"{'_'.join(kinds)}_rpc_method_handler")
        streams = handler.response_streaming
        # One answer is bytes already: a receipt is over them as they go out.
        behavior, write = (many, handler.response_serializer) if streams else (single, None)
        watched: Handler = make(behavior, None if whole else handler.request_deserializer, write)
        return watched

    @contextlib.asynccontextmanager
    async def _watch(self, path: str, context: Any, admit: bool, content: bytes) -> AsyncIterator[None]:
        begun, status = time.perf_counter(), 200
        call = GrpcCall(path, metadata_of(context), context.peer(), lambda: called(context), content)
        current.set(call)
        try:
            if admit:
                await self._admission.admit(call)
            yield
        except aio.AbortError:
            status = _aborted(context)
            raise
        except Failure as failure:
            status = failure.code.http
            await refuse(context, self._admission.cleaned(call, failure), _receipt)
        except (asyncio.CancelledError, GeneratorExit):
            status = Code.CANCELLED.http
            raise
        except Exception:
            status = Code.INTERNAL.http
            log.exception("unhandled error in %s", path)
            await refuse(context, Internal("internal error"), _receipt)
        finally:
            self._note(call, status, time.perf_counter() - begun)

    def _note(self, call: GrpcCall, status: int, seconds: float) -> None:
        model, version = (self._admission.text(call, part) for part in (call.model, call.version))
        entry = Entry(call.request_id, call.principal, "GRPC", call.path, status, seconds, 0, call.peer, model, version)
        entry.degraded = call.degraded
        self._access_log.add(entry)


async def _receipt(status: int, content: bytes) -> tuple[tuple[str, str], ...]:
    """The receipt of this task's call, over its answer or the detail of its failure, as trailers; empty without one."""
    receipt = current.get().receipt
    return await receipt.trailers(status, content) if receipt else ()


async def _nothing(requests: Any, context: Any) -> AsyncIterator[Any]:
    raise Failure(Code.METHOD_NOT_ALLOWED, "there is no such method")
    yield b""


def _aborted(context: Any) -> int:
    """The HTTP status of the failure with which a handler ended its call."""
    for key, value in context.trailing_metadata() or ():
        if key == TRAILER:
            return failure_from(FailureDetail.FromString(value), "").code.http
    return Code.INTERNAL.http
