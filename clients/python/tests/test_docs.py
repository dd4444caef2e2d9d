"""Every command of docs/http.md runs, one after the other, and is answered as the page says."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

PAGE = ROOT / "docs" / "http.md"
# Answers that are not 2xx, where the page shows them.
REFUSED = {"Errors": ["404"], "Keys": ["401"]}
SAYS = {
    "An index": ['"name":"notes"', '"documents":0'],
    "Documents": ['"added":3', '"id":"kiln"', '"deleted":1'],
    "Search": ['"document":"kiln"', '"matches":[{"query":{"start":0'],
    "Rerank": ['"results":[{"index":1', '[{"index":1,"score"', '"document_id":"kiln","document":{"text"'],
    "Embeddings": ['"object":"embedding"', '"shape":[', '"owned_by":"latewood"', "[[[", '"text":"[CLS]"', '"model_id"'],
    "Tasks": ['"status":"succeeded"', "data: {", '{"tasks":[{"id":'],
    "Programs with a language model": ["1. kiln, lines 1-1", '"isError":false'],
    "Errors": ['"code":"not_found"'],
    "Keys": ['"code":"unauthorized"', '{"indexes":[]}'],
}


def sections() -> list[tuple[str, str]]:
    parts = re.split(r"^## (.*)$", PAGE.read_text(), flags=re.MULTILINE)[1:]
    blocks = [re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE) for text in parts[1::2]]
    return [(title, "".join(found)) for title, found in zip(parts[::2], blocks, strict=True)]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_page(binary: Path, tmp_path: Path) -> None:
    if not (shutil.which("curl") and shutil.which("bash")):
        pytest.skip("docs/http.md: there is no curl, or no bash")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "latewood").symlink_to(binary)
    # Statuses go to standard error, and a mark between the sections to both.
    script = """set -eu
trap 'kill $(jobs -p)' EXIT
curl() {
    command curl --max-time 10 -w '%{stderr}status %{http_code}\\n' "$@"
}
"""
    for title, commands in sections():
        assert commands, title
        script += f"printf '\\n== {title}\\n' | tee /dev/stderr\n{commands}\n"
    for port in ("8765", "8766"):
        script = script.replace(f"localhost:{port}", f"127.0.0.1:{port}").replace(port, str(free := free_port()))
        script = script.replace("serve --data ./indexes --f", f"serve --addr 127.0.0.1:{free} --data ./indexes --f")
    # Proxies are for elsewhere.
    env = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "NO_PROXY": "*", "no_proxy": "*"}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said, statuses = (re.split(r"^== (.*)$", text, flags=re.MULTILINE) for text in (done.stdout, done.stderr))
    assert said[1::2] == statuses[1::2] == [title for title, _ in sections()]
    for title, text, noted in zip(said[1::2], said[2::2], statuses[2::2], strict=True):
        refused = [status for status in re.findall(r"^status (\d+)$", noted, re.MULTILINE) if status[0] in "345"]
        assert refused == REFUSED.get(title, []), (title, text)
        for part in SAYS.get(title, []):
            assert part in text, (title, text)
