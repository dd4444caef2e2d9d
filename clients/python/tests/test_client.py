"""Every method of both clients, against a live server."""

from __future__ import annotations

import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from conftest import READ_KEY, WRITE_KEY

import latewood
from latewood import Document
from latewood import _wire as wire

numpy = pytest.importorskip("numpy")

GERMAN = "Der Brennofen glüht bei 1280 Grad, heiß genug für Steinzeug 🔥."


@pytest.fixture
def index(client: Any, name: str) -> Any:
    made = client.create_index(name)
    made.add(
        [
            Document("kiln", "A kiln fires stoneware at 1280 degrees.", metadata={"craft": "pottery", "hot": 1280}),
            Document("ofen", GERMAN, metadata={"craft": "pottery", "lang": "de"}),
            {"id": "rain", "title": "Weather", "text": "Rain falls from clouds.", "metadata": {"craft": None}},
        ]
    )
    return made


def test_server_tells_of_itself(client: Any) -> None:
    info = client.info()
    assert info.dim == 128
    assert info.version
    assert client.health() is True
    default = next(index for index in client.indexes() if index.name == "default")
    assert (default.source, default.documents, default.error) == ("folder", 2, None)


def test_indexes_are_made_described_and_deleted(client: Any, name: str) -> None:
    index = client.create_index(name, bits=2, fine=True)
    described = index.describe()
    assert (described.name, described.source, described.bits, described.documents) == (name, "documents", 2, 0)
    with pytest.raises(latewood.Conflict) as there:
        client.create_index(name)
    assert (there.value.status, there.value.code) == (409, "conflict")
    index.delete()
    with pytest.raises(latewood.NotFound) as gone:
        index.describe()
    assert (gone.value.status, gone.value.code) == (404, "not_found")
    assert name in gone.value.message
    with pytest.raises(latewood.BadRequest):
        client.create_index("../x")


def test_search_finds_and_explains(index: Any) -> None:
    found = index.search("how hot is a kiln?", k=2, explain=True)
    assert len(found) == len(found.hits) == 2
    best = found[0]
    assert (best.document, best.lines.first, best.metadata["hot"]) == ("kiln", 1, 1280)
    assert best.semantic == pytest.approx(sum(match.score for match in best.matches), abs=1e-4)
    words = {match.query.of("how hot is a kiln?"): best.matched_text(match) for match in best.matches if match.query}
    assert "".join(words).replace(" ", "") == "howhotisakiln"
    assert "degrees" in words.values()
    assert found.timings_ms.rescore >= 0
    assert index.search("kiln")[0].matches is None


def test_a_pipeline_says_what_its_stages_gave(index: Any) -> None:
    found = index.search("how hot is a kiln?", k=2, pipeline="fast")
    assert found[0].document == "kiln"
    assert found[0].stages is not None
    assert set(found[0].stages["scores"]) == {"retrieve", "late-interaction"}
    assert found.timings_ms.keywords > 0
    with pytest.raises(latewood.BadRequest, match="mode"):
        index.search("kiln", pipeline="fast", mode="semantic")
    assert index.search("how hot is a kiln?", k=1)[0].stages is None


def test_search_takes_filters_and_modes(index: Any) -> None:
    assert [hit.document for hit in index.search("kiln", filter={"lang": "de"})] == ["ofen"]
    assert {hit.document for hit in index.search("kiln", filter={"craft": "pottery"}, mode="exhaustive")} == {
        "kiln",
        "ofen",
    }
    for wrong in ({"$odd": 1}, {"id": {"$glob": "a" * 257}}):
        with pytest.raises(latewood.BadRequest, match="filter"):
            index.search("kiln", filter=wrong)


def test_spans_are_bytes(index: Any) -> None:
    found = index.search("Brennofen für Steinzeug", filter={"lang": "de"}, explain=True)
    words = {
        match.query.of("Brennofen für Steinzeug"): found[0].matched_text(match)
        for match in found[0].matches
        if match.query
    }
    assert [part for part in words.values() if part and part not in GERMAN] == []
    assert "".join(words) == "BrennofenfürSteinzeug"
    assert found[0].text == GERMAN


def test_words_above_a_passage_are_matched(index: Any) -> None:
    found = index.search("weather", filter={"id": "rain"}, explain=True)
    assert "Weather" in [found[0].matched_text(match) for match in found[0].matches if match.above]


def test_several_queries(index: Any) -> None:
    kiln, rain = index.search(["a hot kiln", "rain"], k=1)
    assert (kiln[0].document, rain[0].document) == ("kiln", "rain")
    assert [len(found) for found in index.search(("kiln",), k=1)] == [1]
    with pytest.raises(latewood.BadRequest):
        index.search([])
    with pytest.raises(TypeError):
        index.search([1.0, 2.0])


def test_embeddings_go_in_and_out(client: Any, index: Any) -> None:
    (query,) = client.embed("how hot is a kiln?", "query")
    assert query.dtype == numpy.float32
    assert query.shape[1] == 128
    by_text = index.search("how hot is a kiln?", k=3, mode="semantic")
    for given in (query, query.astype(numpy.float64), query.tolist(), numpy.asfortranarray(query)):
        found = index.search(given, k=3)
        assert [hit.document for hit in found] == [hit.document for hit in by_text]
        assert found[0].score == pytest.approx(by_text[0].score, abs=1e-5)
    assert index.search(query.astype(numpy.float16))[0].score == pytest.approx(by_text[0].score, abs=1e-2)
    for several in ([query, query], numpy.stack([query, query]), [query.tolist(), query.tolist()]):
        assert [found[0].document for found in index.search(several, k=1)] == ["kiln", "kiln"]
    with pytest.raises(latewood.BadRequest) as other:
        index.search(numpy.eye(64, dtype=numpy.float32))
    assert (other.value.status, other.value.code) == (422, "dimension_mismatch")


def test_documents_of_embeddings(client: Any, index: Any) -> None:
    rows = client.embed(["Glass is blown.", "Glass is cut."])
    halves = rows[1].astype(numpy.float16)
    index.add([Document("blown", "Glass is blown.", embeddings=rows[0]), {"id": "cut", "embeddings": rows[1].tolist()}])
    assert index.search("how is glass blown?", k=1)[0].document == "blown"
    index.add([Document("half", embeddings=halves)])
    assert index.search("glass is cut", k=3, filter={"id": "half"})[0].score > 0.5
    with pytest.raises(latewood.BadRequest, match="unit"):
        index.add([Document("long", embeddings=numpy.ones((2, 128)))])
    with pytest.raises(ValueError, match="1 dimensions"):
        index.add([Document("flat", embeddings=numpy.ones(128))])


def test_without_numpy(client: Any, index: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with_numpy = client.embed(["kiln"], "query")[0]
    monkeypatch.setattr(wire, "numpy", None)
    rows = client.embed(["kiln"], "query")[0]
    assert isinstance(rows, list)
    assert numpy.array_equal(numpy.asarray(rows, dtype=numpy.float32), with_numpy)
    assert index.search(rows, k=1)[0].document == index.search("kiln", k=1)[0].document
    assert wire.pack([[1.0, 2.0], [3.0, 4.0]])["shape"] == [2, 2]
    with pytest.raises(ValueError, match="lengths"):
        wire.pack([[1.0], [2.0, 3.0]])


def test_documents_come_and_go(index: Any) -> None:
    stored = index.get("ofen")
    assert (stored.id, stored.kind, stored.metadata["lang"]) == ("ofen", "text", "de")
    assert stored.passages[0].text == GERMAN
    assert stored.passages[0].span.of(GERMAN) == GERMAN
    again = index.add([Document("ofen", GERMAN, metadata={"craft": "pottery", "lang": "de"})])
    assert again.written.unchanged == 1
    assert index.delete_documents(["ofen", "never there"]).written.deleted == 1
    with pytest.raises(latewood.NotFound):
        index.get("ofen")
    assert index.add([]).tasks == index.delete_documents([]).tasks == ()
    with pytest.raises(TypeError):
        index.delete_documents("ofen")


@pytest.mark.parametrize("id", ["a/b", "delete", "a?b#c%2F", "ä 🔥", "a..b/.c", "a+b&c=d", "%2e%2e", "%ff"])
def test_any_id_is_an_id(client: Any, id: str) -> None:
    try:
        index = client.create_index("ids")
    except latewood.Conflict:
        index = client.index("ids")
    index.add([Document(id, "something")])
    assert index.get(id).id == id
    index.delete_documents([id])
    with pytest.raises(latewood.NotFound):
        index.get(id)


def test_ids_that_are_paths_elsewhere_are_refused(client: Any, index: Any) -> None:
    known = len(client.tasks())
    for path in ("..", ".", "../../etc/passwd", "a/./b"):
        with pytest.raises(latewood.BadRequest, match="between slashes"):
            index.add([Document("fine", "something"), Document(path, "something")])
        with pytest.raises(latewood.NotFound, match="no document"):
            index.get(path)
    assert len(client.tasks()) == known, "what is refused leaves no task"


def test_a_bad_document_is_told_of(index: Any) -> None:
    with pytest.raises(latewood.BadRequest, match="empty"):
        index.add([Document("empty")])
    with pytest.raises(latewood.BadRequest, match="nested"):
        index.add([Document("x", "text", metadata={"nested": {"a": 1}})])
    with pytest.raises(ValueError, match="float"):
        index.add([Document("x", "text", metadata={"a": float("nan")})])


def test_metadata_of_numpy(index: Any) -> None:
    index.add([Document("np", "text", metadata={"n": numpy.int64(3), "list": numpy.array([1, 2])})])
    assert index.get("np").metadata == {"n": 3, "list": [1, 2]}


def test_two_thousand_documents_in_batches(client: Any, name: str) -> None:
    index, drawn = client.create_index(name), []

    def documents() -> Iterator[Document]:
        for number in range(2000):
            drawn.append(number)
            yield Document(f"doc-{number}", f"Kiln number {number}.", metadata={"number": number})

    done = index.add(documents(), batch=150)
    assert len(drawn) == 2000
    assert len(done.tasks) == 14
    assert done.written.added == 2000
    assert all(task.status == "succeeded" for task in done.tasks)
    assert index.describe().documents == 2000
    assert index.search("kiln", filter={"number": 1999})[0].document == "doc-1999"
    deleted = index.delete_documents(f"doc-{number}" for number in range(0, 2000, 2))
    assert deleted.written.deleted == 1000


def test_asynchronous_documents(url: str, name: str) -> None:
    import asyncio

    async def documents() -> AsyncIterator[Document]:
        for number in range(5):
            yield Document(str(number), f"text {number}")

    async def run() -> None:
        async with latewood.AsyncClient(url) as client:
            index = await client.create_index(name)
            assert (await index.add(documents(), batch=2)).written.added == 5
            found = await asyncio.gather(*(index.search(f"text {number}", k=1) for number in range(5)))
            assert [len(one) for one in found] == [1] * 5

    asyncio.run(run())


def test_tasks_are_followed(client: Any, name: str) -> None:
    index = client.create_index(name)
    texts = [Document(str(number), f"Text {number}: " + "all kinds of words " * 5) for number in range(600)]
    (task,) = index.add(texts, wait=False, batch=1000).tasks
    assert (task.index, task.kind, task.total) == (name, "add_documents", 600)
    states = list(client.follow(task))
    assert [state.done for state in states] == sorted(state.done for state in states)
    assert (states[-1].status, states[-1].finished, states[-1].done) == ("succeeded", True, 600)
    assert client.wait(task) == client.task(task.id) == client.wait(task.id, timeout=10)
    assert task.id in [known.id for known in client.tasks()]
    assert list(client.follow(task))[-1].written.added == 600


def test_tasks_are_cancelled(client: Any, name: str) -> None:
    index = client.create_index(name)
    texts = [Document(str(number), f"Text {number}: " + "many more words of it " * 5) for number in range(6000)]
    (task,) = index.add(texts, wait=False, batch=6000).tasks
    with pytest.raises(TimeoutError):
        client.wait(task, timeout=0.01)
    client.cancel(task)
    with pytest.raises(latewood.Cancelled) as cancelled:
        client.wait(task)
    assert (cancelled.value.code, cancelled.value.status) == ("cancelled", None)
    assert client.task(task).status == "cancelled"
    for ask in (client.task, client.cancel, client.wait, lambda number: list(client.follow(number))):
        with pytest.raises(latewood.NotFound):
            ask(10**9)


def test_rerank(client: Any, index: Any) -> None:
    texts = ["Rain falls.", "A kiln fires stoneware at 1280 degrees.", {"text": "Cats sleep."}]
    ranked = client.rerank("how hot is a kiln?", texts, top_n=2, return_documents=True)
    assert [one.index for one in ranked] == [1, 0]
    assert ranked[0].text == texts[1]
    assert ranked[0].relevance_score > ranked[1].relevance_score
    assert client.rerank("kiln", texts)[0].text is None
    with pytest.raises(latewood.BadRequest) as large:
        client.rerank("kiln", ["x" * (1 << 20), "y"])
    assert (large.value.status, large.value.code) == (413, "payload_too_large")
    stored = index.rerank("how hot is a kiln?", ["rain", "kiln", "nothing"])
    assert [(one.document_id, one.index) for one in stored] == [("kiln", 1), ("rain", 0)]


def test_tokenize(client: Any) -> None:
    text = "Grüße 🔥"
    ((first, *tokens, last),) = client.tokenize(text)
    assert first.special
    assert last.special
    assert first.start is None
    assert "".join(text.encode()[token.start : token.stop].decode() for token in tokens) == "Grüße🔥"
    assert len(client.tokenize([text, "a"], special=False)[0]) == len(tokens)


def test_folders_are_synced(client: Any, index: Any) -> None:
    folder = client.index("default")
    assert folder.sync().status == "succeeded"
    assert folder.search("how hot is stoneware fired?", k=1)[0].document == "kiln.md"
    with pytest.raises(latewood.Conflict):
        folder.add([Document("x", "y")])
    with pytest.raises(latewood.Conflict):
        index.sync()
    task = folder.sync(wait=False)
    assert client.wait(task).kind == "sync"


def test_keys(connect: Callable[..., Any], locked_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(latewood.Unauthorized) as none:
        connect(locked_url).indexes()
    assert (none.value.status, none.value.code) == (401, "unauthorized")
    assert connect(locked_url).health() is True
    reader = connect(locked_url, READ_KEY)
    assert reader.indexes() == []
    with pytest.raises(latewood.Unauthorized) as forbidden:
        reader.create_index("a")
    assert (forbidden.value.status, forbidden.value.code) == (403, "forbidden")
    monkeypatch.setenv("LATEWOOD_API_KEY", WRITE_KEY)
    writer = connect(locked_url)
    writer.create_index("a").delete()
    with pytest.raises(latewood.Unauthorized):
        connect(locked_url, "wrong-0123456789abcdef").indexes()


def test_both_clients_have_the_same_methods() -> None:
    for one, other in ((latewood.Client, latewood.AsyncClient), (latewood.Index, latewood.AsyncIndex)):
        assert {n for n in dir(one) if n[0] != "_"} == {n for n in dir(other) if n[0] != "_"}


def test_context_managers(url: str) -> None:
    import asyncio

    with latewood.Client(url) as client:
        assert client.health()

    async def run() -> None:
        async with latewood.AsyncClient(url) as client:
            assert await client.health()

    asyncio.run(run())


def test_packing_is_little_endian() -> None:
    packed = wire.pack(numpy.array([[1.5, -2.0]], dtype=">f8"))
    assert packed == {"base64": "AADAPwAAAMA=", "shape": [1, 2], "dtype": "f32"}
    assert struct.pack("<2f", 1.5, -2.0).hex() == "0000c03f000000c0"


def test_waiting_has_an_end(stand_in: Any, connect: Callable[..., Any]) -> None:
    start = time.monotonic()
    stand_in.will((200, b": nothing\n\n", {"content-type": "text/event-stream", "content-length": "100"}))
    with pytest.raises(TimeoutError):
        connect(stand_in.url).wait(1, timeout=0.3)
    assert time.monotonic() - start < 5
