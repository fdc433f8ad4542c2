"""Files: only regular ones are read, within limits; what killed processes left is removed; a full disk is told."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from htr_engines.errors import EngineError, FileError
from htr_engines.files import atomic_folder, atomic_path, is_file, read_file, sha256_of, write_text
from htr_engines.preprocess import load_pages


@pytest.mark.parametrize("read", [read_file, sha256_of])
def test_what_could_block_or_never_end_is_refused(tmp_path, read):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(FileError, match="no regular file"):
        read(fifo)
    for device in ("/dev/zero", "/dev/null"):
        with pytest.raises(FileError, match="no regular file"):
            read(Path(device))
    with pytest.raises(FileError, match="folder"):
        read(tmp_path)
    link = tmp_path / "loop"
    link.symlink_to(link)
    with pytest.raises(FileError, match="cannot be read"):
        read(link)


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 300, "x/" * 3000])
def test_names_that_no_file_can_have(tmp_path, name):
    assert not is_file(tmp_path / name)
    with pytest.raises(FileError):
        read_file(tmp_path / name)


def test_a_file_is_bounded_before_it_is_read(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)
    for read in (read_file, sha256_of):
        with pytest.raises(FileError, match="too large"):
            read(path)
    path.write_bytes(b"1234")
    assert read_file(path, 4) == b"1234"
    with pytest.raises(FileError, match="too large"):
        read_file(path, 3)


CODE = """
import sys, time
from pathlib import Path
from htr_engines.files import {how}
with {how}(Path(sys.argv[1])) as temporary:
    {work}
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("how", "work"),
    [
        ("atomic_path", "temporary.write_bytes(b'half')"),
        ("atomic_folder", "(temporary / 'a').write_bytes(b'half')"),
    ],
)
def test_what_a_killed_process_left_is_removed_by_the_next_one_and_not_before(tmp_path, how, work):
    target = tmp_path / "model.onnx"
    mine = tmp_path / ".model.fp16.abc.partial.onnx"  # of another target
    mine.write_bytes(b"")
    with subprocess.Popen(
        [sys.executable, "-c", CODE.format(how=how, work=work), str(target)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        others = {path.name for path in tmp_path.iterdir()} - {mine.name}
        assert len(others) == 1
        with (atomic_path if how == "atomic_path" else atomic_folder)(target) as temporary:
            (temporary if how == "atomic_path" else temporary / "a").write_bytes(b"whole")
        assert others < {path.name for path in tmp_path.iterdir()}, "of a living process"
        process.send_signal(signal.SIGKILL)
    with (atomic_path if how == "atomic_path" else atomic_folder)(target) as temporary:
        (temporary if how == "atomic_path" else temporary / "a").write_bytes(b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {target.name, mine.name}


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_told_by_its_number_whoever_met_it(tmp_path, error):
    with pytest.raises(OSError, match=r"No space left.*a\.bin") as caught, atomic_path(tmp_path / "a.bin"):
        raise error
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_other_errors_pass(tmp_path):
    for error in (RuntimeError("shape"), PermissionError(errno.EACCES, "no")):
        with pytest.raises(type(error), match=r"shape|no"), atomic_path(tmp_path / "a.bin"):
            raise error


def test_an_image_that_is_no_regular_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    fifo = tmp_path / "line.png"
    os.mkfifo(fifo)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdopen", None)  # nothing is read from any of them
        for path in (fifo, Path("/dev/zero"), tmp_path / ("x" * 300), tmp_path / "a\0.png"):
            with pytest.raises(ValueError, match=r"regular|cannot be read|NUL"):
                load_pages(path)
    write_text(tmp_path / "a.txt", "a")


@pytest.mark.parametrize("writing", [atomic_path, atomic_folder])
def test_errors_name_the_target_and_not_the_temporary_path(tmp_path, writing):
    target = tmp_path / "model.onnx"
    with pytest.raises(EngineError) as raised, writing(target) as temporary:
        raise EngineError(f"ONNX Runtime cannot open {temporary}")
    assert str(raised.value) == f"ONNX Runtime cannot open {target}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("writer", [atomic_path, atomic_folder])
def test_an_error_names_the_file_that_was_asked_for(writer):
    target = Path("/proc/model.htr")  # where nobody can write
    if not target.parent.is_dir():
        pytest.skip("needs /proc")
    with pytest.raises(OSError, match=r"model\.htr") as raised, writer(target):
        pass
    assert raised.value.filename == str(target)
