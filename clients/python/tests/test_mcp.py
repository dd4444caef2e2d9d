"""The Model Context Protocol, with its own client: over standard input and output, and at /mcp."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import READ_KEY, ROOT

mcp = pytest.importorskip("mcp", reason="the Model Context Protocol is not tried: there is no package mcp")


@asynccontextmanager
async def session(streams: Any) -> AsyncIterator[Any]:
    async with streams as (read, write), mcp.ClientSession(read, write) as session:
        yield session


def http(url: str, key: str | None = None) -> Any:
    from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client

    headers = {"authorization": f"Bearer {key}"} if key else None
    return streamable_http_client(f"{url}/mcp", http_client=create_mcp_http_client(headers))


def stdio(binary: Path, folder: Path) -> Any:
    """As docs/http.md says that it is to be registered."""
    (snippet, *_) = re.findall(r"^```json\n(.*?)^```", (ROOT / "docs/http.md").read_text(), re.DOTALL | re.MULTILINE)
    registered = json.loads(snippet)["mcpServers"]["latewood"]
    assert registered.pop("command") == "latewood"
    args = [str(folder) if arg == "/path/to/documents" else arg for arg in registered.pop("args")]
    assert str(folder) in args
    assert registered == {}
    return mcp.stdio_client(mcp.StdioServerParameters(command=str(binary), args=args))


def run(streams: Any, check: Callable[[Any], Awaitable[None]]) -> None:
    async def inner() -> None:
        async with session(streams) as opened:
            told = await opened.initialize()
            assert told.server_info.name == "latewood"
            assert "search" in told.instructions
            await check(opened)

    asyncio.run(asyncio.wait_for(inner(), 60))


def text(result: Any) -> str:
    (content,) = result.content
    assert content.type == "text"
    return str(content.text)


async def everything(session: Any) -> None:
    """Each tool is listed, called, and called wrongly."""
    tools = {tool.name: tool for tool in (await session.list_tools()).tools}
    assert sorted(tools) == ["read", "search", "status"]
    assert all(tool.annotations.read_only_hint and tool.description for tool in tools.values())
    assert tools["search"].input_schema["required"] == ["query"]

    status = await session.call_tool("status")
    assert status.structured_content["indexes"][0]["name"] == "default"
    assert '"documents": 2' in text(status)

    found = await session.call_tool("search", {"query": "how hot is stoneware fired?", "k": 1})
    assert not found.is_error
    (hit,) = found.structured_content["hits"]
    assert hit["document"] == "kiln.md"
    assert text(found).startswith("1. kiln.md, lines 1-3, score ")
    assert "1280 degrees" in text(found)
    filtered = await session.call_tool("search", {"query": "kiln", "filter": {"path": {"$glob": "rain*"}}})
    assert [hit["document"] for hit in filtered.structured_content["hits"]] == ["rain.md"]

    read = await session.call_tool("read", {"document": hit["document"]})
    assert read.structured_content["document"] == "kiln.md"
    assert "A kiln fires stoneware" in text(read) == read.structured_content["text"]

    for tool, arguments, told in [
        ("search", {"query": " "}, "empty"),
        ("search", {}, "query"),
        ("search", {"query": "kiln", "index": "nothing"}, "nothing"),
        ("search", {"query": "kiln", "filter": {"$odd": 1}}, "$odd"),
        ("read", {"document": "nothing.md"}, "nothing.md"),
        ("read", {"document": "kiln.md", "first_line": -1}, "-1"),
    ]:
        wrong = await session.call_tool(tool, arguments)
        assert wrong.is_error, tool
        assert told in text(wrong)
    with pytest.raises(mcp.MCPError, match="no tool nothing"):
        await session.call_tool("nothing", {})

    several = [session.call_tool("search", {"query": f"kiln {number}"}) for number in range(20)]
    assert not any(result.is_error for result in await asyncio.gather(*several))


def test_standard_input_and_output(binary: Path, tmp_path: Path) -> None:
    (tmp_path / "kiln.md").write_text("# Firing\n\nA kiln fires stoneware at 1280 degrees.\n")
    (tmp_path / "rain.md").write_text("# Weather\n\nRain falls from clouds.\n")
    run(stdio(binary, tmp_path), everything)


def test_http(url: str) -> None:
    run(http(url), everything)


def test_client_as_it_is(url: str) -> None:
    """Which finds out by itself how a server is to be spoken to."""

    async def inner() -> None:
        async with mcp.Client(f"{url}/mcp") as client:
            assert len((await client.list_tools()).tools) == 3
            assert "kiln.md" in text(await client.call_tool("search", {"query": "how hot is a kiln?"}))

    asyncio.run(asyncio.wait_for(inner(), 60))


def test_http_with_a_key(locked_url: str) -> None:
    async def check(session: Any) -> None:
        assert (await session.call_tool("status")).structured_content == {"indexes": []}
        assert (await session.call_tool("search", {"query": "kiln"})).is_error

    run(http(locked_url, READ_KEY), check)


@pytest.mark.parametrize("key", [None, "wrong-0123456789abcdef"])
def test_http_without_the_key(locked_url: str, key: str | None) -> None:
    async def inner() -> None:
        async with session(http(locked_url, key)) as opened:
            with pytest.raises(mcp.MCPError):
                await opened.initialize()

    asyncio.run(asyncio.wait_for(inner(), 60))
