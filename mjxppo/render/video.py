"""Writes frames to a video file, which appears under its name only when it is complete."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import mediapy
import numpy as np

from mjxppo.errors import UserError


def write_video(path: Path, frames: Iterable[np.ndarray], width: int, height: int, fps: float) -> int:
    """Encodes RGB frames [H, W, 3] as an H.264 mp4 or a gif, by the suffix of ``path``.

    Returns:
        The number of frames.
    """
    mediapy.set_ffmpeg(_ffmpeg())
    count = 0
    with replacing(path) as temporary:
        is_gif = path.suffix.lower() == ".gif"
        # faststart lets a browser play the file while it loads.
        options = {"codec": "gif"} if is_gif else {"codec": "h264", "crf": 20, "ffmpeg_args": "-movflags +faststart"}
        try:
            with mediapy.VideoWriter(temporary, (height, width), fps=fps, **options) as writer:
                for frame in frames:
                    writer.add_image(frame)
                    count += 1
        except RuntimeError as error:
            if not str(error).startswith("Error writing"):  # how mediapy passes on that ffmpeg failed
                raise
            reasons = str(error).partition("': ")[2].split("\n")
            said = next((line.strip() for line in reasons if line.strip()), "is the disk full?")
            raise UserError(f"cannot write {path}: ffmpeg failed: {said}") from error
    return count


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place at the end, and goes away if something fails.

    Raises:
        UserError: the place cannot be written.
    """
    if path.is_dir():
        raise UserError(f"{path} is a directory; name a file ending in .mp4, .gif or .html")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix.lower(), dir=path.parent)
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


def _ffmpeg() -> str:
    """The ffmpeg program that comes with imageio-ffmpeg, or the one on PATH."""
    import imageio_ffmpeg

    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        program = shutil.which("ffmpeg")
        if program is None:
            raise UserError("no ffmpeg program found; install one, or write an .html file instead") from None
        return program
