"""MjxVectorEnv: a task as a vector environment of Gymnasium, for trainers of other libraries.

``gymnasium.make_vec("mjxppo.gymnasium:mjxppo/HalfCheetah-v5", num_envs=1024)`` calls ``make_vec`` here. One device
program steps all worlds; a step is one call of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import gymnasium
import jax
import numpy as np
from gymnasium import error, logger
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from mjxppo import envs, xla
from mjxppo.config.schema import BackendName
from mjxppo.config.values import plain, whole
from mjxppo.envs.actions import ActionSpec
from mjxppo.envs.build import on_device
from mjxppo.envs.environment import Environment, EnvState
from mjxppo.envs.robot_task import RobotTask
from mjxppo.envs.task import Task
from mjxppo.errors import UserError
from mjxppo.interop import autoreset
from mjxppo.interop.autoreset import Step
from mjxppo.interop.infos import where_done, with_masks

if TYPE_CHECKING:
    from mjxppo.render.worlds import WorldsView

Arrays = Literal["numpy", "jax"]


class MjxVectorEnv(VectorEnv):
    """N worlds of one task with Gymnasium's vector interface.

    Spaces, ``infos`` and the three autoreset modes are those that ``SyncVectorEnv`` has for Gymnasium's own v5
    environments. What differs: physics is in float32; world i of ``reset(seed=s)`` starts from
    ``jax.random.key(s + i)``; and a world that becomes non-finite is truncated, with reward 0 and its last finite
    observation.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (as in Gymnasium)

    def __init__(
        self,
        env: Environment | Task,
        num_envs: int,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        arrays: Arrays = "numpy",
        dtype: Any = np.float64,
        num_devices: int = 0,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
    ):
        """Wraps an environment; the device program is compiled by the first ``reset`` and the first ``step``.

        Args:
            env: the task, or an environment of it.
            num_envs: number of worlds N.
            autoreset_mode: when a world whose episode has ended is reset, see Gymnasium's documentation.
            arrays: "numpy"; or "jax" for arrays on the device, which are neither copied nor waited for.
            dtype: of NumPy observations, float64 (as Gymnasium's own) or float32. JAX arrays are float32.
            num_devices: devices that share the worlds; 0: the largest number that divides ``num_envs``. With one, other
                frameworks take JAX arrays by DLPack without a copy (``torch.from_dlpack(obs)``).
            render_mode: "rgb_array" lets ``render`` draw; None: it does not.
            width: of a picture, in pixels.
            height: of a picture, in pixels.

        Raises:
            UserError: an argument has another value.
        """
        num_envs, num_devices = whole("num_envs", num_envs), whole("num_devices", num_devices)
        if num_envs < 1:
            raise UserError(f"num_envs: must be at least 1, not {num_envs}")
        if arrays not in ("numpy", "jax"):
            raise UserError(f"arrays: must be numpy or jax, not {arrays!r}")
        self._dtype = np.dtype(np.float32 if arrays == "jax" else dtype)
        if self._dtype not in (np.float32, np.float64):
            raise UserError(f"dtype: must be float64 or float32, not {dtype!r}")
        self.env = env = on_device(envs.make(env))
        self.num_envs = num_envs
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self.metadata = _metadata(env.task) | {"autoreset_mode": self.autoreset_mode}
        self.render_mode = _render_mode(render_mode, env.task)
        self._picture_size = width, height
        self._view: WorldsView | None = None
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (env.obs_size,), self._dtype.type)
        self.single_action_space = _action_space(env.actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._arrays = arrays
        self._compile(autoreset.OnDevices(num_envs, num_devices))
        self._state: EnvState | None = None
        self._done: Any = None

    def _compile(self, devices: autoreset.OnDevices) -> None:
        """Builds the three device programs; with NumPy arrays, their results come packed in one array."""

        def result(state: EnvState, step: Step) -> tuple[EnvState, Any]:
            return state, step if self._arrays == "jax" else autoreset.pack(step)

        def start(keys: jax.Array) -> Any:
            return result(*autoreset.reset(self.env, keys))

        def restart(*arguments: Any) -> Any:
            return result(*autoreset.reset_some(self.env, *arguments))

        def advance(state: EnvState, action: jax.Array) -> Any:
            return result(*autoreset.step(self.env, self.autoreset_mode, state, action))

        self._start, self._restart = devices.jit(start), devices.jit(restart)
        self._advance = devices.jit(advance, donate_argnums=0)
        keys = jax.ShapeDtypeStruct((1, 2), np.uint32)
        state, self._first_like = jax.eval_shape(partial(autoreset.reset, self.env), keys)
        action = jax.ShapeDtypeStruct((1, *(self.single_action_space.shape or ())), np.float32)
        program = partial(autoreset.step, self.env, self.autoreset_mode)
        self._step_like = jax.eval_shape(program, state, action)[1]

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts new episodes.

        Args:
            seed: one seed for each world, or s for s, s + 1, ...; None: each world continues with its own random
                numbers, and the first reset draws from ``np_random``.
            options: ``{"reset_mask": [N] bool}`` resets only these worlds.

        Raises:
            gymnasium.error.Error: a seed is negative or beyond 64 bits.
        """
        mask = self._reset_mask(options)
        seed = plain(seed)
        if isinstance(seed, int):
            super().reset(seed=seed)
            seed = [seed + i for i in range(self.num_envs)]
        seeds: list[int | None] = [None] * self.num_envs if seed is None else list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed: {len(seeds)} seeds for {self.num_envs} worlds")
        keys = self._keys(seeds)
        if self._state is None:
            self._state, step = self._start(keys)
        else:
            seeded = np.array([seed is not None for seed in seeds])
            self._state, step = self._restart(self._state, keys, seeded, mask)
        step = self._received(step, self._first_like)
        self._done = step.done
        return self._obs(step.obs), with_masks(step.info, step.began)

    def _reset_mask(self, options: dict[str, Any] | None) -> np.ndarray:
        if not options or "reset_mask" not in options:
            return np.ones(self.num_envs, bool)
        mask = np.asarray(options["reset_mask"])
        if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
            raise ValueError(f"options['reset_mask']: must be [{self.num_envs}] bool with at least one True")
        if self._state is None:
            raise error.ResetNeeded("the first reset is of all worlds, without a reset_mask")
        return mask

    def _keys(self, seeds: list[int | None]) -> np.ndarray:
        """Raw random keys, [N, 2] uint32: for a seed that of ``jax.random.key(seed)``, else a random one."""
        try:
            words = np.array([0 if seed is None else int(seed) for seed in seeds], np.uint64)
        except OverflowError as overflow:
            raise error.Error("seed: must be from 0 to 2^64 - 1") from overflow
        if self._state is None:
            random = self.np_random.integers(2**64, size=self.num_envs, dtype=np.uint64)
            words = np.where([seed is None for seed in seeds], random, words)
        return np.stack([words >> np.uint64(32), words & np.uint64(2**32 - 1)], axis=-1).astype(np.uint32)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Takes one step in every world.

        Args:
            actions: [N, action_size]; values outside the action space are clipped by the actuators, not by the
                control cost. Of one choice [N].

        Raises:
            gymnasium.error.ResetNeeded: before the first reset; with autoreset disabled, also where an episode has
                ended and its world was not reset.
        """
        if self._state is None:
            raise error.ResetNeeded("call reset before the first step")
        if np.shape(actions) != self.action_space.shape:
            raise ValueError(f"actions: must be {list(self.action_space.shape or ())}, not {list(np.shape(actions))}")
        if self.autoreset_mode is AutoresetMode.DISABLED and np.asarray(self._done).any():
            raise error.ResetNeeded("an episode has ended: reset its world by options={'reset_mask': ...}")
        if not isinstance(actions, jax.Array):
            actions = np.asarray(actions, np.float32)
        self._state, step = self._advance(self._state, actions)
        step = self._received(step, self._step_like)
        self._done = step.done
        return self._obs(step.obs), step.reward, step.terminated, step.truncated, self._infos(step)

    def render(self) -> tuple[np.ndarray, ...] | None:
        """N pictures of the worlds' present states, [height, width, 3] uint8; None without a ``render_mode``.

        Raises gymnasium.error.ResetNeeded before the first reset.
        """
        if self.render_mode is None:
            logger.warn("render was called without a render_mode; make the environment with render_mode='rgb_array'")
            return None
        if self._state is None:
            raise error.ResetNeeded("call reset before the first render")
        if self._view is None:
            from mjxppo.render.worlds import WorldsView  # starts OpenGL, which only drawing needs

            assert isinstance(self.env.task, RobotTask), "_render_mode has checked it"
            self._view = WorldsView(self.env.task.model, *self._picture_size)
        return self._view.draw(np.asarray(self._state.worlds.qpos))

    def close_extras(self, **kwargs: Any) -> None:
        """Releases the OpenGL context, if there is one."""
        if self._view is not None:
            self._view.close()
            self._view = None

    def _received(self, step: Any, like: Step) -> Step:
        return step if self._arrays == "jax" else autoreset.unpack(np.asarray(step), like)

    def _obs(self, obs: Any) -> Any:
        return obs if self._arrays == "jax" else obs.astype(self._dtype, copy=False)

    def _infos(self, step: Step) -> dict[str, Any]:
        """Gymnasium's infos of a step: where an episode has just begun, only the entries that a reset has."""
        of_reset = {name: step.info[name] for name in self._first_like.info}
        of_step = {name: value for name, value in step.info.items() if name not in of_reset}
        infos = with_masks(of_reset, step.began | ~step.began) | with_masks(of_step, ~step.began)
        if step.final_info is None:
            return infos
        final_obs = step.final_obs if self._arrays == "jax" else where_done(self._obs(step.final_obs), step.done)
        final_info = with_masks(step.final_info, step.done)
        return infos | with_masks({"final_obs": final_obs, "final_info": final_info}, step.done)


def _action_space(actions: ActionSpec) -> gymnasium.Space[Any]:
    """The space of one world's action: Discrete or MultiDiscrete for choices alone, else a Box of the vector."""
    if actions.continuous:
        low = [-1] * actions.continuous + [0] * len(actions.categories)
        high = [1] * actions.continuous + [count - 1 for count in actions.categories]
        return gymnasium.spaces.Box(np.array(low, np.float32), np.array(high, np.float32))
    if len(actions.categories) == 1:
        return gymnasium.spaces.Discrete(actions.categories[0])
    return gymnasium.spaces.MultiDiscrete(list(actions.categories))


def _autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    try:
        return AutoresetMode(mode)
    except ValueError as wrong:
        known = ", ".join(known.value for known in AutoresetMode)
        raise UserError(f"autoreset_mode: {mode!r} is none of {known}") from wrong


def _metadata(task: Task) -> dict[str, Any]:
    if not isinstance(task, RobotTask):
        return {"render_modes": []}
    return MjxVectorEnv.metadata | {"render_fps": round(1 / task.step_duration)}


def _render_mode(mode: str | None, task: Task) -> str | None:
    if mode not in (None, "rgb_array"):
        raise UserError(f"render_mode: must be rgb_array or None, not {mode!r}")
    if mode is not None and not isinstance(task, RobotTask):
        raise UserError(f"render_mode: only the tasks with a MuJoCo model of their own can be drawn, not {task.name}")
    return mode


def make_vec(task: str, num_envs: int = 1, *, backend: BackendName = "auto", **arguments: Any) -> MjxVectorEnv:
    """A task by its name in ``envs.make`` as a vector environment; ``gymnasium.make_vec`` calls this.

    ``arguments`` are those of ``MjxVectorEnv``, and the task's options under Gymnasium's names, such as
    ``ctrl_cost_weight``. Raises UserError where one is wrong.
    """
    xla.enable_compilation_cache()
    of_vector = inspect.signature(MjxVectorEnv).parameters.keys() & arguments.keys()
    options = {name: value for name, value in arguments.items() if name not in of_vector}
    env = envs.make(task, backend=backend, **options)
    return MjxVectorEnv(env, num_envs, **{name: arguments[name] for name in of_vector})
