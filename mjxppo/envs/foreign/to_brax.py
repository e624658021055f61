"""ToBrax: a task as an environment of Brax, for trainers written for ``brax.envs.Env``."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from mjxppo.envs.batch import all_sound, is_sound
from mjxppo.envs.robot_task import RobotTask
from mjxppo.envs.task import Task
from mjxppo.physics.messages import import_mjx

import_mjx()  # before Brax, which imports MJX itself

from brax.envs.base import Env, State  # noqa: E402


class ToBrax(Env):
    """One world of a task with Brax's interface; ``jax.vmap`` makes batches, as Brax's wrappers do.

    Like Brax's own environments it has no time limit and does not reset itself: Brax's wrappers add both. ``metrics``
    are the reward's terms. A world that breaks (``EnvState.nonfinite``) is done, with reward 0.
    """

    def __init__(self, task: Task):
        self.task = task

    def reset(self, rng: jax.Array) -> State:
        keys = jnp.asarray(rng)[None]
        if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
            keys = jax.random.wrap_key_data(keys)
        worlds = self.task.initial(keys)
        obs = self.task.observe(worlds)
        terms = self.task.reward_term_names(worlds, jnp.zeros((1, self.action_size), obs.dtype))
        zero = jnp.zeros((), obs.dtype)
        return State(_first_world(worlds), obs[0], zero, zero, dict.fromkeys(terms, zero), {})

    def step(self, state: State, action: jax.Array) -> State:
        worlds = jax.tree.map(lambda x: x[None], state.pipeline_state)
        worlds, terms, terminated = self.task.advance(worlds, jnp.asarray(action, state.obs.dtype)[None])
        obs = self.task.observe(worlds)
        sound = all_sound((self.task.state_variables(worlds), obs, terms))
        terms = {name: jnp.where(sound, term, 0)[0] for name, term in terms.items()}
        return state.replace(
            pipeline_state=_first_world(worlds),
            obs=jnp.where(is_sound(obs), obs, 0)[0],
            reward=sum(terms.values(), jnp.zeros_like(state.reward)),
            done=(terminated | ~sound)[0].astype(state.done.dtype),
            metrics=state.metrics | terms,
        )

    @property
    def observation_size(self) -> int:
        return self.task.obs_size

    @property
    def action_size(self) -> int:
        return self.task.action_size

    @property
    def backend(self) -> str:
        """The physics backend's name; of a task that is not locomotion the task's name."""
        return self.task.physics.name if isinstance(self.task, RobotTask) else self.task.name

    @property
    def dt(self) -> float:
        """Simulated seconds per step."""
        return self.task.step_duration


def _first_world(tree: Any) -> Any:
    return jax.tree.map(lambda x: x[0], tree)
