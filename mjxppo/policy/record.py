"""Recording demonstrations: episodes of a policy or of any other controller."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from mjxppo import envs
from mjxppo.config.schema import Config
from mjxppo.envs.actions import ActionSpec
from mjxppo.envs.registry import gym_id_of, import_place
from mjxppo.errors import UserError
from mjxppo.policy import evaluate
from mjxppo.policy.demonstrations import Demonstrations
from mjxppo.policy.engine import Engine
from mjxppo.policy.evaluate import Episodes
from mjxppo.policy.policy import ActFunction, Policy, begin_episode

Function = Callable[[np.ndarray, int], Any]
"""A controller: the action for one observation [obs_size] and the step of the episode, from 0.

Numbers of the action are in [-1, 1], which stands for the bounds of the action space; then comes the index, from 0, of
each choice."""


class Controller:
    """A function of the user's, as a policy that acts in a batch of episodes."""

    def __init__(self, name: str, function: Function, actions: ActionSpec):
        """``name`` is what messages call it."""
        self.name, self.function, self.actions = name, function, actions
        self._step = 0

    def begin(self, vectors: bool = False) -> Controller:
        """The same at the beginning of new episodes; its actions are always vectors."""
        return Controller(self.name, self.function, self.actions)

    def __call__(self, obs: np.ndarray, mask: Any = None) -> np.ndarray:
        """Actions for observations [N, obs_size] of N episodes at the same step, [N, action_size] float32."""
        vectors = np.stack([self._one(one) for one in obs])
        self._step += 1
        return vectors

    def _one(self, obs: np.ndarray) -> np.ndarray:
        try:
            vector = np.atleast_1d(np.asarray(self.function(obs, self._step), np.float32))
        except Exception as error:  # a user's function may fail in any way
            what = f"{type(error).__name__}: {error}"
            raise UserError(f"controller: {self.name} failed at step {self._step}: {what}") from error
        actions = self.actions
        if vector.shape != (actions.size,):
            found = list(vector.shape)
            raise UserError(f"controller: {self.name} returned {found}; the task takes [{actions.size}], {actions}")
        numbers, choices = vector[: actions.continuous], vector[actions.continuous :]
        if not (np.abs(numbers) <= 1).all():
            raise UserError(
                f"controller: {self.name} returned {numbers.tolist()} at step {self._step}; numbers must be in [-1, 1]"
            )
        if any(choice not in range(count) for choice, count in zip(choices.tolist(), actions.categories, strict=True)):
            raise UserError(
                f"controller: {self.name} returned {choices.tolist()} at step {self._step}; choices are numbered from "
                f"0, and are {actions}"
            )
        return vector


def load_function(place: str) -> Function:
    """The function that ``module:function`` or ``file.py:function`` names; raises UserError where there is none."""
    source, _, name = place.rpartition(":")
    if not source or not name:
        raise UserError(f"controller: {place} must be a run, a .npz, module:function, or file.py:function")
    # A file's name means the same in all directories then: modules are imported once.
    absolute = os.path.abspath(source) if source.endswith(".py") else source
    function = getattr(import_place(absolute, "controller"), name, None)
    if not callable(function):
        raise UserError(f"controller: {source} has no function {name}")
    return function


class _Recorder:
    """A policy that keeps what it sees, and the actions taken there or those that a teacher would take."""

    def __init__(self, policy: ActFunction, actions: ActionSpec, teacher: ActFunction | None):
        self.policy, self.actions, self.teacher = policy, actions, teacher
        self.batches: list[list[tuple[np.ndarray, np.ndarray]]] = []
        """Observations [N, obs_size] and actions [N, action_size] of each step, in each batch of episodes."""

    def begin(self, vectors: bool = False) -> ActFunction:
        act = begin_episode(self.policy, vectors=True)
        asked = None if self.teacher is None else begin_episode(self.teacher, vectors=True)
        steps: list[tuple[np.ndarray, np.ndarray]] = []
        self.batches.append(steps)

        def act_and_keep(obs: np.ndarray, **masked: Any) -> Any:
            vector = act(obs, **masked)
            steps.append((np.array(obs, np.float32), vector if asked is None else asked(obs, **masked)))
            return vector if vectors else self.actions.decode(vector)

        return act_and_keep

    def demonstrations(self, episodes: Episodes, env: str) -> Demonstrations:
        """The steps of the finished ``episodes``, without those whose world broke."""
        lengths, broken = iter(episodes.lengths), iter(episodes.broken)
        obs: list[np.ndarray] = []
        action: list[np.ndarray] = []
        for steps in self.batches:
            seen, taken = (np.stack(arrays, axis=1) for arrays in zip(*steps, strict=True))
            for world in range(len(seen)):
                length = next(lengths)
                if not next(broken):
                    obs.append(seen[world, :length])
                    action.append(taken[world, :length])
        if not obs:
            raise UserError(f"env: all worlds of {env} broke; there is nothing to record")
        start = np.concatenate([np.arange(len(part)) == 0 for part in obs])
        spec = ActionSpec(*self.actions.parts)
        return Demonstrations(np.concatenate(obs), np.concatenate(action).astype(np.float32), start, spec, env)


def engine_for(env: str) -> Engine:
    """Where demonstrations of a task are recorded if nothing else is said: in Gymnasium, where it has the task."""
    return "own" if gym_id_of(env) is None else "gymnasium"


def record(
    policy: ActFunction | Function,
    config: Config,
    episodes: int,
    seed: int,
    engine: Engine | None = None,
    teacher: ActFunction | Function | None = None,
    env: envs.Environment | None = None,
) -> tuple[Demonstrations, np.ndarray]:
    """Whole episodes of a policy, and the return of each, [episodes].

    Args:
        policy: what acts: a ``Policy``, or a function of one observation and the step (``Function``).
        config: its task and task options are used.
        episodes: how many.
        seed: the first episode's; the others follow on.
        engine: as for ``evaluate``; None: ``engine_for`` the task.
        teacher: whose actions are recorded in place of those taken (DAgger), as ``policy``.
        env: an environment in place of the task that ``config`` names; not with "gymnasium".

    Raises:
        UserError: the policy does not fit the task, or an action is none; or there is no such engine for the task.
    """
    engine = engine or engine_for(config.env)
    backend = config.physics.backend
    if engine != "gymnasium" and engine != "own":
        backend = engine
    env = env or envs.make(config.env, backend=backend, **config.env_options)
    acting, asked = (None if one is None else _acting(one, env) for one in (policy, teacher))
    assert acting is not None
    recorder: Any = _Recorder(acting, env.actions, asked)
    if engine == "gymnasium":
        ended = evaluate.gymnasium_episodes(recorder, config, episodes, seed, {})
    else:
        ended = evaluate.device_episodes(recorder, env, episodes, seed)
    return recorder.demonstrations(ended, config.env), ended.returns[~ended.broken]


def _acting(policy: ActFunction | Function, env: envs.Environment) -> ActFunction:
    """The policy as one that acts in a batch; raises UserError where it is made for other spaces."""
    if not isinstance(policy, Policy):
        return Controller(getattr(policy, "__name__", repr(policy)), policy, env.actions)
    policy.check_can_act_alone()
    for what, ours, theirs in (
        ("observations", policy.obs_size, env.obs_size),
        ("actions", policy.actions.parts, env.actions.parts),
    ):
        if ours != theirs:
            shown = env.actions if what == "actions" else theirs
            own = policy.actions if what == "actions" else ours
            raise UserError(f"controller: the policy has {what} of {own}, and {env.name} of {shown}; name its own task")
    return policy
