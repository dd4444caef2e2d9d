"""What a live server does seldom: it is busy, stops, breaks off, or is none. And what documents are cut into."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import latewood
from latewood import _wire as wire

TASK = {
    "id": 1,
    "index": "a",
    "kind": "add_documents",
    "status": "succeeded",
    "done": 1,
    "total": 1,
    "written": {"added": 1},
}
BUSY = {"error": {"code": "busy", "message": "later"}}
STOPPING = {"error": {"code": "unavailable", "message": "the server is stopping"}}
TIMEOUT = {"error": {"code": "timeout", "message": "it took longer than 60 s"}}
SSE = {"content-type": "text/event-stream"}


def test_a_busy_server_is_asked_again(connect: Callable[..., Any], stand_in: Any, pauses: list[float]) -> None:
    stand_in.will(
        (429, BUSY, {"retry-after": "2"}), (503, STOPPING), (429, BUSY, {"retry-after": "x"}), (200, {"indexes": []})
    )
    assert connect(stand_in.url).indexes() == []
    assert len(stand_in.asked) == 4
    assert 2 <= pauses[0] <= 2.5, "as long as the server said"
    assert 0.5 <= pauses[1] < pauses[2] <= 1.25, "and longer each time where it said nothing"


def test_asking_again_has_an_end(connect: Callable[..., Any], stand_in: Any, pauses: list[float]) -> None:
    stand_in.will((429, BUSY))
    with pytest.raises(latewood.Busy) as busy:
        connect(stand_in.url).indexes()
    assert (busy.value.status, busy.value.code, busy.value.message) == (429, "busy", "later")
    assert 30 < sum(pauses) <= 60
    assert len(stand_in.asked) == len(pauses) + 1 < 20
    pauses.clear()
    with pytest.raises(latewood.Busy):
        connect(stand_in.url, retry_for=0).indexes()
    stand_in.will((429, BUSY, {"retry-after": "3600"}))
    with pytest.raises(latewood.Busy):
        connect(stand_in.url).indexes()
    assert pauses == [], "an hour is longer than it is asked for"


def test_only_what_is_safe_is_sent_again(connect: Callable[..., Any], stand_in: Any) -> None:
    client = connect(stand_in.url)
    stand_in.will((503, STOPPING))
    for change in (lambda: client.create_index("a"), client.index("a").delete):
        stand_in.asked.clear()
        with pytest.raises(latewood.Busy):
            change()
        assert len(stand_in.asked) == 1, "nobody knows what came of it"
    stand_in.will((429, BUSY), (201, {"name": "a", "source": "documents"}))
    assert client.create_index("a").name == "a"
    stand_in.will((503, STOPPING), (200, TASK))
    assert client.index("a").add([{"id": "x", "text": "y"}]).written.added == 1
    stand_in.asked.clear()
    stand_in.will((503, TIMEOUT))
    with pytest.raises(latewood.Error) as slow:
        client.index("a").search("x")
    assert (len(stand_in.asked), slow.value.code) == (1, "timeout")


def test_health_is_told_without_errors(connect: Callable[..., Any], stand_in: Any) -> None:
    stand_in.will((503, STOPPING))
    assert connect(stand_in.url).health() is False
    assert len(stand_in.asked) == 1
    stand_in.close()
    assert connect(stand_in.url).health() is False


def test_what_is_no_latewood_is_told(connect: Callable[..., Any], stand_in: Any) -> None:
    client = connect(stand_in.url)
    for reply, kind, code in [
        ((200, b"<html>"), latewood.Unreachable, "bad_answer"),
        ((200, {"other": 1}), latewood.Unreachable, "bad_answer"),
        ((502, b"<html>Bad gateway</html>"), latewood.Error, "http_502"),
        ((404, b""), latewood.NotFound, "http_404"),
        ((413, {"error": "x"}), latewood.BadRequest, "http_413"),
        ((500, {"error": {"code": "internal", "message": "m"}}), latewood.Error, "internal"),
        ((507, {"error": {"code": "no_space", "message": "m"}}), latewood.Error, "no_space"),
        ((302, b"", {"location": "http://127.0.0.1:1/"}), latewood.Error, "http_302"),
    ]:
        stand_in.will(reply)
        with pytest.raises(kind) as told:
            client.indexes()
        assert (told.value.code, told.value.status) == (code, reply[0])


def test_no_server(connect: Callable[..., Any], stand_in: Any) -> None:
    stand_in.close()
    with pytest.raises(latewood.Unreachable) as none:
        connect(stand_in.url).indexes()
    assert (none.value.code, none.value.status) == ("unreachable", None)
    with pytest.raises(latewood.Unreachable):
        list(connect(stand_in.url).follow(1))


def test_a_timeout_can_be_set(connect: Callable[..., Any], stand_in: Any) -> None:
    stand_in.will((200, b"", {"content-length": "10"}))
    with pytest.raises(latewood.Unreachable) as late:
        connect(stand_in.url, timeout=0.2).indexes()
    assert late.value.code == "no_answer"


def test_events_are_read(connect: Callable[..., Any], stand_in: Any) -> None:
    running = json.dumps({**TASK, "status": "running", "done": 0})
    done = json.dumps(TASK)
    stand_in.will(
        (200, f": hello\n\ndata: {running}\n\n:\n\nevent: x\ndata:{done}\n\ndata: {running}\n\n".encode(), SSE)
    )
    client = connect(stand_in.url)
    assert [state.status for state in client.follow(1)] == ["running", "succeeded"]
    assert stand_in.asked[0][1] == "/v1/tasks/1/events"
    stand_in.will((200, f"data: {running}\n\n".encode(), SSE))
    with pytest.raises(latewood.Unreachable) as broken:
        client.wait(1)
    assert broken.value.code == "broken_off"
    failed = json.dumps({**TASK, "status": "failed", "error": {"code": "no_space", "message": "full"}})
    stand_in.will((200, f"data: {failed}\n\n".encode(), SSE))
    with pytest.raises(latewood.Error, match="task 1: full") as full:
        client.wait(1)
    assert full.value.code == "no_space"


def test_a_write_that_outlasts_its_request_is_waited_for(connect: Callable[..., Any], stand_in: Any) -> None:
    running = {**TASK, "status": "running"}
    stand_in.will((202, running), (200, f"data: {json.dumps(TASK)}\n\n".encode(), SSE))
    assert connect(stand_in.url).index("a").add([{"id": "x", "text": "y"}]).tasks[0].finished
    stand_in.will((202, running))
    assert not connect(stand_in.url).index("a").add([{"id": "x", "text": "y"}], wait=False).tasks[0].finished
    assert stand_in.asked[-1][1] == "/v1/indexes/a/documents?wait=false"


def test_what_is_sent(connect: Callable[..., Any], stand_in: Any) -> None:
    stand_in.will((200, {"results": []}))
    connect(stand_in.url, "a-key").index("a b/..").search(["é"], filter={"x": None}, mode="exhaustive", explain=True)
    method, path, headers, body = stand_in.asked[0]
    assert (method, path) == ("POST", "/v1/indexes/a%20b%2F../search")
    assert headers["authorization"] == "Bearer a-key"
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == {"queries": ["é"], "k": 10, "filter": {"x": None}, "mode": "exhaustive", "explain": True}


def test_fields_to_come_do_no_harm(connect: Callable[..., Any], stand_in: Any) -> None:
    stand_in.will((200, {"indexes": [{"name": "a", "source": "documents", "new": 1}], "more": 2}))
    assert connect(stand_in.url).indexes()[0].name == "a"
    row = {"object": "embedding", "index": 0, "embedding": "AACAPwAAAAA=", "shape": [1, 2], "new": 3}
    stand_in.will((200, {"data": [row]}))
    assert [list(map(float, r)) for r in connect(stand_in.url).embed("x")[0]] == [[1.0, 0.0]]


def test_batches_are_cut_by_number_and_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    def sizes(count: int, batch: int, text: str = "x") -> list[int]:
        documents = ({"id": str(number), "text": text} for number in range(count))
        return [len(json.loads(body)["documents"]) for body in wire.batches(documents, batch)]

    assert sizes(0, 3) == []
    assert sizes(7, 3) == [3, 3, 1]
    assert sizes(6, 3) == [3, 3]
    monkeypatch.setattr(wire, "BATCH_BYTES", 1000)
    assert sizes(7, 100, "x" * 450) == [2, 2, 2, 1]
    assert sizes(3, 100, "x" * 2000) == [1, 1, 1], "one that is too large goes alone"
    with pytest.raises(ValueError, match="batch of 0"):
        sizes(1, 0)


def test_documents_are_drawn_as_they_are_sent(stand_in: Any) -> None:
    drawn: list[int] = []
    stand_in.will((202, {**TASK, "status": "succeeded"}))

    def documents() -> Any:
        for number in range(100):
            drawn.append(len(stand_in.asked))
            yield {"id": str(number), "text": "x"}

    with latewood.Client(stand_in.url) as client:
        client.index("a").add(documents(), wait=False, batch=10)
    assert drawn[-1] >= 7


def test_errors_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(latewood.NotFound("m", "not_found", 404)))
    assert (type(error), str(error), error.status) == (latewood.NotFound, "m (not_found)", 404)


def test_many_searches_at_once(stand_in: Any) -> None:
    stand_in.will((200, {"indexes": []}))

    async def run() -> None:
        async with latewood.AsyncClient(stand_in.url) as client:
            assert await asyncio.gather(*(client.indexes() for _ in range(50))) == [[]] * 50

    asyncio.run(run())
