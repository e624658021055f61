"""Gymnasium's vector infos: values of all worlds, and masks of whom they speak."""

from __future__ import annotations

from typing import Any

import numpy as np


def with_masks(values: dict[str, Any], mask: Any) -> dict[str, Any]:
    """Gymnasium's vector infos: beside each value, as ``_NAME``, the worlds [N] that it speaks of.

    What speaks of none is left out, as Gymnasium does, where that can be known without waiting for the device.
    """
    if isinstance(mask, np.ndarray) and not mask.any():
        return {}
    return values | {f"_{name}": mask for name in values}


def where_done(final_obs: Any, done: Any) -> np.ndarray:
    """The last observations as Gymnasium has them: an array of arrays, None where no episode has ended."""
    objects = np.full(len(done), None, object)
    for i in np.flatnonzero(done):
        objects[i] = final_obs[i]
    return objects
