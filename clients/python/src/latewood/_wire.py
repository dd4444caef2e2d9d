"""Requests and answers: everything that both clients share, and nothing that waits."""

from __future__ import annotations

import base64
import json
import random
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from ._errors import Error, Unreachable, error, error_of
from ._types import (
    Document,
    Found,
    Hit,
    IndexDescription,
    Info,
    InputType,
    Lines,
    Match,
    Matrix,
    Mode,
    Passage,
    Ranked,
    Rows,
    Span,
    StoredDocument,
    Task,
    TaskError,
    Timings,
    Token,
    Written,
    read,
)

try:
    import numpy
except ImportError:
    numpy = None  # type: ignore[assignment,unused-ignore]

T = TypeVar("T")

URL = "http://127.0.0.1:8765"
KEY_VARIABLE = "LATEWOOD_API_KEY"
TIMEOUT = 90.0
"""Seconds: more than the 60 that a server takes unless told otherwise, so that it is the server who says so."""
RETRY_FOR = 60.0
"""Seconds."""
BATCH = 256
"""Documents of a request."""
BATCH_BYTES = 8 << 20
"""Bytes after which a request has no more documents: a server takes 32 MB unless told otherwise."""
IDS = 10_000
"""Ids of a request."""
UNDER_WAY = 8
"""Requests to add whose documents wait to be written at the same time."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, and how to read its answer."""

    method: str
    path: str
    read: Callable[[Any], T]
    body: bytes | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    """Whether it may be sent again where it is not known what became of it."""


def encode(value: Any) -> bytes:
    """JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode()


def _plain(value: Any) -> Any:
    """Numbers and arrays of numpy, as Python has them: in metadata, for example."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON")


def headers(key: str | None) -> dict[str, str]:
    """Headers of every request."""
    given = {"accept": "application/json, text/event-stream", "user-agent": "latewood-python/0.1.0"}
    return {**given, "authorization": f"Bearer {key}"} if key else given


def kind(call: Call[Any]) -> dict[str, str]:
    """Headers of a request's body."""
    return {} if call.body is None else {"content-type": "application/json"}


def answer(call: Call[T], status: int, body: bytes) -> T:
    """What `call` was answered.

    Raises what the server said, where that was no.
    """
    if not 200 <= status < 300:
        raise error_of(status, body)
    try:
        return call.read(json.loads(body) if body else None)
    except (ValueError, TypeError, LookupError) as e:
        raise Unreachable(f"{call.path}: an answer that is not Latewood's: {e!r}", "bad_answer", status) from e


class Retries:
    """When to send a request again."""

    def __init__(self, retry_for: float) -> None:
        self._left = retry_for
        self._step = 0.25

    def pause(self, call: Call[Any], status: int, body: bytes, retry_after: str | None) -> float | None:
        """Seconds to wait before `call` is sent again after it was answered thus; none if it is not to be.

        429 is said before anything is done. 503 may come later; and a request that took too long would do so again.
        """
        again = status == 429 or (status == 503 and call.repeatable and error_of(status, body).code != "timeout")
        if not again or self._left <= 0:
            return None
        try:
            asked = max(0.0, float(retry_after or 0))
        except ValueError:  # A date: servers of Latewood give seconds.
            asked = 0.0
        pause = max(asked, self._step) * random.uniform(1.0, 1.25)
        if pause > self._left:
            return None
        self._left -= pause
        self._step = min(self._step * 2, 8.0)
        return pause


# Token embeddings.


def pack(matrix: Matrix) -> dict[str, Any]:
    """`matrix` as the server reads it: bytes in base64 and their shape."""
    if numpy is not None:
        values = numpy.asarray(matrix)
        if values.ndim != 2:
            raise ValueError(f"embeddings of {values.ndim} dimensions: one row for each token is wanted, [n, dim]")
        kind, name = ("<f2", "f16") if values.dtype == numpy.float16 else ("<f4", "f32")
        data, shape = values.astype(kind, order="C").tobytes(), list(values.shape)
    else:
        rows = [list(row) for row in matrix]  # type: ignore[union-attr,unused-ignore]
        widths = {len(row) for row in rows}
        if len(widths) > 1:
            raise ValueError("embeddings: rows are of different lengths")
        flat = array("f", (value for row in rows for value in row))
        if sys.byteorder == "big":
            flat.byteswap()
        name, data, shape = "f32", flat.tobytes(), [len(rows), widths.pop() if widths else 0]
    return {"base64": base64.b64encode(data).decode(), "shape": shape, "dtype": name}


def unpack(given: Mapping[str, Any]) -> Rows:
    """An element of an answer to `embed`: rows."""
    data, (rows, dim) = base64.b64decode(given["embedding"]), given["shape"]
    if numpy is not None:
        return numpy.frombuffer(data, dtype="<f4").astype(numpy.float32).reshape(rows, dim)
    flat = array("f", data)
    if sys.byteorder == "big":
        flat.byteswap()
    return [list(flat[at * dim : (at + 1) * dim]) for at in range(rows)]


def _depth(value: Any) -> int:
    """How many dimensions `value` has; -1 if it is no array of numbers."""
    if hasattr(value, "ndim"):
        return int(value.ndim)
    if isinstance(value, (int, float)):
        return 0
    if isinstance(value, str) or not isinstance(value, Sequence):
        return -1
    inner = _depth(value[0]) if value else -1
    return -1 if inner < 0 else inner + 1


# Reading answers.


def _span(given: Mapping[str, int] | None) -> Span | None:
    return None if given is None else Span(given["start"], given["end"])


def _match(given: Mapping[str, Any]) -> Match:
    return Match(_span(given["query"]), _span(given["text"]), given["above"], given["score"])


def _hit(given: Mapping[str, Any]) -> Hit:
    matches = given.get("matches")
    return read(
        Hit,
        given,
        headings=tuple(given["headings"]),
        lines=read(Lines, given["lines"]),
        span=read(Span, given["span"]),
        matches=None if matches is None else tuple(map(_match, matches)),
    )


def _found(given: Mapping[str, Any]) -> Found:
    return read(Found, given, hits=tuple(map(_hit, given["hits"])), timings_ms=read(Timings, given["timings_ms"]))


def _found_many(given: Mapping[str, Any]) -> list[Found]:
    return [_found(found) for found in given["results"]]


def read_task(given: Mapping[str, Any]) -> Task:
    """A task's state."""
    failed = given.get("error")
    failure = None if failed is None else read(TaskError, failed)
    return read(Task, given, written=read(Written, given["written"]), error=failure)


def _passage(given: Mapping[str, Any]) -> Passage:
    lines, span = read(Lines, given["lines"]), read(Span, given["span"])
    return read(Passage, given, headings=tuple(given["headings"]), lines=lines, span=span)


def _stored(given: Mapping[str, Any]) -> StoredDocument:
    return read(StoredDocument, given, passages=tuple(map(_passage, given["passages"])))


def _description(given: Mapping[str, Any]) -> IndexDescription:
    return read(IndexDescription, given)


def _ranked(given: Mapping[str, Any]) -> Ranked:
    document = given.get("document")
    return read(Ranked, given, text=None if document is None else document["text"])


def _nothing(_: Any) -> None:
    return None


# Requests.


def _part(name: str) -> str:
    """One part of a path. What stands for a folder elsewhere is an id like others here."""
    return name.replace(".", "%2E") if name in (".", "..") else quote(name, safe="")


def _index(name: str, rest: str = "") -> str:
    return f"/v1/indexes/{_part(name)}{rest}"


def _waiting(wait: bool) -> dict[str, str]:
    return {} if wait else {"wait": "false"}


def _without_none(**given: Any) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def ready() -> Call[bool]:
    return Call("GET", "/readyz", lambda given: bool(given["status"] == "ok"), repeatable=False)


def info() -> Call[Info]:
    return Call("GET", "/info", lambda given: read(Info, given))


def indexes() -> Call[list[IndexDescription]]:
    return Call("GET", "/v1/indexes", lambda given: [_description(index) for index in given["indexes"]])


def create_index(name: str, bits: int, fine: bool) -> Call[IndexDescription]:
    body = encode({"name": name, "bits": bits, "fine": fine})
    return Call("POST", "/v1/indexes", _description, body, repeatable=False)


def describe(index: str) -> Call[IndexDescription]:
    return Call("GET", _index(index), _description)


def delete_index(index: str) -> Call[None]:
    return Call("DELETE", _index(index), _nothing, repeatable=False)


def sync(index: str, wait: bool) -> Call[Task]:
    return Call("POST", _index(index, "/sync"), read_task, query=_waiting(wait))


def get(index: str, document: str) -> Call[StoredDocument]:
    return Call("GET", _index(index, f"/documents/{_part(document)}"), _stored)


def add(index: str, body: bytes, wait: bool) -> Call[Task]:
    return Call("POST", _index(index, "/documents"), read_task, body, _waiting(wait))


def delete_documents(index: str, ids: Sequence[str], wait: bool) -> Call[Task]:
    return Call("POST", _index(index, "/delete"), read_task, encode({"ids": ids}), _waiting(wait))


def search(
    index: str,
    query: Any,
    k: int,
    filter: Mapping[str, Any] | None,
    mode: Mode | None,
    explain: bool,
    pipeline: str | None,
) -> Call[Found | list[Found]]:
    """One query, or several; in words, or as token embeddings."""
    many = False
    if isinstance(query, str):
        asked: dict[str, Any] = {"query": query}
    elif (depth := _depth(query)) == 2:
        asked = {"embeddings": pack(query)}
    elif depth == 3:
        asked, many = {"embeddings_batch": [pack(matrix) for matrix in query]}, True
    else:
        texts = [query] if isinstance(query, bytes) else list(query)
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a query is a text, several of them, or token embeddings [n, dim] or [queries, n, dim]")
        asked, many = {"queries": texts}, True
    body = encode({**asked, **_without_none(k=k, filter=filter, mode=mode, pipeline=pipeline), "explain": explain})
    path = _index(index, "/search")
    return Call("POST", path, _found_many, body) if many else Call("POST", path, _found, body)


def rerank(query: str, top_n: int | None, return_documents: bool, **texts: Any) -> Call[list[Ranked]]:
    """`texts` are documents, or an index and ids."""
    body = encode({"query": query, "return_documents": return_documents, **_without_none(top_n=top_n, **texts)})
    return Call("POST", "/v2/rerank", lambda given: [_ranked(result) for result in given["results"]], body)


def embed(texts: Sequence[str], input_type: InputType) -> Call[list[Rows]]:
    body = encode(
        {
            "input": [texts] if isinstance(texts, str) else list(texts),
            "input_type": input_type,
            "encoding_format": "base64",
        }
    )
    return Call("POST", "/v1/embeddings", lambda given: [unpack(text) for text in given["data"]], body)


def tokenize(texts: Sequence[str], special: bool) -> Call[list[list[Token]]]:
    inputs = [texts] if isinstance(texts, str) else list(texts)
    body = encode({"inputs": inputs, "add_special_tokens": special})
    return Call("POST", "/tokenize", lambda given: [[read(Token, token) for token in text] for text in given], body)


def tasks() -> Call[list[Task]]:
    return Call("GET", "/v1/tasks", lambda given: [read_task(task) for task in given["tasks"]])


def task(of: Task | int) -> Call[Task]:
    return Call("GET", f"/v1/tasks/{_number(of)}", read_task)


def cancel(of: Task | int) -> Call[Task]:
    return Call("DELETE", f"/v1/tasks/{_number(of)}", read_task)


def events(of: Task | int) -> Call[Task]:
    """A stream: its data are read one by one."""
    return Call("GET", f"/v1/tasks/{_number(of)}/events", read_task)


def _number(of: Task | int) -> int:
    return of.id if isinstance(of, Task) else int(of)


# Documents in requests, and tasks.


def _document(given: Document | Mapping[str, Any]) -> bytes:
    if isinstance(given, Document):
        fields = _without_none(id=given.id, text=given.text, title=given.title, embeddings=given.embeddings)
        fields |= {"format": given.format, "metadata": given.metadata}
    else:
        fields = dict(given)
    if fields.get("embeddings") is not None:
        fields["embeddings"] = pack(fields["embeddings"])
    return encode(fields)


class Batches:
    """Cuts documents into bodies of requests."""

    def __init__(self, batch: int) -> None:
        if batch < 1:
            raise ValueError(f"a batch of {batch} documents")
        self._batch = batch
        self._waiting: list[bytes] = []
        self._bytes = 0

    def push(self, document: Document | Mapping[str, Any]) -> bytes | None:
        """Takes a document; a body when one is full, with the documents before it."""
        encoded, full = _document(document), None
        if len(self._waiting) == self._batch or (self._waiting and self._bytes + len(encoded) > BATCH_BYTES):
            full = self.rest()
        self._waiting.append(encoded)
        self._bytes += len(encoded)
        return full

    def rest(self) -> bytes | None:
        """A body with the documents that are left, if there are any."""
        if not self._waiting:
            return None
        body = b'{"documents":[' + b",".join(self._waiting) + b"]}"
        self._waiting, self._bytes = [], 0
        return body


def batches(documents: Iterable[Document | Mapping[str, Any]], batch: int) -> Iterator[bytes]:
    """Bodies of requests with all of `documents`."""
    cut = Batches(batch)
    for document in documents:
        if full := cut.push(document):
            yield full
    if rest := cut.rest():
        yield rest


def ids_of(ids: Iterable[str]) -> Iterator[list[str]]:
    """Parts of `ids` that a request may have."""
    if isinstance(ids, str):
        raise TypeError("ids are several: give a list of them")
    listed = list(ids)
    return (listed[at : at + IDS] for at in range(0, len(listed), IDS))


def ended(task: Task) -> Task:
    """A task that has ended well.

    Raises what it failed of.
    """
    if task.status == "succeeded":
        return task
    failure = task.error or TaskError("cancelled" if task.status == "cancelled" else "internal", task.status)
    raise error(failure.code, f"task {task.id}: {failure.message}")


class Events:
    """Server-sent events: data, line by line."""

    def __init__(self) -> None:
        self._data: list[str] = []

    def push(self, line: str) -> str | None:
        """Takes a line; an event's data when it ends with that."""
        if line:
            if line.startswith("data:"):
                self._data.append(line[5:].removeprefix(" "))
            return None
        data, self._data = "\n".join(self._data), []
        return data or None


def broken_off(of: Task | int) -> Error:
    """The error where a stream ends before its task."""
    return Unreachable(f"task {_number(of)}: the stream of its states broke off", "broken_off")
