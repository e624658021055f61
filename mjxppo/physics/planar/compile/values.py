"""Model fields that may differ between worlds, as the compiler reads them."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import mujoco

from mjxppo.physics.maths import Scalar
from mjxppo.physics.parameters import nominal


class Values:
    """Model fields as scalars: the model's own number, or an array [N] where worlds have their own."""

    def __init__(self, model: mujoco.MjModel, parameters: Mapping[str, jax.Array]):
        self._model = model
        self._parameters = parameters

    def vary(self, name: str) -> bool:
        """Whether worlds have their own values of a field."""
        return name in self._parameters

    def __call__(self, name: str, *index: int) -> Scalar:
        """One element of a field."""
        if name in self._parameters:
            return self._parameters[name][(slice(None), *index)]
        return float(nominal(self._model, name)[index])
