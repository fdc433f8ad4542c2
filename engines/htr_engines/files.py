"""Files that are written whole or not at all, read with limits, and their fingerprints."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from htr_engines.errors import FileError, HtrError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FILE_BYTES = 2 << 30  # of any file that is read or hashed whole; models of size base have 0.26 GB, checkpoints 1.1
CHUNK = 1 << 20
FULL_BYTES = 1 << 20  # with less space than this a failed write is put down to a full disk


def open_file(path: Path, max_bytes: int = MAX_FILE_BYTES) -> BinaryIO:
    """Open a regular file for reading; what could block or never end, such as a pipe or a device, is refused.

    Raises:
        FileError: if it is missing, cannot be opened, is no regular file or too large.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise FileError(f"{path} does not exist; check the path") from None
    except ValueError:
        raise FileError(f"{path} holds a NUL character, which no file name can; check the path") from None
    except OSError as error:
        raise FileError(f"{path} cannot be read ({error.strerror}); check the path and its permissions") from None
    status = os.fstat(handle)
    if stat.S_ISREG(status.st_mode) and status.st_size <= max_bytes:
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(status.st_mode):
        raise FileError(f"{path} is a folder; give a file")
    if stat.S_ISREG(status.st_mode):
        raise FileError(_too_large(path, max_bytes))
    raise FileError(f"{path} is no regular file; copy what it gives to a file first")


def read_file(path: Path, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Return the content of a regular file; as :func:`open_file`."""
    with open_file(path, max_bytes) as stream:
        content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:  # it grew meanwhile
        raise FileError(_too_large(path, max_bytes))
    return content


def is_file(path: Path) -> bool:
    """Say whether a path leads to a regular file; one that no file system could hold does not."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def can_exist(path: Path) -> bool:
    """Say whether a file system could hold a file of this name: not if it is too long or holds a NUL."""
    try:
        os.lstat(path)
    except ValueError:
        return False
    except OSError as error:
        return error.errno != errno.ENAMETOOLONG
    return True


def is_folder(path: Path) -> bool:
    """Say whether a path leads to a folder, as :func:`is_file` does for files."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hex digits; errors as for :func:`open_file`."""
    digest = hashlib.sha256()
    with open_file(path) as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` that becomes ``target`` if the block ends without an error.

    The temporary name keeps the suffix of ``target``, since some writers choose their format by it. What a killed
    process left of the same target is removed.

    Raises:
        OSError: ``ENOSPC`` where the disk is full, however the block's writer reports it.
    """
    prefix, suffix = f".{target.stem}.", f".partial{target.suffix}"
    _prepare_folder(target, prefix, suffix)
    with _named_errors(target, target):
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=target.parent)
    temporary = Path(name)
    try:
        _lock(handle)
        with _named_errors(temporary, target):
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder beside ``target`` that takes the place of ``target`` if the block ends without an error."""
    prefix = f".{target.name}."
    _prepare_folder(target, prefix, ".partial")
    with _named_errors(target, target):
        temporary = Path(tempfile.mkdtemp(prefix=prefix, suffix=".partial", dir=target.parent))
    handle = os.open(temporary, os.O_RDONLY)
    try:
        _lock(handle)
        with _named_errors(temporary, target):
            yield temporary
        temporary.chmod(0o777 & ~_umask())
        if target.exists():
            _prepare_folder(target, prefix, ".old")  # only now: what a kill left may be all there was
            old = Path(tempfile.mkdtemp(prefix=prefix, suffix=".old", dir=target.parent))
            target.replace(old / target.name)
            temporary.replace(target)
            shutil.rmtree(old)
        else:
            temporary.replace(target)
    finally:
        os.close(handle)
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(target: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically; halves of surrogate pairs, from names that are not UTF-8, as escapes."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextlib.contextmanager
def _named_errors(temporary: Path, target: Path) -> Iterator[None]:
    """Name the target in errors that name the temporary path, and a full disk by the system's error number.

    Some writers report it in words of their own.
    """
    try:
        yield
    except HtrError as error:
        error.args = tuple(str(part).replace(str(temporary), str(target)) for part in error.args)
        raise
    except Exception as error:
        if isinstance(error, OSError):
            full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            if temporary == target:  # it could not even be made, under whatever name
                error.filename = str(target)
            elif error.filename is not None:
                error.filename = str(error.filename).replace(str(temporary), str(target))
        else:
            full = "No space left" in str(error) or shutil.disk_usage(target.parent).free < FULL_BYTES
        if not full:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from None


def _prepare_folder(target: Path, prefix: str, suffix: str) -> None:
    """Make the folder of ``target``, and remove what killed processes left in it of such a name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for entry in os.scandir(target.parent):
        middle = entry.name[len(prefix) : -len(suffix)]
        if entry.name == f"{prefix}{middle}{suffix}" and "." not in middle and not _is_locked(entry.path):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                Path(entry.path).unlink(missing_ok=True)


def _lock(handle: int) -> bool:
    """Lock a file until its handle is closed, by the end of the process at the latest; say whether it worked."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def _is_locked(path: str) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return True
    try:
        return not _lock(handle)
    finally:
        os.close(handle)


def _too_large(path: Path, max_bytes: int) -> str:
    return f"{path} is too large: such a file may have {max_bytes / 1e6:.3g} MB at most; give another one"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
