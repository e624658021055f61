"""Reductions over the devices that share the worlds; on one device they do nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import jax
from jax import lax

T = TypeVar("T")

AXIS = "worlds"
"""Name of the mesh axis over which worlds are split."""


@dataclass(frozen=True)
class Devices:
    """The number of devices that run the program, and reductions over them."""

    count: int

    def sum(self, tree: T) -> T:
        """Sum over devices of each leaf."""
        return lax.psum(tree, AXIS) if self.count > 1 else tree

    def mean(self, tree: T) -> T:
        """Mean over devices of each leaf."""
        return lax.pmean(tree, AXIS) if self.count > 1 else tree

    def gather(self, x: jax.Array) -> jax.Array:
        """The arrays [n, ...] of all devices in a row, [count * n, ...], on each."""
        return lax.all_gather(x, AXIS, tiled=True) if self.count > 1 else x

    def index(self) -> int | jax.Array:
        """This device's place, from 0."""
        return lax.axis_index(AXIS) if self.count > 1 else 0
