"""The device program of training: K updates of rollout, advantages and learning in one jitted function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding

from mjxppo.config.schema import Config, PpoConfig, fits_critic_apart
from mjxppo.config.sweep import members_of, swept_values, trains_several
from mjxppo.envs import Environment, EnvState
from mjxppo.envs.host import HostEnvironment
from mjxppo.envs.task import NO_LIMIT
from mjxppo.physics.worlds import from_blocks, to_blocks
from mjxppo.ppo import counters, fused, networks, normalize, packing, placement, schedules
from mjxppo.ppo.collective import Devices
from mjxppo.ppo.counters import Counter
from mjxppo.ppo.episode_returns import only_whole_episodes
from mjxppo.ppo.episodes import episode_metrics
from mjxppo.ppo.gradient import Algorithm
from mjxppo.ppo.initial import initial_state
from mjxppo.ppo.placement import COPIED, SPLIT, SPLIT_OF_EACH_MEMBER
from mjxppo.ppo.reference import ReferenceFunction, reference_function
from mjxppo.ppo.rollout import Batch, BehaviorPolicy, RolloutStats, choose_actions, draw_noise, rollout
from mjxppo.ppo.schedules import Progress
from mjxppo.ppo.state import Learner, TrainState
from mjxppo.ppo.update import learn, only_where_samples

Array = jax.Array
Metrics = dict[str, Array]
T = TypeVar("T")
TrainChunk = Callable[[TrainState, Counter], tuple[TrainState, Metrics]]


class TrainingProgram:
    """The initial training state of a run, and the jitted functions that advance it; nothing in it changes."""

    def __init__(self, env: Environment, config: Config, target: placement.Target | None = None):
        """Computes nothing yet. ``target`` None: the program is for this machine. ``env`` is for the same platform."""
        target = target or placement.this_machine()
        self.platform = target.platform
        self.gradient_kernel = fused.mode(target.platform, target.devices[0].platform)
        self.env = env
        self.config = config
        self.members = members_of(config) if trains_several(config) else ()
        own_size = env.obs_size - env.privileged_size if env.privileged_size else None
        self.network = networks.build(env.action_size, config.policy, own_size, env.actions.categories)
        on_host = isinstance(env, HostEnvironment)
        self.layout = placement.choose_layout(config, target, on_host)
        self.mesh = placement.mesh(self.layout.num_devices, target.devices)
        self.devices = Devices(self.layout.num_devices)
        self.env_steps_per_update = config.ppo.num_envs * config.ppo.rollout_length
        # How each part of the state lies on the devices: worlds are split, the rest is copied.
        worlds: Any = SPLIT_OF_EACH_MEMBER if self.members else SPLIT
        copied: Any = COPIED
        self.specs = TrainState(learner=copied, env_state=worlds, key=copied, update=copied, env_steps=copied)
        self.train_chunk = self._chunk_of(config.log.every_updates)

    def init(self) -> TrainState:
        """The training state before the first update, on its devices; arrays lead with the members, if several."""
        return self.place(jax.jit(self._initial)(self._keys()))

    def shapes(self) -> TrainState:
        """The training state's shapes and types; nothing is computed."""
        shapes: TrainState = jax.eval_shape(self._initial, self._keys())
        return shapes

    def trace(self) -> jax.stages.Traced:
        """``train_chunk`` traced for the arguments that it will have; needs no state."""
        shapes = self.shapes(), jax.eval_shape(partial(counters.make, 0))
        shardings = self._shardings(shapes[0]), NamedSharding(self.mesh, COPIED)
        shardings = jax.tree.broadcast(shardings, shapes, is_leaf=lambda x: isinstance(x, NamedSharding))
        placed = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
        traced: jax.stages.Traced = self.train_chunk.trace(*placed)  # type: ignore[attr-defined]
        return traced

    def lower(self) -> jax.stages.Lowered:
        """``train_chunk`` traced and ready to be compiled."""
        return self.trace().lower()

    def budget(self, total_env_steps: int) -> Counter:
        """The step budget as ``train_chunk`` takes it."""
        return self.replicate(counters.make(total_env_steps))

    def replicate(self, tree: T) -> T:
        """Puts a pytree on the devices, the same on each."""
        replicated = NamedSharding(self.mesh, COPIED)
        placed: T = placement.put(tree, jax.tree.map(lambda _: replicated, tree))
        return placed

    def place(self, state: TrainState) -> TrainState:
        """Puts a training state (from ``init`` or a checkpoint) on the devices: worlds split, the rest copied."""
        placed: TrainState = placement.put(state, self._shardings(state))
        return placed

    def _shardings(self, state: TrainState) -> Any:
        """The sharding of each array of a training state."""
        return jax.tree.broadcast(self._sharding, state, is_leaf=lambda x: isinstance(x, NamedSharding))

    @property
    def _sharding(self) -> TrainState:
        """The sharding of each part of a training state."""
        sharding: TrainState = jax.tree.map(partial(NamedSharding, self.mesh), self.specs)
        return sharding

    def restore_worlds(self, state: TrainState) -> TrainState:
        """A training state from a checkpoint with worlds that training can continue, see ``Environment.restore``."""
        restore = partial(lax.map, self.env.restore) if self.members else self.env.restore
        return replace(state, env_state=jax.jit(restore)(state.env_state))

    def _each(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """``function(*arguments, config)`` for each member, whose index leads the arguments' and the results' arrays.

        Where members are trained one after the other, a seed's numbers equal those of a run with that seed alone, to
        the bit.
        """
        swept: dict[str, Any] = {name: jnp.float32(values) for name, values in swept_values(self.config).items()}

        def one(given: tuple[Any, dict[str, Any]]) -> Any:
            arguments, settings = given
            return function(*arguments, replace(self.config.ppo, **settings))

        return lax.map(one, (arguments, swept)) if self.layout.members_in_turn else jax.vmap(one)((arguments, swept))

    def _keys(self) -> Array:
        """The run's random key, [], or one for each member, [members]."""
        if not self.members:
            return jax.random.key(self.config.seed)
        return jnp.stack([jax.random.key(member.config.seed) for member in self.members])

    def _initial(self, keys: Array) -> TrainState:
        """The training state before the first update, of each member where there are several."""
        initial = partial(initial_state, self.env, self.config, self.network)
        state: TrainState = self._each(initial, keys) if self.members else initial(keys, self.config.ppo)
        return state

    def on_each_device(self, function: Callable[..., Any], in_specs: Any, out_specs: Any) -> Callable[..., Any]:
        """The function of all worlds that runs ``function``, which may reduce over devices, on each device's worlds.

        ``in_specs`` and ``out_specs`` say how each argument and each result lies on the devices.
        """
        if self.layout.num_devices == 1:
            return function
        return jax.shard_map(function, mesh=self.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)

    @cached_property
    def one_update(self) -> TrainChunk:
        """``train_chunk`` for a single update, whatever ``log.every_updates`` is."""
        return self._chunk_of(1)

    @cached_property
    def rollout_only(self) -> Callable[[TrainState, Array], tuple[EnvState, Batch, Array]]:
        """The rollout of the coming update without learning, jitted; for a single policy.

        Its arguments are the training state, which stays valid, and the update's step budget. It returns the worlds
        afterwards, the batch [blocks, T, B, ...] and the last observations [blocks, B, obs_size].
        """

        def collect(state: TrainState, budget: Array) -> tuple[EnvState, Batch, Array]:
            return self.collect(state, update_keys(state)[0], budget)[:3]

        return jax.jit(self.on_each_device(collect, (self.specs, COPIED), SPLIT))

    def actions(self, state: TrainState, worlds: EnvState, indices: Array, t: int) -> Array:
        """Actions that the coming update's rollout takes in K worlds at its step t (from 0), [K, action_size].

        ``state`` is the training state before the update, ``worlds`` are as they are before step t, and ``indices`` [K]
        are their global indices.
        """
        policy, reference = self.policy(state.learner), self.reference(state.learner)
        noise = draw_noise(policy, jax.random.fold_in(update_keys(state)[0], t), indices)
        mask = self.env.action_mask(worlds)
        return self.network.head.action(choose_actions(policy, worlds, noise, self.config.ppo, reference, mask).u)

    def _chunk_of(self, num_updates: int) -> TrainChunk:
        """The jitted function that does ``num_updates`` updates, of each member where there are several."""

        def chunk(state: TrainState, total_env_steps: Counter) -> tuple[TrainState, Metrics]:
            advance = partial(self.advance, total_env_steps=total_env_steps, num_updates=num_updates)
            advanced: tuple[TrainState, Metrics]
            advanced = self._each(advance, state) if self.members else advance(state, self.config.ppo)
            return advanced

        specs = (self.specs, COPIED)
        # Without stated output shardings the second call's inputs would look different and compile again.
        shardings = (self._sharding, NamedSharding(self.mesh, COPIED))
        return jax.jit(self.on_each_device(chunk, specs, specs), donate_argnums=0, out_shardings=shardings)

    def advance(
        self, state: TrainState, config: PpoConfig, total_env_steps: Counter, num_updates: int
    ) -> tuple[TrainState, Metrics]:
        """``num_updates`` updates of one policy with one device's worlds, fewer where the step budget ends before.

        Metrics lead with one entry an update; ``ran`` is false for those that the budget left no step for.
        """
        one_update = partial(self._update, total_env_steps=total_env_steps, config=config)
        shapes = jax.eval_shape(partial(one_update, budget=jnp.int32(1)), state)[1]
        none = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

        def update(state: TrainState, _: None) -> tuple[TrainState, Array]:
            budget = self.update_budget(state, total_env_steps)
            if self.env.branches:
                state, metrics = lax.cond(budget > 0, partial(one_update, budget=budget), lambda s: (s, none), state)
            else:
                updated = one_update(state, budget=budget)
                state, metrics = jax.tree.map(partial(jnp.where, budget > 0), updated, (state, none))
            return state, packing.pack(metrics, lead=0)

        state, metrics = lax.scan(update, state, None, length=num_updates)
        return state, packing.unpack(metrics, shapes, lead=0)

    def update_budget(self, state: TrainState, total_env_steps: Counter) -> Array:
        """Environment steps that the coming update may take, [] int32: a whole update's, or what is left in total."""
        return counters.remaining(state.env_steps, total_env_steps, self.env_steps_per_update)

    def _update(
        self, state: TrainState, total_env_steps: Counter, budget: Array, config: PpoConfig
    ) -> tuple[TrainState, Metrics]:
        """One update of one policy, with at most ``budget`` environment steps; see ``advance``."""
        devices = self.devices
        rollout_key, learn_key = update_keys(state)
        env_state, batch, last_obs, stats = self.collect(state, rollout_key, budget, config)
        stats = devices.sum(stats)

        progress = Progress(counters.fraction(state.env_steps, total_env_steps), state.update)
        algorithm, episodes = self.algorithm(config), batch
        if algorithm.reinforce is not None:
            episodes, unfinished = only_whole_episodes(batch, budget < self.env_steps_per_update, devices)
        learner, metrics = learn(algorithm, state.learner, episodes, last_obs, learn_key, progress)
        if algorithm.reinforce is not None:
            any_whole = devices.sum(episodes.valid.sum()) > 0
            learner, metrics = only_where_samples(any_whole, (learner, metrics), state.learner)
            metrics["unfinished_episodes"] = unfinished
        seen = stats.obs_sum, stats.obs_sum_of_squares, stats.steps - stats.nonfinite
        obs_moments = normalize.merge_standardized_sums(learner.obs_moments, *seen)
        init = self.config.init
        if init.path is not None and init.critic_warmup and "normalizer" in init.carry:
            # Other units of its inputs would change the policy, too.
            policy_learns = schedules.policy_learns(init, progress)
            obs_moments = jax.tree.map(partial(jnp.where, policy_learns), obs_moments, learner.obs_moments)
        learner = replace(learner, obs_moments=obs_moments)
        of_worlds = {name: devices.mean(x.mean()) for name, x in self.env.metrics(env_state).items()}
        env_steps = counters.add(state.env_steps, stats.steps)
        if learner.teacher is not None:
            metrics["teacher_share"] = learner.teacher.share
            share = schedules.teacher_share(self.config.distill, counters.fraction(env_steps, total_env_steps))
            learner = replace(learner, teacher=replace(learner.teacher, share=share))
        state = replace(state, learner=learner, env_state=env_state, update=state.update + 1, env_steps=env_steps)
        # Where all episodes are whole, their mean return is what is expected of one.
        limit = NO_LIMIT if self.config.algorithm == "reinforce" else self.env.max_episode_steps
        ends = batch.terminated, batch.truncated, batch.valid, limit, devices
        of_episodes = episode_metrics(batch.episode, batch.reward, *ends)
        return state, metrics | of_episodes | of_worlds | stats.metrics() | state.metrics()

    def collect(
        self, state: TrainState, key: Array, budget: Array, config: PpoConfig | None = None
    ) -> tuple[EnvState, Batch, Array, RolloutStats]:
        """One device's part of an update's rollout, with the rollout's random key; ``state`` has this device's worlds.

        All worlds of all devices together take at most ``budget`` environment steps, [] int32. Returns the worlds
        afterwards, the batch [blocks, T, B, ...], the last observations as the networks see them [blocks, B, obs_size],
        and sums for the statistics. ``config`` holds the settings of one member; None: those of the run.
        """
        config, at_a_time = config or self.config.ppo, self.layout.worlds_at_a_time
        local_envs = config.num_envs // self.layout.num_devices
        first = self.devices.index() * local_envs
        act, policy = self.rollout_function(state.learner, config), self.policy(state.learner)
        portions = to_blocks((state.env_state, first + jnp.arange(local_envs)), at_a_time)
        with jax.named_scope("rollout"):
            env_state, batch, last_obs, stats = lax.map(
                lambda portion: act(self.env, policy, *portion, key, budget), portions
            )
        env_state = from_blocks(env_state)
        batch = jax.tree.map(partial(_to_blocks, block_size=config.block_size), batch)
        last_obs = last_obs.reshape(-1, config.block_size, self.env.obs_size)
        return env_state, batch, last_obs, jax.tree.map(lambda x: x.sum(0), stats)

    def rollout_function(self, learner: Learner, config: PpoConfig) -> Callable[..., Any]:
        """``rollout.rollout`` with all that is the same for all worlds."""
        one_episode = self.config.algorithm == "reinforce"
        return partial(rollout, config=config, reference=self.reference(learner), one_episode=one_episode)

    def algorithm(self, config: PpoConfig) -> Algorithm:
        """The fixed parts of learning, for a member with the settings ``config``."""
        whole = self.config
        fixed = self.network, whole.policy, config, self.devices, whole.init, whole.distill.teacher is not None
        critic = whole.critic if fits_critic_apart(whole) else None
        reinforce = whole.reinforce if whole.algorithm == "reinforce" else None
        trpo = whole.trpo if whole.algorithm == "trpo" else None
        return Algorithm(*fixed, self.layout.block_by_block, self.gradient_kernel, critic, reinforce, trpo)

    def policy(self, learner: Learner) -> BehaviorPolicy:
        """The policy that acts in the rollout."""
        share = learner.teacher.share if learner.teacher else None
        return BehaviorPolicy(self.network, learner.params, learner.obs_moments, share)

    def reference(self, learner: Learner) -> ReferenceFunction | None:
        """The reference policy, if there is one."""
        return reference_function(self.env, self.config, self.network, learner)


def update_keys(state: TrainState) -> tuple[Array, Array]:
    """Random keys of the coming update: its rollout's and its learning's."""
    rollout_key, learn_key = jax.random.split(jax.random.fold_in(state.key, state.update))
    return rollout_key, learn_key


def _to_blocks(x: Array, block_size: int) -> Array:
    """[portions, T, worlds at a time, ...] -> [blocks, T, B, ...]."""
    portions, steps, size = x.shape[:3]
    x = x.reshape(portions, steps, size // block_size, block_size, *x.shape[3:])
    return x.swapaxes(1, 2).reshape(-1, steps, block_size, *x.shape[4:])


def env_steps_of(metrics: dict[str, Any]) -> int:
    """Environment steps taken up to and including an update, from its metrics."""
    return (int(metrics["env_steps_high"]) << 32) | int(metrics["env_steps_low"])
