"""Gymnasium's action spaces as the vectors of numbers and choices that a policy acts with."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from mjxppo.envs.actions import MOST_CATEGORIES, ActionSpec
from mjxppo.envs.batch import MAX_VALUE
from mjxppo.errors import UserError


def action_spec(space: gymnasium.Space[Any], name: str) -> ActionSpec:
    """The parts of an action in ``space``, of the environment ``name``.

    A vector of numbers alone stays as it is: its range [-1, 1] is what ``make_one`` scales. Everything else has the
    space's own form and bounds.

    Raises:
        UserError: the space, or a part of it, is of a kind that a policy cannot act in; names the part.
    """
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        check_box(space, name)
        return ActionSpec(int(space.shape[0]))
    categories: list[int] = []
    numbers: list[int] = []
    form = _form(space, name, "", numbers, categories)
    if not numbers and not categories:
        raise UserError(f"env: the actions of {name} have no parts, {space}, and a policy nothing to choose")
    if sum(categories) > MOST_CATEGORIES:
        raise UserError(
            f"env: the actions of {name} have {sum(categories)} categories; {MOST_CATEGORIES} are the most that a "
            f"policy chooses among"
        )
    return ActionSpec(sum(numbers), tuple(categories), form)


def check_box(space: spaces.Box, name: str, part: str = "") -> None:
    """Raises UserError unless [-1, 1] can stand for the bounds of each number."""
    of = f"the actions of {name}" if not part else f"{part} of the actions of {name}"
    if not np.prod(space.shape):
        raise UserError(f"env: {of} have no numbers, {space}, and a policy nothing to choose; leave them out")
    if not np.issubdtype(space.dtype, np.floating):
        raise UserError(f"env: {of} are of {space.dtype}, and a policy's are not whole numbers; use MultiDiscrete")
    bounded = (np.abs(space.low) <= MAX_VALUE) & (np.abs(space.high) <= MAX_VALUE)
    if not bounded.all():  # float32's largest number is no bound either: the range would be infinite
        component = int(np.argmin(bounded.ravel()))
        bounds = f"[{space.low.ravel()[component]}, {space.high.ravel()[component]}]"
        raise UserError(f"env: {of} have no bounds to scale [-1, 1] to: component {component} is within {bounds}")
    if (space.low >= space.high).any():
        component = int(np.argmax((space.low >= space.high).ravel()))
        raise UserError(f"env: component {component} of {of} has equal bounds; leave it out")


def _form(space: Any, name: str, part: str, numbers: list[int], categories: list[int]) -> tuple[Any, ...]:
    """``ActionSpec.form`` of a part of the space; adds its sizes to ``numbers`` and ``categories``."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        named = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        inside = [(key, _form(one, name, f"{part}[{key!r}]", numbers, categories)) for key, one in named]
        if isinstance(space, spaces.Dict):
            return ("dict", tuple(inside))
        return ("tuple", tuple(form for _, form in inside))
    if isinstance(space, spaces.Box):
        check_box(space, name, part)
        numbers.append(int(np.prod(space.shape)))
        bounds = (tuple(bound.astype(float).ravel().tolist()) for bound in (space.low, space.high))
        return ("box", space.shape, *bounds, str(space.dtype))
    form: tuple[Any, ...]
    if isinstance(space, spaces.Discrete):
        counts, form = [int(space.n)], ("discrete", int(space.n), int(space.start), str(space.dtype))
    elif isinstance(space, spaces.MultiDiscrete):
        counts, start = np.asarray(space.nvec).ravel().tolist(), np.asarray(space.start).ravel().tolist()
        form = ("multi", space.shape, tuple(counts), tuple(start), str(space.dtype))
    elif isinstance(space, spaces.MultiBinary):
        counts = [2] * int(np.prod(space.shape))
        form = ("multi", space.shape, tuple(counts), (0,) * len(counts), str(space.dtype))
    else:
        where = f" in {part}" if part else ""
        raise UserError(
            f"env: the actions of {name} are {type(space).__name__}{where}; a policy acts in Box, Discrete, "
            f"MultiDiscrete, MultiBinary, and Dict and Tuple of these"
        )
    if min(counts) < 2:
        where = f" in {part}" if part else ""
        raise UserError(
            f"env: the actions of {name} have {space}{where}, of which a choice has one category; leave it out"
        )
    categories.extend(counts)
    return form
