"""The client."""

import io
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeVar

import httpx2
from google.protobuf.message import Message

from aimass import contract, deltas, predictions, streams, transfers
from aimass.calls import Invocation, page, unary
from aimass.connection import answer_of, named, opened, request_of
from aimass.contract import Method
from aimass.exchange import Answer, Plan, Sleep, Unreachable
from aimass.failures import Failure
from aimass.files import files
from aimass.frames import Frame, Tables, query_of
from aimass.operations import OperationHandle
from aimass.predictions import Prediction
from aimass.receipts import Keep
from aimass.services import Services
from aimass.signing import Signer
from aimass.v1 import monitors_pb2, uploads_pb2

T = TypeVar("T")


class Client(Services):
    """All methods of the gateway: `client.models.get_model(model="late")`.

    Arguments are keywords, named as in the contract; answers are messages of the contract. Calls raise
    `aimass.Failure`. Lists have an iterator over all pages (`client.models.iterate_models()`); long-running work
    returns an `OperationHandle`. Updates and deletions need `etag=`, as last read. Every call takes `timeout=` in
    seconds, for itself and its retries. A client may be used by several threads.
    """

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
        """Address and key default to AIMASS_URL and AIMASS_KEY, else `aimass login`, else the installation here.

        `ca` is a PEM file with the authority of the gateway's certificate; AIMASS_CA or the system's if unset.
        `signing` signs every request instead of sending a key: a `Signer`, or a text for `Signer.named`;
        AIMASS_SIGNING if neither it nor `key` is given. `receipts` is called with the receipt of each answer that
        does not stream, and the bytes of request and answer. `certificate` is a PEM file with a client certificate
        and its private key; `key` may then be the id of a key. Raises Failure `no_key` if there is no key.
        """
        self.door, options = opened(url, key, project, ca, signing, certificate=certificate)
        self._http, self._timeout = httpx2.Client(**options), timeout
        self._keep = receipts
        self._known: dict[tuple[str, int | None], dict[str, Any]] = {}

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def run(self, plan: Plan[T]) -> T:
        """Carries out a plan: sends its requests and returns its result. Every call is one."""
        try:
            step = next(plan)
            while True:
                if isinstance(step, Sleep):
                    time.sleep(step.seconds)
                    step = plan.send(Answer(0, {}, b""))
                    continue
                try:
                    with named(self.door.url):
                        answer = answer_of(self._http.request(**request_of(step, self._keep)), self._keep)
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
        if method.streams:
            return self._messages(invocation)
        answer = self.run(invocation.plan())
        return OperationHandle(self, answer) if method.long_work else answer

    def _iterate(self, method: Method, given: Mapping[str, Any]) -> Iterator[Message]:
        token = None
        while token != "":
            items, token = self.run(page(method, self._defaults(method, given), token or ""))
            yield from items

    def _defaults(self, method: Method, given: Mapping[str, Any]) -> dict[str, Any]:
        own = "timeout" in method.takes.fields_by_name
        return {"timeout": self._timeout, **given} if self._timeout and not own else dict(given)

    def _bytes(self, invocation: Invocation) -> Iterator[bytes]:
        with self._open(invocation, "*/*") as response:
            yield from response.iter_bytes()

    def _messages(self, invocation: Invocation) -> Iterator[Message]:
        with self._open(invocation, streams.NDJSON) as response:
            for line in response.iter_lines():
                if line:
                    yield streams.message(invocation.method, line)

    def _open(self, invocation: Invocation, accept: str) -> Any:
        return streams.opened(self._http, self.door.url, invocation.request(accept), invocation.budget)

    def operation(self, operation: str) -> OperationHandle[Any]:
        """A handle for the operation with this id."""
        return OperationHandle(self, self.run(unary("operations", "get_operation", operation=operation)))

    def upload(
        self,
        source: str | Path | bytes | BinaryIO,
        to: str = "sources",
        upload: str | None = None,
        progress: transfers.Progress | None = None,
    ) -> uploads_pb2.Upload:
        """Uploads a file or bytes to `sources` or `artifacts`; the answer has the digest.

        A broken connection costs one chunk. `upload` is the id of an upload to continue. `progress` is called with
        the bytes sent and the bytes in total. Raises Failure.
        """
        if isinstance(source, str | Path):
            with open(source, "rb") as file:
                return self.run(transfers.upload(file, to, upload, progress))
        opened_file = io.BytesIO(source) if isinstance(source, bytes) else source
        return self.run(transfers.upload(opened_file, to, upload, progress))

    def download(
        self,
        digest: str | None = None,
        run: str | None = None,
        artifact: str | None = None,
        to: str | Path | None = None,
        tries: int = 5,
        data_set: str | None = None,
    ) -> bytes | Path:
        """Downloads an artifact by digest, a file of a data set by digest, or a run's file by name: into the file `to`,
        else into memory.

        Resumes after a broken connection. Raises Failure: digest_mismatch if the bytes have another digest.
        """
        service, name, arguments = transfers.place(digest, run, artifact, data_set)
        target = transfers.Download(Path(to) if to else None, digest)
        try:
            for left in reversed(range(tries)):
                try:
                    given = {**arguments, "offset": target.offset}
                    for content in self._bytes(Invocation.of(contract.method(service, name), given)):
                        target.write(content)
                    return target.finish()
                except Failure as failure:
                    if failure.code == "wrong_offset" and target.offset and left:
                        target.restart()
                        continue
                    if failure.code != "unavailable" or not left:
                        raise
                    time.sleep(failure.retry_after or 0.2)
            raise AssertionError("unreachable")
        finally:
            target.close()

    def files(self, data_set: str, digests: Sequence[str] = ()) -> Iterator[tuple[str, bytes]]:
        """Digest and bytes of files of a data set: of these digests in their order, at most 1,000, or of all by digest.

        They come in one stream, which is gone on with after a broken connection. Raises Failure.
        """
        ask = self.attachments.stream_attachments
        return files(lambda left, after: ask(data_set=data_set, digests=left, after=after), digests)

    def query(self, sql: str, tables: Tables, **given: Any) -> Frame:
        """The rows of a SELECT, as a data frame: `client.query("SELECT id FROM flights", "flights").to_arrow()`.

        `tables` are the data sets that it reads: a name, names, or by their names in the query a data set, one with the
        number of a version (`{"old": ("flights", 1)}`), or fields of `QueryTable`. Further arguments are those of
        `exports.stream_query`.
        """
        return Frame(lambda: self.exports.stream_query(**query_of(sql, tables, given)))

    def rows(self, data_set: str, version: int = 0, **given: Any) -> Frame:
        """The rows of a version of a data set, the newest for 0, to be read as a data frame: `.to_pandas()`.

        Further arguments are those of `exports.stream_version`: columns, tag, as_of, max_rows.
        """
        return Frame(lambda: self.exports.stream_version(data_set=data_set, version=version, **given))

    def save_delta(self, data_set: str, to: str | Path, version: int = 0, **given: Any) -> Path:
        """Saves a version of a data set, the newest for 0, as a Delta table in a new folder, and returns that.

        The folder is there when the table is complete. Further arguments are those of `exports.stream_delta_table`.
        Raises Failure: `already_exists` for a folder that is there.
        """
        given = {"data_set": data_set, "version": version, **given}
        return deltas.unpack(lambda: self.exports.stream_delta_table(**given), Path(to))

    def predict(
        self,
        model: str,
        columns: Mapping[str, Any] | None = None,
        rows: Sequence[Mapping[str, Any]] | None = None,
        version: int | None = None,
        request_id: str | None = None,
    ) -> Prediction:
        """Predicts for columns (`{"hour": [7, 9]}`) or rows (`[{"hour": 7}]`); None is a missing value.

        A datetime is a number for a model, in seconds since 1970, and so is a text like `2026-03-01T12:00:00Z` for an
        input of numbers; a datetime without a zone is of the local one, a text without one is refused.

        Without `version` the release chooses one. Outcomes are recorded by the answer's `request_id`. Raises Failure.
        """
        given = predictions.columns_of(columns, rows)
        return self.run(predictions.ask(model, version, given, request_id, self._known))

    def record_outcomes(
        self, model: str, request_id: str, values: Sequence[float]
    ) -> monitors_pb2.RecordOutcomesResponse:
        """Records what really happened, for each row of a prediction request. Recording it twice counts once."""
        return self.run(predictions.record(model, request_id, values))
