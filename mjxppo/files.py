"""Atomic writes: after a kill, and for a reader at any time, a file has its old contents or its new ones."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from mjxppo.errors import UserError


class WriteFailed(Exception):
    """A file of a run could not be written, such as on a full disk; its contents before are untouched."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` that replaces it at the end, and is deleted if something fails.

    Makes missing parent directories; raises UserError, which names ``path``, where it cannot be written.
    """
    if path.is_dir():
        raise UserError(f"{path} is a directory; name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem[:100]}-", suffix=path.suffix.lower(), dir=path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp's files are private
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces a file's contents; raises UserError as ``replacing``."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def write_json(path: Path, content: Any) -> None:
    """Writes JSON atomically."""
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())


def reason(error: BaseException) -> str:
    """Why something could not be written, in a few words."""
    text = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())
    # Libraries wrap the system's message in several of their own.
    return "No space left on device" if "No space left on device" in text else text[:200] or type(error).__name__


def check_room(directory: Path, size: int) -> None:
    """Reserves and releases ``size`` bytes in a directory; raises WriteFailed where the disk or a quota is full."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            elif shutil.disk_usage(directory).free < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise WriteFailed(f"cannot write {size / 1e6:.1f} MB in {directory}: {reason(error)}") from error


def attempt(writes: Iterable[Callable[[], None]]) -> None:
    """Does all writes, even after one has failed; raises the first WriteFailed."""
    failures = []
    for write in writes:
        try:
            write()
        except WriteFailed as error:
            failures.append(error)
    if failures:
        raise failures[0]


class AppendFile:
    """A file that grows by whole appends: an append that does not fit is undone, and waits for the next one."""

    def __init__(self, path: Path, content: bytes = b""):
        """Replaces the file's contents; raises UserError as ``replacing``."""
        write_bytes(path, content)
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._size = len(content)
        self._waiting = b""

    def append(self, data: bytes) -> None:
        """Appends earlier data that is still waiting, then ``data``.

        Raises WriteFailed where there is no room; the file then ends as before, and ``data`` waits in memory.
        """
        self._waiting += data
        rest = memoryview(self._waiting)
        try:
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), self._size)
            raise WriteFailed(f"cannot write {self._path}: {reason(error)}") from error
        self._size += len(self._waiting)
        self._waiting = b""

    def sync(self) -> None:
        """Brings everything appended, what waits included, to the disk itself; raises WriteFailed as ``append``."""
        self.append(b"")
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise WriteFailed(f"cannot write {self._path}: {reason(error)}") from error

    def close(self) -> None:
        """Closes the file; what waits is lost."""
        self._file.close()
