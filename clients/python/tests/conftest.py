"""A live server for the tests, and a stand-in for what a live one does seldom."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from latewood import AsyncClient, AsyncIndex, Client

ROOT = Path(__file__).resolve().parents[3]
READ_KEY, WRITE_KEY = "read-0123456789abcdef", "write-0123456789abcdef"

# None of these tests is for anything but this machine.
os.environ["NO_PROXY"] = "*"
os.environ.pop("LATEWOOD_API_KEY", None)


def find_binary() -> Path | None:
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    given = os.environ.get("LATEWOOD_BIN")
    if given and not Path(given).is_file():
        pytest.fail(f"LATEWOOD_BIN: there is no {given}")
    places = [Path(given)] if given else [target / "release/latewood", target / "debug/latewood"]
    return next((place for place in places if place.is_file()), None)


@pytest.fixture(scope="session")
def binary() -> Path:
    found = find_binary()
    if found is None:
        pytest.skip("there is no server: LATEWOOD_BIN says where it is, or build it with cargo build --release")
    return found


class Server:
    """A process of `latewood serve` on a port of its own."""

    def __init__(self, binary: Path, *args: str, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [str(binary), "serve", "--addr", "127.0.0.1:0", "--device", "cpu", *args],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )
        self.said: list[str] = []
        self.url = ""
        up = threading.Event()

        def listen(pipe: Any) -> None:
            for line in pipe:
                self.said.append(line)
                if found := re.search(r"listening on (http://\S+)", line):
                    self.url = found[1]
                    up.set()

        for pipe in (self.process.stderr, self.process.stdout):
            threading.Thread(target=listen, args=(pipe,), daemon=True).start()
        if not up.wait(60):
            self.stop()
            raise RuntimeError("the server did not start: " + "".join(self.said))

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="session")
def server(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One with the index of a folder, `default`, and a data folder."""
    folder = tmp_path_factory.mktemp("folder")
    (folder / "kiln.md").write_text("# Firing\n\nA kiln fires stoneware at 1280 degrees.\n")
    (folder / "rain.md").write_text("# Weather\n\nRain falls from clouds.\n")
    running = Server(binary, str(folder), "--data", str(tmp_path_factory.mktemp("data")))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def url(server: Server) -> str:
    return server.url


@pytest.fixture(scope="session")
def locked_url(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that wants keys."""
    keys = {"LATEWOOD_READ_KEYS": READ_KEY, "LATEWOOD_WRITE_KEYS": WRITE_KEY}
    running = Server(binary, "--data", str(tmp_path_factory.mktemp("locked")), env=keys)
    yield running.url
    running.stop()


class Awaited:
    """An asynchronous client, index or iterator as if it were none: tests are the same for both."""

    def __init__(self, inner: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._inner, self._loop = inner, loop

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            result = value(*args, **kwargs)
            if inspect.isawaitable(result):
                result = self._loop.run_until_complete(result)
            return Awaited(result, self._loop) if isinstance(result, (AsyncIndex, AsyncIterator)) else result

        return call

    def __iter__(self) -> Iterator[Any]:
        while True:
            try:
                yield self._loop.run_until_complete(anext(self._inner))
            except StopAsyncIteration:
                return


@pytest.fixture(params=["blocking", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes clients: for each test those that block, and those that are awaited."""
    loop, made = asyncio.new_event_loop(), []

    def client(*args: Any, **kwargs: Any) -> Any:
        blocking = request.param == "blocking"
        made.append(Client(*args, **kwargs) if blocking else Awaited(AsyncClient(*args, **kwargs), loop))
        return made[-1]

    yield client
    for one in made:
        one.close()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@pytest.fixture
def client(connect: Callable[..., Any], url: str) -> Any:
    return connect(url)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name for an index that no other test has."""
    return re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:60].strip("-")


Reply = tuple[int, dict[str, str], bytes]


class StandIn:
    """Answers what it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                outer.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                status, headers, answer = outer.replies.pop(0) if len(outer.replies) > 1 else outer.replies[0]
                self.send_response(status)
                for header, value in {"content-length": str(len(answer)), **headers}.items():
                    self.send_header(header, value)
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_DELETE = _answer  # noqa: N815

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.socket.listen(128)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def will(self, *replies: tuple[int, Any] | tuple[int, Any, dict[str, str]]) -> None:
        """The replies, one after the other; the last is given from then on."""

        def encoded(reply: Any) -> Reply:
            status, body, *headers = reply
            return status, headers[0] if headers else {}, body if isinstance(body, bytes) else json.dumps(body).encode()

        self.replies = [encoded(reply) for reply in replies]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    server = StandIn()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses before requests are sent again: noted, and not made."""
    made: list[float] = []
    sleep = asyncio.sleep

    async def pause(seconds: float, *rest: Any) -> None:
        made.append(seconds)
        await sleep(0, *rest)

    for module, instead in ((time, made.append), (asyncio, pause)):
        monkeypatch.setattr(
            f"latewood.{'_client' if module is time else '_async'}.{module.__name__}", _With(module, instead)
        )
    return made


class _With:
    """A module with another `sleep`."""

    def __init__(self, module: Any, sleep: Callable[..., Any]) -> None:
        self._module, self.sleep = module, sleep

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)
