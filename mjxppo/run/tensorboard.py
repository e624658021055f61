"""TensorBoard's event files, written without a thread: tensorboardX's dies on a full disk and then blocks the run."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX.proto import event_pb2
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import hparams

from mjxppo.files import AppendFile

RESULTS = ("eval/mean", "eval/std", "eval/min", "episode/expected_return")
"""Scalars that TensorBoard lists beside the hyperparameters."""


class TensorBoardFile:
    """One event file, to which scalars are appended."""

    def __init__(
        self,
        directory: Path,
        purge_step: int | None = None,
        hyperparameters: Mapping[str, bool | float | str] | None = None,
        suffix: str = "",
    ):
        """Opens a new file in ``directory``; raises UserError where it cannot be written.

        Args:
            directory: of one run's event files; made where it is missing.
            purge_step: readers drop values of earlier files from this step on; None: they drop nothing.
            hyperparameters: shown for the run, beside its last values of ``RESULTS``.
            suffix: of the file's name; readers read files in the order of their names, and never an earlier one again.
        """
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}{suffix}"
        start = _record(event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"))
        if purge_step is not None:
            log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            start += _record(event_pb2.Event(wall_time=time.time(), step=purge_step, session_log=log))
        self._file = AppendFile(directory / name, start + self._hyperparameters(hyperparameters or {}))

    def _hyperparameters(self, values: Mapping[str, bool | float | str]) -> bytes:
        if not values:
            return b""
        experiment, session, _ = hparams(dict(values), dict.fromkeys(RESULTS, 0.0))
        return b"".join(_record(event_pb2.Event(wall_time=time.time(), summary=part)) for part in (experiment, session))

    def append(self, step: int, scalars: dict[str, float]) -> None:
        """Appends named values; raises WriteFailed as ``AppendFile.append``."""
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._file.append(_record(event_pb2.Event(wall_time=time.time(), step=step, summary=Summary(value=values))))

    def append_video(self, step: int, tag: str, path: Path) -> None:
        """Appends a video file as an animation, which TensorBoard plays among the images; raises WriteFailed."""
        from mjxppo.render.video import animation  # imports MuJoCo, which `watch` does not need

        self.append_animation(step, tag, animation(path))

    def append_animation(self, step: int, tag: str, animation: tuple[bytes, int, int]) -> None:
        """Appends an animated gif with its width and height in pixels; raises WriteFailed."""
        content, width, height = animation
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
        summary = Summary(value=[Summary.Value(tag=tag, image=image)])
        self._file.append(_record(event_pb2.Event(wall_time=time.time(), step=step, summary=summary)))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _record(event: object) -> bytes:
    """An event in TFRecord framing: length, its checksum, contents, their checksum."""
    data = event.SerializeToString()  # type: ignore[attr-defined]
    header = struct.pack("<Q", len(data))
    return header + struct.pack("<I", masked_crc32c(header)) + data + struct.pack("<I", masked_crc32c(data))
