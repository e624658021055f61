"""The device program: K updates of rollout, advantages and learning in one jitted function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import NamedSharding, PartitionSpec

from mjxppo.config.schema import Config, PpoConfig
from mjxppo.config.sweep import members_of, swept_values, trains_several
from mjxppo.envs import Environment, EnvState
from mjxppo.envs.host import HostEnvironment
from mjxppo.ppo import counters, networks, normalize, placement, schedules
from mjxppo.ppo import reference as distillation
from mjxppo.ppo.collective import AXIS, Devices
from mjxppo.ppo.counters import Counter
from mjxppo.ppo.rollout import Batch, Policy, Reference, RolloutStats, rollout, see_obs
from mjxppo.ppo.schedules import Moment
from mjxppo.ppo.state import Frozen, Learner, TrainState
from mjxppo.ppo.update import Algorithm, learn, optimizer

Array = jax.Array
Metrics = dict[str, Array]
T = TypeVar("T")

_REPLICATED = PartitionSpec()
_SPLIT = PartitionSpec(AXIS)
_SPLIT_OF_EACH = PartitionSpec(None, AXIS)

VECTORIZED_WORLDS = 64
"""On a CPU, members with so many worlds or more are trained one after the other: they fill the vector units alone."""


class Trainer:
    """Builds the initial training state and the jitted function that advances it."""

    def __init__(self, env: Environment, config: Config):
        self.env = env
        self.config = config
        self.members = members_of(config) if trains_several(config) else ()
        own_size = env.obs_size - env.privileged_size if env.privileged_size else None
        self.network = networks.build(env.action_size, config.policy, own_size)
        shared = placement.choose_num_devices(config, jax.device_count(), jax.process_count())
        self.on_host = isinstance(env, HostEnvironment)  # simulated all together, for one device
        self.num_devices = 1 if self.on_host else shared
        self.mesh = placement.mesh(self.num_devices)
        self.devices = Devices(self.num_devices)
        self.env_steps_per_update = config.ppo.num_envs * config.ppo.rollout_length
        # For each part of the state, how it lies on the devices: worlds are split, the rest is copied.
        copied: Any = NamedSharding(self.mesh, _REPLICATED)
        split: Any = NamedSharding(self.mesh, _SPLIT_OF_EACH if self.members else _SPLIT)
        self.sharding = TrainState(learner=copied, env_state=split, key=copied, update=copied, env_steps=copied)
        self.train_chunk: Callable[[TrainState, Counter], tuple[TrainState, Metrics]] = self._jit_chunk()

    def init(self) -> TrainState:
        """The training state before the first update, on its devices; arrays lead with the members, if several."""
        return self.place(jax.jit(self._initial)(self._keys()))

    def shapes(self) -> TrainState:
        """The training state's shapes and types; nothing is computed."""
        shapes: TrainState = jax.eval_shape(self._initial, self._keys())
        return shapes

    def lower(self, total_env_steps: Counter) -> jax.stages.Lowered:
        """``train_chunk`` as it will be called, traced and ready to be compiled; no state is needed for that."""
        shapes = self.shapes()
        placed = jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            shapes,
            self._shardings(shapes),
        )
        lowered: jax.stages.Lowered = self.train_chunk.lower(placed, total_env_steps)  # type: ignore[attr-defined]
        return lowered

    def budget(self, total_env_steps: int) -> Counter:
        """The step budget as ``train_chunk`` takes it."""
        return self.replicate(counters.make(total_env_steps))

    def replicate(self, tree: T) -> T:
        """Puts a pytree on the devices, the same on each."""
        replicated = NamedSharding(self.mesh, _REPLICATED)
        placed: T = placement.put(tree, jax.tree.map(lambda _: replicated, tree))
        return placed

    def place(self, state: TrainState) -> TrainState:
        """Puts a training state (from ``init`` or a checkpoint) on the devices: worlds split, the rest copied."""
        placed: TrainState = placement.put(state, self._shardings(state))
        return placed

    def _shardings(self, state: TrainState) -> Any:
        """How each array of a training state lies on the devices."""
        return jax.tree.broadcast(self.sharding, state, is_leaf=lambda x: isinstance(x, NamedSharding))

    def restore_worlds(self, state: TrainState) -> TrainState:
        """A training state from a checkpoint with worlds that training can continue, see ``Environment.restore``."""
        restore = partial(lax.map, self.env.restore) if self.members else self.env.restore
        return replace(state, env_state=jax.jit(restore)(state.env_state))

    @property
    def in_turn(self) -> bool:
        """Whether members are trained one after the other, instead of vectorised."""
        on_cpu = jax.default_backend() == "cpu"
        return self.on_host or (on_cpu and self.config.ppo.num_envs >= VECTORIZED_WORLDS)

    def _each(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """``function(*arguments, config)`` for each member, whose index leads the arguments' and the results' arrays.

        Where members are trained one after the other, a seed's numbers are those of a run of its own, to the bit.
        """
        swept: dict[str, Any] = {name: jnp.float32(values) for name, values in swept_values(self.config).items()}

        def one(given: tuple[Any, dict[str, Any]]) -> Any:
            arguments, settings = given
            return function(*arguments, replace(self.config.ppo, **settings))

        return lax.map(one, (arguments, swept)) if self.in_turn else jax.vmap(one)((arguments, swept))

    def _keys(self) -> Array:
        """The run's random key, [], or one for each member, [members]."""
        if not self.members:
            return jax.random.key(self.config.seed)
        return jnp.stack([jax.random.key(member.config.seed) for member in self.members])

    def _initial(self, keys: Array) -> TrainState:
        state: TrainState = self._each(self._init, keys) if self.members else self._init(keys, self.config.ppo)
        return state

    def _init(self, key: Array, config: PpoConfig) -> TrainState:
        run_key, params_key, reset_key, clock_key = jax.random.split(key, 4)
        params = networks.init_params(self.network, self.env.obs_size, params_key)
        indices = jnp.arange(config.num_envs)
        env_state = self.env.reset(jax.vmap(partial(jax.random.fold_in, reset_key))(indices))
        if config.stagger_resets:
            env_state = self.env.stagger(env_state, clock_key, indices)
        obs_moments = normalize.initial_moments((self.env.obs_size,))
        anchored = self.config.init.anchor_coef > 0
        learner = Learner(
            params=params,
            opt_state=optimizer(config).init(ravel_pytree(params)[0]),
            obs_moments=obs_moments,
            return_moments=normalize.initial_moments(()),
            learning_rate=jnp.float32(config.learning_rate),
            kl_penalty=jnp.float32(config.kl_penalty),
            # Copies, because the state that holds them is donated; whoever pretrained a policy puts it here.
            anchor=Frozen(*jax.tree.map(jnp.copy, (networks.actor_of(params), obs_moments))) if anchored else None,
            teacher=distillation.placeholder(self.env, self.config) if self.config.distill.teacher else None,
        )
        return TrainState(
            learner=learner, env_state=env_state, key=run_key, update=jnp.int32(0), env_steps=counters.make(0)
        )

    def _jit_chunk(self) -> Callable[[TrainState, Counter], tuple[TrainState, Metrics]]:
        chunk = self._chunk_of_each if self.members else partial(self._chunk, config=self.config.ppo)
        if self.num_devices > 1:
            specs = jax.tree.map(lambda s: s.spec, self.sharding, is_leaf=lambda x: isinstance(x, NamedSharding))
            chunk = jax.shard_map(
                chunk,
                mesh=self.mesh,
                in_specs=(specs, _REPLICATED),
                out_specs=(specs, _REPLICATED),
                check_vma=False,
            )
        # Without stated output shardings the second call's inputs would look different and compile again.
        return jax.jit(chunk, donate_argnums=0, out_shardings=(self.sharding, NamedSharding(self.mesh, _REPLICATED)))

    def _chunk_of_each(self, states: TrainState, total_env_steps: Counter) -> tuple[TrainState, Metrics]:
        """``_chunk`` for each member; metrics lead with the member."""
        chunk: tuple[TrainState, Metrics] = self._each(
            lambda s, config: self._chunk(s, total_env_steps, config), states
        )
        return chunk

    def _chunk(self, state: TrainState, total_env_steps: Counter, config: PpoConfig) -> tuple[TrainState, Metrics]:
        """``log.every_updates`` updates, fewer where the step budget ends before.

        Metrics lead with one entry an update; ``ran`` is false for those that the budget left no step for.
        """
        one_update = partial(self._update, total_env_steps=total_env_steps, config=config)
        shapes = jax.eval_shape(partial(one_update, budget=jnp.int32(1)), state)[1]

        def skip(state: TrainState) -> tuple[TrainState, Metrics]:
            return state, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

        def update(state: TrainState, _: None) -> tuple[TrainState, Metrics]:
            budget = counters.remaining(state.env_steps, total_env_steps, self.env_steps_per_update)
            return lax.cond(budget > 0, partial(one_update, budget=budget), skip, state)

        return lax.scan(update, state, None, length=self.config.log.every_updates)

    def _update(
        self, state: TrainState, total_env_steps: Counter, budget: Array, config: PpoConfig
    ) -> tuple[TrainState, Metrics]:
        devices = self.devices
        rollout_key, learn_key = jax.random.split(jax.random.fold_in(state.key, state.update))
        env_state, batch, last_obs, stats = self.collect(state, rollout_key, budget)
        stats = devices.sum(stats)

        moment = Moment(counters.fraction(state.env_steps, total_env_steps), state.update)
        learner, metrics = learn(self.algorithm(config), state.learner, batch, last_obs, learn_key, moment)
        learner = replace(
            learner,
            obs_moments=normalize.merge_standardized_sums(
                learner.obs_moments, stats.obs_sum, stats.obs_sum_of_squares, stats.steps - stats.nonfinite
            ),
        )
        of_worlds = {name: devices.mean(x.mean()) for name, x in self.env.metrics(env_state).items()}
        env_steps = counters.add(state.env_steps, stats.steps)
        if learner.teacher is not None:
            metrics["teacher_share"] = learner.teacher.share
            share = schedules.teacher_share(self.config.distill, counters.fraction(env_steps, total_env_steps))
            learner = replace(learner, teacher=replace(learner.teacher, share=share))
        state = TrainState(
            learner=learner,
            env_state=env_state,
            key=state.key,
            update=state.update + 1,
            env_steps=env_steps,
        )
        return state, metrics | _episode_metrics(stats) | of_worlds | {
            "ran": jnp.array(True),
            "update": state.update,
            "env_steps_high": env_steps.high,
            "env_steps_low": env_steps.low,
        }

    def collect(self, state: TrainState, key: Array, budget: Array) -> tuple[EnvState, Batch, Array, RolloutStats]:
        """Rolls out all worlds of this device; the batch comes as [blocks, T, B, ...]."""
        config = self.config.ppo
        local_envs = config.num_envs // self.num_devices
        first = self.devices.index() * local_envs
        group = self.group_size
        policy, reference = self.policy(state.learner), self.reference(state.learner)

        def one_group(args: tuple[EnvState, Array]) -> tuple[EnvState, Batch, Array, RolloutStats]:
            env_state, indices = args
            return rollout(
                self.env,
                policy,
                env_state,
                indices,
                key,
                budget,
                num_envs=config.num_envs,
                config=config,
                reference=reference,
            )

        grouped = jax.tree.map(lambda x: x.reshape(local_envs // group, group, *x.shape[1:]), state.env_state)
        indices = (first + jnp.arange(local_envs)).reshape(-1, group)
        env_state, batch, last_obs, stats = lax.map(one_group, (grouped, indices))
        env_state = jax.tree.map(lambda x: x.reshape(local_envs, *x.shape[2:]), env_state)
        batch = jax.tree.map(partial(_regroup, block_size=config.block_size), batch)
        last_obs = last_obs.reshape(-1, config.block_size, self.env.obs_size)
        return env_state, batch, last_obs, jax.tree.map(lambda x: x.sum(0), stats)

    @property
    def group_size(self) -> int:
        """Worlds of a device that are simulated together."""
        # On a CPU a block's working set stays in cache; an accelerator, and the host, want all their worlds at once.
        by_blocks = jax.default_backend() == "cpu" and not self.on_host
        ppo = self.config.ppo
        return ppo.block_size if by_blocks else ppo.num_envs // self.num_devices

    def algorithm(self, config: PpoConfig) -> Algorithm:
        """The fixed parts of learning, for a member with the settings ``config``."""
        return Algorithm(self.network, self.config.policy, config, self.devices, self.config.init)

    def policy(self, learner: Learner) -> Policy:
        """Who acts."""
        share = learner.teacher.share if learner.teacher else None
        return Policy(self.network, learner.params, learner.obs_moments, share)

    def reference(self, learner: Learner) -> Reference | None:
        """The policy that the learned one imitates or is held near, if any."""
        if learner.teacher is not None:
            return distillation.reference(self.env, self.config, learner.teacher)
        if learner.anchor is None:
            return None
        anchor = Policy(self.network, learner.anchor.params, learner.anchor.obs_moments)

        def reference(worlds: EnvState) -> tuple[Array, Array]:
            return networks.apply_policy(anchor.network, anchor.params, see_obs(anchor, self.config.ppo, worlds.obs))

        return reference


def _regroup(x: Array, block_size: int) -> Array:
    """[groups, T, G, ...] -> [blocks, T, B, ...]."""
    groups, steps, size = x.shape[:3]
    x = x.reshape(groups, steps, size // block_size, block_size, *x.shape[3:])
    return x.swapaxes(1, 2).reshape(-1, steps, block_size, *x.shape[4:])


def _episode_metrics(stats: RolloutStats) -> Metrics:
    """Means over the episodes finished in an update; NaN where there were none."""
    episodes = stats.episodes.astype(jnp.float32)
    mean = stats.return_sum / episodes
    variance = stats.return_sum_of_squares / episodes - mean * mean
    return {
        "episodes": stats.episodes,
        "episode_return": mean,
        "episode_return_std": jnp.sqrt(jnp.maximum(variance, 0)),
        "episode_length": stats.length_sum / episodes,
        "env_steps_this_update": stats.steps,
        "nonfinite_steps": stats.nonfinite,
    }


def env_steps_of(metrics: dict[str, Any]) -> int:
    """Environment steps taken up to and including an update, from its metrics."""
    return (int(metrics["env_steps_high"]) << 32) | int(metrics["env_steps_low"])
