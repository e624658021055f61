"""A user's model file as a run was trained on it: the copy in the run's directory, and when that is used.

``model/`` in the run's directory holds the file and all that it names (included files, meshes, textures), in the same
places relative to each other, and ``files.json`` with the SHA-256 of each. The bytes are those of the files: MuJoCo's
own writer of models would round their numbers.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from mjxppo.config.schema import Config
from mjxppo.console import say
from mjxppo.errors import UserError
from mjxppo.files import read_json, write_bytes, write_json
from mjxppo.policy import robot_files
from mjxppo.policy.robot_files import named_in, sha256, what_happened

DIRECTORY, MANIFEST = "model", "files.json"


def keep(config: Config, run_dir: Path) -> None:
    """Copies the model file of a run that begins into its directory; does nothing where that holds a copy.

    A file that comes with Gymnasium is not copied. Raises UserError where the copy cannot be written.
    """
    name = config.env_options.get("xml_file")
    folder = run_dir / DIRECTORY
    if not isinstance(name, str) or not os.path.isabs(name) or (folder / MANIFEST).exists():
        return
    paths = [name, *(path for path in named_in(name) if path != name and os.path.isfile(path))]
    base = os.path.commonpath([os.path.dirname(os.path.normpath(path)) for path in paths])
    files: dict[str, Any] = {}
    for path in paths:
        copy, content = os.path.relpath(os.path.normpath(path), base), Path(path).read_bytes()
        write_bytes(folder / copy, content)
        files[path] = {"copy": copy, "sha256": hashlib.sha256(content).hexdigest()}
    # The last one written: with it the copy is whole.
    write_json(folder / MANIFEST, {"xml_file": name, "copy": files[name]["copy"], "files": files})


def comment(run_dir: Path) -> str:
    """A line for ``config.yaml`` with the hash of the run's model file; empty where it keeps none."""
    kept = read_json(run_dir / DIRECTORY / MANIFEST)
    if kept is None:
        return ""
    sha256 = kept["files"][kept["xml_file"]]["sha256"]
    return f"# env_options.xml_file: sha256 {sha256}, kept in {DIRECTORY}/{kept['copy']}\n"


def what_changed(config: Config, run_dir: Path) -> str | None:
    """The file, of those that a run's model was made of, that is not as it was, as a message; None where all are."""
    kept = _kept(config, run_dir)
    files = {path: entry["sha256"] for path, entry in kept["files"].items()} if kept else {}
    return robot_files.what_changed(files, f"{run_dir} began")


def as_trained(config: Config, run_dir: Path) -> Config:
    """The configuration with the model file that a run was trained on.

    That is the file itself while it, and all that it names, are as they were when the run began. Otherwise it is the
    copy in the run's directory, and one line says so.

    Raises:
        UserError: the file has changed, and so has the copy.
    """
    kept, changed = _kept(config, run_dir), what_changed(config, run_dir)
    if kept is None or changed is None:
        return config
    folder = str((run_dir / DIRECTORY).absolute())
    copy = os.path.join(folder, kept["copy"])
    # What a model names by an absolute path is not read from the copy.
    expected = {path: entry["sha256"] for path, entry in kept["files"].items()}
    expected |= {os.path.join(folder, entry["copy"]): entry["sha256"] for entry in kept["files"].values()}
    for path in (copy, *named_in(copy)):
        if sha256(path) != expected.get(os.path.normpath(path), expected.get(path)):
            raise UserError(
                f"env_options.xml_file: {changed}, and its copy cannot be used: {path} {what_happened(path)}; "
                "put it back as it was"
            )
    say(f"{changed}: its copy {copy} is used")
    return replace(config, env_options={**config.env_options, "xml_file": copy})


def _kept(config: Config, run_dir: Path) -> dict[str, Any] | None:
    """The contents of ``files.json``, where they are about the configuration's model file."""
    kept = read_json(run_dir / DIRECTORY / MANIFEST)
    return kept if kept is not None and kept["xml_file"] == config.env_options.get("xml_file") else None
