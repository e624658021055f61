"""Gymnasium's vector infos: the values of all worlds, and masks of the worlds that have them."""

from __future__ import annotations

from typing import Any

import numpy as np


def with_masks(values: dict[str, Any], mask: Any) -> dict[str, Any]:
    """Gymnasium's vector infos: each value, and as ``_NAME`` the mask [N] of the worlds that have it.

    Values that no world has are left out, as Gymnasium does; not with a JAX mask, whose values are not waited for.
    """
    if isinstance(mask, np.ndarray) and not mask.any():
        return {}
    return values | {f"_{name}": mask for name in values}


def where_done(final_obs: Any, done: Any) -> np.ndarray:
    """The last observations in Gymnasium's form: an object array [N] of arrays, None where no episode has ended."""
    objects = np.full(len(done), None, object)
    for i in np.flatnonzero(done):
        objects[i] = final_obs[i]
    return objects
