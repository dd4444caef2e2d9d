"""The README's code runs, block after block."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import latewood

README = Path(__file__).resolve().parents[1] / "README.md"


def test_readme(url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    monkeypatch.setattr(latewood.Client.__init__, "__defaults__", (url, None))
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, README.name, "exec"), names)
    names["client"].close()
    assert names["best"].index == 1
    said = capsys.readouterr().out
    assert "kiln A kiln fires stoneware" in said
    assert "1 of 1" in said
