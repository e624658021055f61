"""The device program of evolution strategies: an update is whole episodes of a population, and one step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from mjxppo.config.schema import PpoConfig
from mjxppo.envs import EnvState
from mjxppo.envs.task import NO_LIMIT
from mjxppo.physics.worlds import from_blocks, to_blocks
from mjxppo.ppo import counters, normalize
from mjxppo.ppo.counters import Counter
from mjxppo.ppo.episodes import EpisodeSteps, episode_metrics, expected_return
from mjxppo.ppo.es.episodes import Collected, Population, StepSums, choose_actions, pairs_of, run_episodes
from mjxppo.ppo.es.perturbation import acting_layers, draw_noise
from mjxppo.ppo.es.update import Evolution, candidates_of, evolve
from mjxppo.ppo.placement import COPIED, SPLIT
from mjxppo.ppo.program import Metrics, TrainingProgram, update_keys
from mjxppo.ppo.rollout import RolloutStats
from mjxppo.ppo.schedules import Progress
from mjxppo.ppo.state import TrainState

Array = jax.Array


class EsProgram(TrainingProgram):
    """``TrainingProgram`` whose updates are those of evolution strategies; state, placement and chunks are the same."""

    @cached_property
    def episodes_only(self) -> Callable[[TrainState, Array], tuple[EnvState, Collected]]:
        """The episodes of the coming update without its step, jitted; for a single policy.

        Its arguments are the training state, which stays valid, and the update's step budget. It returns the worlds
        afterwards, and what they gave, [num_envs].
        """

        def run(state: TrainState, budget: Array) -> tuple[EnvState, Collected]:
            return self._run_episodes(state, update_keys(state)[0], budget, self.config.ppo)[:2]

        return jax.jit(self.on_each_device(run, (self.specs, COPIED), SPLIT))

    def actions(self, state: TrainState, worlds: EnvState, indices: Array, t: int) -> Array:
        """As ``TrainingProgram.actions``; they do not depend on the step ``t``."""
        population, es = self._population(state, update_keys(state)[0]), self.config.es

        def of_world(world: EnvState, index: Array) -> Array:
            """The action of one world: its candidate's, or its partner's, of both of which it gets the observation."""
            pair = pairs_of(es, index)
            noise = draw_noise(acting_layers(self.network, state.learner.params), es.rank, population.key, pair[None])
            both = jax.tree.map(lambda x: jnp.stack([x, x]), world)
            mask = self.env.action_mask(both)
            actions = choose_actions(population, es, noise, both.obs, mask, self.config.ppo.normalize_obs)
            return actions[index // es.worlds_per_candidate % 2]

        return jax.vmap(of_world)(worlds, indices)

    def _update(
        self, state: TrainState, total_env_steps: Counter, budget: Array, config: PpoConfig
    ) -> tuple[TrainState, Metrics]:
        """One update of one policy, with at most ``budget`` environment steps; see ``advance``."""
        devices, noise_key = self.devices, update_keys(state)[0]
        env_state, collected, steps, stats = self._run_episodes(state, noise_key, budget, config)
        stats = devices.sum(stats)
        evolution = self._evolution(config)
        candidates = candidates_of(evolution, collected)
        progress = Progress(counters.fraction(state.env_steps, total_env_steps), state.update)
        with jax.named_scope("evolve"):
            learner, metrics = evolve(evolution, state.learner, candidates, noise_key, progress)
        seen = stats.obs_sum, stats.obs_sum_of_squares, stats.steps - stats.nonfinite
        learner = replace(learner, obs_moments=normalize.merge_standardized_sums(learner.obs_moments, *seen))
        of_worlds = {name: devices.mean(x.mean()) for name, x in self.env.metrics(env_state).items()}
        env_steps = counters.add(state.env_steps, stats.steps)
        state = replace(state, learner=learner, env_state=env_state, update=state.update + 1, env_steps=env_steps)
        of_episodes = self._episode_metrics(env_state, collected, steps, config)
        return state, metrics | of_episodes | of_worlds | stats.metrics() | state.metrics()

    def _run_episodes(
        self, state: TrainState, key: Array, budget: Array, config: PpoConfig
    ) -> tuple[EnvState, Collected, StepSums, RolloutStats]:
        """One device's part of an update's episodes; ``state`` has its worlds. Returns what ``run_episodes`` does."""
        population, at_a_time = self._population(state, key), self.layout.worlds_at_a_time
        local_envs = config.num_envs // self.layout.num_devices
        indices = self.devices.index() * local_envs + jnp.arange(local_envs)

        def simulate(portion: tuple[EnvState, Array]) -> Any:
            return run_episodes(self.env, population, *portion, budget, config, self.config.es)

        with jax.named_scope("rollout"):
            env_state, collected, steps, stats = lax.map(simulate, to_blocks((state.env_state, indices), at_a_time))
        sums = jax.tree.map(partial(jnp.sum, axis=0), (steps, stats))
        return from_blocks(env_state), from_blocks(collected), *sums

    def _episode_metrics(
        self, env_state: EnvState, collected: Collected, steps: StepSums, config: PpoConfig
    ) -> Metrics:
        """Numbers to log about the episodes of an update, as ``episodes.episode_metrics``; of the candidates.

        Where the step budget has cut episodes short, returns are not known: those that had ended are the short ones.
        """
        devices, limit = self.devices, self.env.max_episode_steps
        ended = env_state.done & (devices.sum(collected.cut.sum()) == 0)
        sound = ended & (collected.broken_at == config.rollout_length)
        episode = EpisodeSteps(env_state.episode_length, jnp.ones_like(sound), env_state.episode_return)
        ends = env_state.terminated, env_state.truncated, sound
        metrics = episode_metrics(episode, env_state.episode_return, *ends, NO_LIMIT, devices)
        valid = jnp.maximum(devices.sum(steps.valid.sum()), 1)
        metrics["reward_per_step"] = devices.sum(steps.reward.sum()) / valid
        if config.rollout_length < limit < NO_LIMIT:  # episodes are not whole
            age, of_one = 1 + jnp.arange(config.rollout_length), jnp.maximum(steps.valid, 1)
            table = age, steps.reward / of_one, steps.terminated / of_one, steps.valid, limit, devices
            metrics["expected_return"] = expected_return(*table)
        return metrics

    def _population(self, state: TrainState, key: Array) -> Population:
        """The candidates of an update whose perturbations are drawn from ``key``."""
        return Population(self.network, state.learner.params, state.learner.obs_moments, key)

    def _evolution(self, config: PpoConfig) -> Evolution:
        """The fixed parts of a step, for a member with the settings ``config``."""
        whole, per_pair = self.config, 2 * self.config.es.worlds_per_candidate
        at_a_time = self.layout.worlds_at_a_time // per_pair
        return Evolution(self.network, config, whole.es, whole.init, self.devices, at_a_time)
