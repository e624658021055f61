"""A 4x4 gridworld, whose optimum value iteration finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mjxppo.envs.task import NO_LIMIT, Array, Task
from mjxppo.errors import UserError

GRID = ("   +", " # -", " #  ", "    ")
"""Rows from the top: a free cell, a wall (#), the goal (+), or the pit (-)."""
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""Rows down and columns to the right of each action: up, right, down, left."""
_CELLS = "".join(GRID)
_SIZE = len(GRID)


@dataclass(frozen=True, kw_only=True)
class GridworldOptions:
    """The gridworld's options."""

    step_reward: float = -0.1
    """Reward of each step, in addition to that of the goal and the pit."""
    mask_walls: bool = False
    """Whether moves into a wall or out of the grid are masked, instead of leaving the agent where it is."""
    max_episode_steps: int = 50
    """Time limit, in environment steps."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_episode_steps <= NO_LIMIT:
            raise UserError(
                f"env_options.max_episode_steps: must be from 1 to {NO_LIMIT}, not {self.max_episode_steps}"
            )


def transitions() -> np.ndarray:
    """The cell that each move leads to from each cell, [16, 4] int32; a wall or the edge leaves the agent in place."""
    cells = np.arange(_SIZE * _SIZE)
    row, column = np.divmod(cells[:, None], _SIZE)
    down, right = np.array(MOVES).T
    next_row, next_column = row + down, column + right
    inside = (next_row >= 0) & (next_row < _SIZE) & (next_column >= 0) & (next_column < _SIZE)
    to = np.where(inside, next_row * _SIZE + next_column, cells[:, None])
    walls = np.array([cell == "#" for cell in _CELLS])
    return np.where(walls[to], cells[:, None], to).astype(np.int32)


class Gridworld(Task):
    """An agent looks for the goal; worlds are the cells that the agents are in, [N] int32, counted along the rows.

    Observation [16]: 1 for the agent's cell, 0 for the others. Action [1]: 0 up, 1 right, 2 down, 3 left. Reward: -0.1
    for each step, +1 more where it reaches the goal, -1 more where it reaches the pit; both terminate. Episodes begin
    in a free cell at random, and are truncated after 50 steps.
    """

    name = "gridworld"
    gym_id = None
    Options: ClassVar[type[GridworldOptions]] = GridworldOptions
    obs_size, action_size, categories = _SIZE * _SIZE, 1, (len(MOVES),)
    step_duration = 1.0

    def __init__(self, options: GridworldOptions):
        self.options = options
        self.max_episode_steps = options.max_episode_steps

    def initial(self, keys: Array) -> Array:
        free = jnp.array([i for i, cell in enumerate(_CELLS) if cell == " "], jnp.int32)
        return jax.vmap(lambda key: jax.random.choice(key, free))(keys)

    def observe(self, worlds: Array) -> Array:
        return jax.nn.one_hot(worlds, self.obs_size, dtype=jnp.zeros(()).dtype)

    def action_mask(self, worlds: Array) -> Array | None:
        if not self.options.mask_walls:
            return None
        return jnp.asarray(transitions())[worlds] != worlds[:, None]

    def advance(self, worlds: Array, action: Array) -> tuple[Array, dict[str, Array], Array]:
        moved = jnp.asarray(transitions())[worlds, action[:, 0].astype(jnp.int32)]
        worth = jnp.array([{"+": 1.0, "-": -1.0}.get(cell, 0.0) for cell in _CELLS], action.dtype)[moved]
        step = jnp.full_like(worth, self.options.step_reward)
        return moved, {"reward_step": step, "reward_end": worth}, worth != 0

    def reward_term_names(self, worlds: Array, action: Array) -> list[str]:
        return ["reward_step", "reward_end"]
