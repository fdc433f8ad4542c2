"""What ``ship`` remembers of its steps may be damaged by anybody: then they are done again."""

from __future__ import annotations

import json

import pytest

from htr_export.ship import _Memory


@pytest.mark.parametrize("content", ["[]", "{", "", '{"strip": 3}', '{"strip": [[]]}', "[" * 9999, '"x"', "\udce9"])
def test_a_damaged_memory_is_forgotten(tmp_path, content):
    path, output = tmp_path / "steps.json", tmp_path / "out"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    output.write_bytes(b"made")
    done = []
    _Memory(path).run("strip", ["a"], output, lambda: done.append(1))
    assert done == [1]
    assert list(json.loads(path.read_text(encoding="utf-8"))) == ["strip"]
    _Memory(path).run("strip", ["a"], output, lambda: done.append(2))
    assert done == [1]
