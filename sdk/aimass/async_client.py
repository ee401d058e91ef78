"""The client for asyncio."""

import asyncio
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeVar

import httpx2
from google.protobuf.message import Message

from aimass import contract, deltas, predictions, streams, transfers
from aimass.async_services import AsyncServices
from aimass.calls import Invocation, page, unary
from aimass.connection import answer_of, named, opened, request_of
from aimass.contract import Method
from aimass.exchange import Answer, Plan, Sleep, Unreachable
from aimass.failures import Failure
from aimass.files import async_files
from aimass.frames import AsyncFrame, Tables, bridged, query_of
from aimass.operations import AsyncOperationHandle
from aimass.predictions import Prediction
from aimass.receipts import Keep
from aimass.signing import Signer
from aimass.v1 import monitors_pb2, uploads_pb2

T = TypeVar("T")


class AsyncClient(AsyncServices):
    """`Client` for asyncio: calls are awaited, iterators and streams are asynchronous."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        project: str = "default",
        timeout: float | None = None,
        ca: str | None = None,
        signing: str | Signer | None = None,
        receipts: Keep | None = None,
        certificate: str | None = None,
    ) -> None:
        """As `Client`."""
        self.door, options = opened(url, key, project, ca, signing, certificate=certificate)
        self._http, self._timeout = httpx2.AsyncClient(**options), timeout
        self._keep = receipts
        self._known: dict[tuple[str, int | None], dict[str, Any]] = {}

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def run(self, plan: Plan[T]) -> T:
        """Carries out a plan: sends its requests and returns its result. Every call is one."""
        try:
            step = next(plan)
            while True:
                if isinstance(step, Sleep):
                    await asyncio.sleep(step.seconds)
                    step = plan.send(Answer(0, {}, b""))
                    continue
                try:
                    with named(self.door.url):
                        answer = answer_of(await self._http.request(**request_of(step, self._keep)), self._keep)
                except Unreachable as error:
                    step = plan.throw(error)
                else:
                    step = plan.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def _call(self, method: Method, given: Mapping[str, Any]) -> Any:
        invocation = Invocation.of(method, self._defaults(method, given))
        if method.raw:
            return self._bytes(invocation)
        return self._messages(invocation) if method.streams else self._unary(invocation)

    async def _unary(self, invocation: Invocation) -> Any:
        answer = await self.run(invocation.plan())
        return AsyncOperationHandle(self, answer) if invocation.method.long_work else answer

    async def _iterate(self, method: Method, given: Mapping[str, Any]) -> AsyncIterator[Message]:
        token = None
        while token != "":
            items, token = await self.run(page(method, self._defaults(method, given), token or ""))
            for item in items:
                yield item

    def _defaults(self, method: Method, given: Mapping[str, Any]) -> dict[str, Any]:
        own = "timeout" in method.takes.fields_by_name
        return {"timeout": self._timeout, **given} if self._timeout and not own else dict(given)

    async def _bytes(self, invocation: Invocation) -> AsyncIterator[bytes]:
        async with self._open(invocation, "*/*") as response:
            async for content in response.aiter_bytes():
                yield content

    async def _messages(self, invocation: Invocation) -> AsyncIterator[Message]:
        async with self._open(invocation, streams.NDJSON) as response:
            async for line in response.aiter_lines():
                if line:
                    yield streams.message(invocation.method, line)

    def _open(self, invocation: Invocation, accept: str) -> Any:
        return streams.opened_async(self._http, self.door.url, invocation.request(accept), invocation.budget)

    async def operation(self, operation: str) -> AsyncOperationHandle[Any]:
        """A handle for the operation with this id."""
        return AsyncOperationHandle(self, await self.run(unary("operations", "get_operation", operation=operation)))

    async def upload(
        self,
        source: str | Path | bytes | BinaryIO,
        to: str = "sources",
        upload: str | None = None,
        progress: transfers.Progress | None = None,
    ) -> uploads_pb2.Upload:
        """As `Client.upload`; the file itself is read in this thread, a chunk at a time."""
        if isinstance(source, str | Path):
            with open(source, "rb") as file:  # noqa: ASYNC230 - a chunk is read in milliseconds
                return await self.run(transfers.upload(file, to, upload, progress))
        opened_file = io.BytesIO(source) if isinstance(source, bytes) else source
        return await self.run(transfers.upload(opened_file, to, upload, progress))

    async def download(
        self,
        digest: str | None = None,
        run: str | None = None,
        artifact: str | None = None,
        to: str | Path | None = None,
        tries: int = 5,
        data_set: str | None = None,
    ) -> bytes | Path:
        """As `Client.download`."""
        service, name, arguments = transfers.place(digest, run, artifact, data_set)
        target = transfers.Download(Path(to) if to else None, digest)
        try:
            for left in reversed(range(tries)):
                try:
                    given = {**arguments, "offset": target.offset}
                    async for content in self._bytes(Invocation.of(contract.method(service, name), given)):
                        target.write(content)
                    return target.finish()
                except Failure as failure:
                    if failure.code == "wrong_offset" and target.offset and left:
                        target.restart()
                        continue
                    if failure.code != "unavailable" or not left:
                        raise
                    await asyncio.sleep(failure.retry_after or 0.2)
            raise AssertionError("unreachable")
        finally:
            target.close()

    def files(self, data_set: str, digests: Sequence[str] = ()) -> AsyncIterator[tuple[str, bytes]]:
        """As `Client.files`."""
        ask = self.attachments.stream_attachments
        return async_files(lambda left, after: ask(data_set=data_set, digests=left, after=after), digests)

    def query(self, sql: str, tables: Tables, **given: Any) -> AsyncFrame:
        """As `Client.query`; the methods of the frame are awaited."""
        return AsyncFrame(lambda: self.exports.stream_query(**query_of(sql, tables, given)))

    def rows(self, data_set: str, version: int = 0, **given: Any) -> AsyncFrame:
        """As `Client.rows`."""
        return AsyncFrame(lambda: self.exports.stream_version(data_set=data_set, version=version, **given))

    async def save_delta(self, data_set: str, to: str | Path, version: int = 0, **given: Any) -> Path:
        """As `Client.save_delta`."""
        given = {"data_set": data_set, "version": version, **given}
        async with bridged(self.exports.stream_delta_table(**given)) as pieces:
            return await asyncio.to_thread(deltas.unpack, lambda: pieces, Path(to))

    async def predict(
        self,
        model: str,
        columns: Mapping[str, Any] | None = None,
        rows: Sequence[Mapping[str, Any]] | None = None,
        version: int | None = None,
        request_id: str | None = None,
    ) -> Prediction:
        """As `Client.predict`."""
        given = predictions.columns_of(columns, rows)
        return await self.run(predictions.ask(model, version, given, request_id, self._known))

    async def record_outcomes(
        self, model: str, request_id: str, values: Sequence[float]
    ) -> monitors_pb2.RecordOutcomesResponse:
        """As `Client.record_outcomes`."""
        return await self.run(predictions.record(model, request_id, values))
