"""Task: what a world is, what is observed of it, and what one step does to it.

A task has no episodes: ``environment.Environment`` counts steps, ends episodes at the time limit, resets
worlds, and replaces those that become non-finite.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax

from mjxppo.envs.actions import ActionSpec

Array = jax.Array

NO_LIMIT = 2**31 - 1
"""``max_episode_steps`` of tasks that have no time limit, or one that is not known."""


class Ended(NamedTuple):
    """Episodes of N worlds, some of which have just ended; each array is [N]."""

    done: Array
    """Whether the episode ended, bool. The other fields are valid only where it did."""
    episode_return: Array
    """Sum of the episode's rewards."""
    nonfinite: Array
    """Whether it ended because the world became NaN or infinite, bool."""
    clock_offset: Array
    """Steps by which the episode's clock was ahead when it began, int32; positive: the episode was cut short."""


class Task(ABC):
    """One task, as pure jittable functions on N independent worlds.

    ``worlds`` is any pytree whose arrays lead with N. A task must not let one world influence another.
    """

    name: str
    """The task's name in configurations and on the command line."""
    gym_id: str | None
    """The id of the Gymnasium environment that this task equals; None if there is none."""
    obs_size: int
    action_size: int
    categories: tuple[int, ...] = ()
    """Number of categories of each choice in an action. The last numbers of an action are their indices, from 0."""
    max_episode_steps: int
    """Time limit in environment steps."""
    step_duration: float
    """Simulated seconds per environment step."""
    made_with: Mapping[str, Any] | None = None
    """The options with which ``envs.make`` made an environment of another library; None for others."""
    differentiable: bool = True
    """Whether a step has derivatives by the worlds and the actions."""
    privileged_size: int = 0
    """Number of privileged numbers (the facts in ``hidden``), which are at the end of each observation."""

    @abstractmethod
    def initial(self, keys: Array) -> Any:
        """Worlds at the start of an episode, drawn at random: one for each random key [N]."""

    @abstractmethod
    def observe(self, worlds: Any) -> Array:
        """Observations of the worlds, [N, obs_size]."""

    @abstractmethod
    def advance(self, worlds: Any, action: Array) -> tuple[Any, dict[str, Array], Array]:
        """Takes one environment step with the actions [N, action_size].

        Returns:
            The new worlds; the reward's terms by name, each [N], which add up to the reward; and ``terminated`` [N].
        """

    def restart(self, worlds: Any, ended: Ended, keys: Array) -> Any:
        """Worlds at the start of their next episode, one for each random key [N], from those that the last step left.

        The caller uses them only where an episode has ended.
        """
        return self.initial(keys)

    def prepare(self, worlds: Any) -> Any:
        """Worlds prepared for the coming steps, by work that is too expensive for every step; by default unchanged.

        Called before each rollout. It must not change what the next step computes.
        """
        return worlds

    def hidden(self, worlds: Any) -> dict[str, Array]:
        """Facts about the worlds that observations do not contain, by name, each [N, any]; by default none."""
        return {}

    def reward_term_names(self, worlds: Any, action: Array) -> list[str]:
        """Names of the reward's terms. This default traces a whole step, which takes a second for some physics."""
        return list(jax.eval_shape(self.advance, worlds, action)[1])

    def state_variables(self, worlds: Any) -> Any:
        """The part of the worlds that a step may turn non-finite; by default all of it."""
        return worlds

    def reset_info(self, worlds: Any) -> dict[str, Array]:
        """Entries of Gymnasium's ``info`` that depend on the worlds alone, each [N]; by default none."""
        return {}

    def step_info(self, worlds: Any, reward_terms: dict[str, Array]) -> dict[str, Array]:
        """Gymnasium's ``info`` after a step and before any reset, each [N]: ``reset_info`` and the reward's terms."""
        return self.reset_info(worlds) | reward_terms

    def metrics(self, worlds: Any) -> dict[str, Array]:
        """Numbers of which training logs the mean over the worlds, by metric, each [N]; by default none."""
        return {}

    def action_mask(self, worlds: Any) -> Array | None:
        """Whether each category may be chosen in the next step, [N, sum of categories] bool; None: all always may.

        A choice of which a mask allows nothing is as if it allowed everything.
        """
        return None

    @property
    def actions(self) -> ActionSpec:
        """The parts of an action."""
        return ActionSpec(self.action_size - len(self.categories), self.categories)

    def hidden_sizes(self) -> dict[str, int]:
        """The names in ``hidden`` and how many numbers each has; names without numbers are left out."""
        known = jax.eval_shape(lambda keys: self.hidden(self.initial(keys)), jax.random.split(jax.random.key(0), 1))
        return {name: x.shape[1] for name, x in known.items() if x.shape[1]}

    @property
    def unwrapped(self) -> Task:
        """The innermost task, without the tasks around it."""
        return self


class WrappedTask(Task):
    """A task around a task. Its worlds are a dataclass that holds the inner task's worlds as ``inner``."""

    def __init__(self, inner: Task):
        self.inner = inner
        self.name, self.gym_id = inner.name, inner.gym_id
        self.obs_size, self.action_size, self.categories = inner.obs_size, inner.action_size, inner.categories
        self.privileged_size = inner.privileged_size
        self.max_episode_steps, self.step_duration = inner.max_episode_steps, inner.step_duration

    def prepare(self, worlds: Any) -> Any:
        return replace(worlds, inner=self.inner.prepare(worlds.inner))

    def hidden(self, worlds: Any) -> dict[str, Array]:
        return self.inner.hidden(worlds.inner)

    def reward_term_names(self, worlds: Any, action: Array) -> list[str]:
        return self.inner.reward_term_names(worlds.inner, action)

    def reset_info(self, worlds: Any) -> dict[str, Array]:
        return self.inner.reset_info(worlds.inner)

    def step_info(self, worlds: Any, reward_terms: dict[str, Array]) -> dict[str, Array]:
        return self.inner.step_info(worlds.inner, reward_terms)

    def metrics(self, worlds: Any) -> dict[str, Array]:
        return self.inner.metrics(worlds.inner)

    def action_mask(self, worlds: Any) -> Array | None:
        return self.inner.action_mask(worlds.inner)

    @property
    def differentiable(self) -> bool:  # type: ignore[override]
        return self.inner.differentiable

    @property
    def actions(self) -> ActionSpec:
        return self.inner.actions

    @property
    def unwrapped(self) -> Task:
        return self.inner.unwrapped
