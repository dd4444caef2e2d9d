"""The client that blocks."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, TypeVar, overload

import httpx

from . import _wire as wire
from ._errors import Busy, Unreachable, error_of
from ._types import (
    Document,
    Found,
    IndexDescription,
    Info,
    InputType,
    Matrix,
    Mode,
    Ranked,
    Rows,
    StoredDocument,
    Task,
    Token,
    Writing,
)

T = TypeVar("T")


class Client:
    """A server of Latewood.

    `key` is that of the environment variable LATEWOOD_API_KEY unless given. A server that is busy is asked again, for
    `retry_for` seconds at most for each request; with 0 it is asked once. Use it in a `with`, or close it.
    """

    def __init__(
        self,
        url: str = wire.URL,
        key: str | None = None,
        *,
        timeout: float | httpx.Timeout = wire.TIMEOUT,
        retry_for: float = wire.RETRY_FOR,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = wire.headers(key if key is not None else os.environ.get(wire.KEY_VARIABLE))
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, transport=transport)
        self._retry_for = retry_for

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def health(self) -> bool:
        """Whether the server is there and takes requests."""
        try:
            return self._send(wire.ready())
        except (Busy, Unreachable):
            return False

    def info(self) -> Info:
        """The model, and how much the server takes."""
        return self._send(wire.info())

    def indexes(self) -> list[IndexDescription]:
        """All indexes."""
        return self._send(wire.indexes())

    def create_index(self, name: str, bits: int = 4, fine: bool = False) -> Index:
        """Makes an index with `bits` a dimension of a token, and four more for the best hits if it is to be `fine`."""
        return Index(self, self._send(wire.create_index(name, bits, fine)).name)

    def index(self, name: str) -> Index:
        """The index of that name; the server is not asked whether there is one."""
        return Index(self, name)

    def rerank(
        self,
        query: str,
        documents: Sequence[str | Mapping[str, Any]],
        top_n: int | None = None,
        return_documents: bool = False,
    ) -> list[Ranked]:
        """Puts texts in order, best first: all, or the best `top_n`."""
        return self._send(wire.rerank(query, top_n, return_documents, documents=documents))

    def embed(self, texts: str | Sequence[str], input_type: InputType = "document") -> list[Rows]:
        """Token embeddings `[n, dim]` of each text."""
        return self._send(wire.embed(texts, input_type))

    def tokenize(self, texts: str | Sequence[str], special: bool = True) -> list[list[Token]]:
        """The tokens of each text."""
        return self._send(wire.tokenize(texts, special))

    def tasks(self) -> list[Task]:
        """Tasks that the server remembers, the newest first."""
        return self._send(wire.tasks())

    def task(self, task: Task | int) -> Task:
        """How a task stands."""
        return self._send(wire.task(task))

    def cancel(self, task: Task | int) -> Task:
        """Stops a task after the commit under way."""
        return self._send(wire.cancel(task))

    def follow(self, task: Task | int) -> Iterator[Task]:
        """The states of a task as they change, until it has ended."""
        return self._states(task, None)

    def wait(self, task: Task | int, timeout: float | None = None) -> Task:
        """Waits for a task to end well. Raises what it failed of, or `TimeoutError` after `timeout` seconds."""
        last = None
        for last in self._states(task, timeout):  # noqa: B007
            pass
        if last is None or not last.finished:
            raise wire.broken_off(task)
        return wire.ended(last)

    def _states(self, task: Task | int, timeout: float | None) -> Iterator[Task]:
        call, events = wire.events(task), wire.Events()
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            own = httpx.USE_CLIENT_DEFAULT if timeout is None else timeout
            with self._http.stream(call.method, call.path, timeout=own) as response:
                if response.status_code != 200:
                    raise error_of(response.status_code, response.read())
                for line in response.iter_lines():
                    if data := events.push(line):
                        state = wire.answer(call, 200, data.encode())
                        yield state
                        if state.finished:
                            return
                    if deadline is not None and time.monotonic() > deadline:
                        raise TimeoutError(f"the task has not ended in {timeout} s")
        except httpx.TimeoutException as e:
            if timeout is not None:
                raise TimeoutError(f"the task has not ended in {timeout} s") from e
            raise no_answer(call, e) from e
        except httpx.TransportError as e:
            raise no_answer(call, e) from e

    def _send(self, call: wire.Call[T]) -> T:
        retries = wire.Retries(self._retry_for)
        while True:
            try:
                response = self._http.request(
                    call.method, call.path, content=call.body, params=call.query, headers=wire.kind(call)
                )
            except httpx.TransportError as e:
                raise no_answer(call, e) from e
            status, after = response.status_code, response.headers.get("retry-after")
            pause = retries.pause(call, status, response.content, after)
            if pause is None:
                return wire.answer(call, status, response.content)
            time.sleep(pause)

    def _write(self, calls: Iterator[Callable[[bool], wire.Call[Task]]], wait: bool) -> Writing:
        """Sends requests that write, and waits for all of them together: the server writes while more is sent."""
        first, second = next(calls, None), next(calls, None)
        if first is None:
            return Writing(())
        if second is None:
            task = self._send(first(wait))
            return Writing((task if task.finished or not wait else self.wait(task),))
        done: list[Task] = []
        under_way = deque([self._send(first(False)), self._send(second(False))])
        for call in calls:
            if wait and len(under_way) >= wire.UNDER_WAY:
                done.append(self.wait(under_way.popleft()))
            under_way.append(self._send(call(False)))
        return Writing((*done, *(self.wait(task) if wait else task for task in under_way)))


class Index:
    """An index of a server."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self.name = name

    def __repr__(self) -> str:
        return f"Index({self.name!r})"

    def describe(self) -> IndexDescription:
        """What it holds."""
        return self._client._send(wire.describe(self.name))

    def delete(self) -> None:
        """Deletes it and its documents."""
        self._client._send(wire.delete_index(self.name))

    def sync(self, wait: bool = True) -> Task:
        """Brings it up to date with its folder."""
        task = self._client._send(wire.sync(self.name, wait))
        return task if task.finished or not wait else self._client.wait(task)

    def add(
        self, documents: Iterable[Document | Mapping[str, Any]], wait: bool = True, batch: int = wire.BATCH
    ) -> Writing:
        """Adds documents, each in place of one of the same id, `batch` of them in a request.

        They may come from a generator, and are sent as they come. With `wait` all are searchable when this returns.
        Where it raises, those of requests before may have been added: to add them again does no harm.
        """
        bodies = wire.batches(documents, batch)
        return self._client._write((partial(wire.add, self.name, body) for body in bodies), wait)

    def get(self, id: str) -> StoredDocument:
        """A document and its passages."""
        return self._client._send(wire.get(self.name, id))

    def delete_documents(self, ids: Iterable[str], wait: bool = True) -> Writing:
        """Deletes documents; ids of none do no harm."""
        parts = wire.ids_of(ids)
        return self._client._write((partial(wire.delete_documents, self.name, part) for part in parts), wait)

    @overload
    def search(  # type: ignore[overload-overlap]  # A str is a sequence of str, too.
        self,
        query: str | Matrix,
        k: int = 10,
        filter: Mapping[str, Any] | None = None,
        mode: Mode | None = None,
        explain: bool = False,
        pipeline: str | None = None,
    ) -> Found: ...

    @overload
    def search(
        self,
        query: Sequence[str] | Sequence[Matrix],
        k: int = 10,
        filter: Mapping[str, Any] | None = None,
        mode: Mode | None = None,
        explain: bool = False,
        pipeline: str | None = None,
    ) -> list[Found]: ...

    def search(
        self,
        query: str | Matrix | Sequence[str] | Sequence[Matrix],
        k: int = 10,
        filter: Mapping[str, Any] | None = None,
        mode: Mode | None = None,
        explain: bool = False,
        pipeline: str | None = None,
    ) -> Found | list[Found]:
        """The `k` passages that fit best.

        `query` is words, or token embeddings `[n, dim]`; or several of them, which are answered with as many results.
        `filter` says which documents may be found: `{"lang": "rust", "stars": {"$gte": 100}}`. With `explain` hits say
        what each token of the query met. `mode` is hybrid unless said. `pipeline` puts what is found
        in order by the stages of one of the server's (docs/reranking.md) and says its own mode; hits then say what each
        stage gave them.
        """
        return self._client._send(wire.search(self.name, query, k, filter, mode, explain, pipeline))

    def rerank(
        self, query: str, ids: Sequence[str], top_n: int | None = None, return_documents: bool = False
    ) -> list[Ranked]:
        """Puts documents of the index in order, as they are stored; ids of none are left out."""
        call = wire.rerank(query, top_n, return_documents, index=self.name, ids=list(ids))
        return self._client._send(call)


def no_answer(call: wire.Call[Any], e: httpx.TransportError) -> Unreachable:
    """What is told where there was no answer."""
    code = "no_answer" if isinstance(e, httpx.TimeoutException) else "unreachable"
    return Unreachable(f"{call.method} {call.path}: {str(e) or type(e).__name__}", code)
