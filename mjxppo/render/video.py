"""Video files: written under a temporary name and renamed when complete, or read back as a small gif."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

import imageio_ffmpeg
import mediapy
import numpy as np

from mjxppo.errors import UserError
from mjxppo.files import replacing


def write_video(path: Path, frames: Iterable[np.ndarray], width: int, height: int, fps: float) -> int:
    """Encodes RGB frames [H, W, 3] as an H.264 mp4 or a gif, by the suffix of ``path``; returns their number."""
    mediapy.set_ffmpeg(ffmpeg())
    count = 0
    with replacing(path) as temporary:
        is_gif = path.suffix.lower() == ".gif"
        # faststart lets a browser play the file while it loads; slower presets make no smaller files of these pictures.
        h264 = {"codec": "h264", "crf": 20, "ffmpeg_args": "-preset veryfast -movflags +faststart"}
        options = {"codec": "gif"} if is_gif else h264
        try:
            with mediapy.VideoWriter(temporary, (height, width), fps=fps, **options) as writer:
                for frame in frames:
                    writer.add_image(frame)
                    count += 1
        except RuntimeError as error:
            if not str(error).startswith("Error writing"):  # mediapy's text where ffmpeg failed
                raise
            reasons = str(error).partition("': ")[2].split("\n")
            said = next((line.strip() for line in reasons if line.strip()), "is the disk full?")
            raise UserError(f"cannot write {path}: ffmpeg failed: {said}") from error
    return count


def animation(path: Path, width: int = 320, fps: float = 12.5, seconds: float = 5.0) -> tuple[bytes, int, int]:
    """The first ``seconds`` of a video file as an animated gif: its contents, width and height in pixels.

    Raises:
        UserError: the file cannot be read.
    """
    command = [ffmpeg(), "-loglevel", "error", "-t", str(seconds), "-i", str(path)]
    command += ["-vf", f"fps={fps},scale={width}:-2", "-f", "gif", "-"]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
    if done.returncode or len(done.stdout) < 10:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise UserError(f"cannot read {path}: ffmpeg failed{': ' + said[-1] if said else ''}")
    return done.stdout, *struct.unpack("<HH", done.stdout[6:10])


def ffmpeg() -> str:
    """Path of imageio-ffmpeg's ffmpeg program, or else of the one on PATH; raises UserError where there is neither."""
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        program = shutil.which("ffmpeg")
        if program is None:
            raise UserError("no ffmpeg program found; install one, or write an .html file instead") from None
        return program
