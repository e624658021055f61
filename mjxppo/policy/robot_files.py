"""The files that a robot's model is made of, and whether they are still what they were."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping


def hashes(xml_file: object) -> dict[str, str]:
    """The SHA-256 of a user's model file and of all files that it names, by absolute path.

    Empty for the name of a file that comes with Gymnasium, and for None.
    """
    if not isinstance(xml_file, str) or not os.path.isabs(xml_file):
        return {}
    found = {path: sha256(path) for path in (xml_file, *named_in(xml_file))}
    return {path: digest for path, digest in found.items() if digest is not None}


def what_changed(files: Mapping[str, str], since: str) -> str | None:
    """The first of the files whose hash is no longer that in ``files``, as a message; None where all are the same."""
    for path, digest in files.items():
        if sha256(path) != digest:
            return f"{path} {what_happened(path)} since {since}"
    return None


def named_in(file: str) -> list[str]:
    """The absolute paths of all files that a model file names, and of those that they name."""
    import mujoco  # plot and watch do without, and so does a policy that only acts

    try:
        return sorted(set(mujoco.mju_getXMLDependencies(file)))
    except Exception:  # no XML, or gone; then its hash differs
        return []


def what_happened(path: str) -> str:
    """Whether a file that is not as it was "has changed" or "has vanished"; the words of a message."""
    return "has changed" if os.path.isfile(path) else "has vanished"


def sha256(path: str) -> str | None:
    """The hash of a file's contents; None where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
