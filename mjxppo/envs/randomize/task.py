"""RandomizedTask: a task around a task that varies its worlds, and disturbs its actions and observations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mjxppo.config.randomize import RandomizeConfig
from mjxppo.envs.batch import select
from mjxppo.envs.randomize import draw, noise, quantities
from mjxppo.envs.randomize.hidden import hidden_parameters
from mjxppo.envs.robot_task import RobotTask
from mjxppo.envs.task import Array, Ended, Task, WrappedTask
from mjxppo.errors import UserError
from mjxppo.physics import Parameters


@flax.struct.dataclass
class Variation:
    """The random properties of N worlds that last for an episode. A property that does not vary is None."""

    parameters: Parameters | None
    """Fields of the model, each [N, *shape of the field]."""
    observation_bias: Array | None
    """[N, obs_size]"""
    action_delay: Array | None
    """Environment steps after which an action takes effect, [N] int32."""


@flax.struct.dataclass
class RandomizedWorlds:
    """N worlds of the task inside, and the random state of their episodes. What is off is None.

    Variations are large and expensive to draw, so that no step draws or copies one. Each world also holds its next
    variation; the end of an episode only sets ``next_in_use``, and ``prepare``, once a rollout, draws new ones.
    """

    inner: Any
    """The inner task's worlds; without parameters, which ``variation`` holds."""
    key: Array
    """The episode's random key, [N]; the noise of each step is drawn from it and ``time``."""
    time: Array
    """Steps taken in the episode, [N] int32."""
    range_share: Array | None
    """Progress of the curriculum: the share of the ranges in use, from 0 (the nominal model) to 1, [N]."""
    variation: Variation
    """In use where not ``next_in_use``; see ``RandomizedTask.variation_in_use``."""
    next_variation: Variation | None
    """In use where ``next_in_use``; None: each world keeps its variation for all episodes."""
    next_in_use: Array | None
    """Whether an episode has begun since ``prepare``, [N] bool."""
    past_actions: Array | None
    """The last ``max_action_delay`` actions, the latest first, [N, max_action_delay, action_size]."""
    action_in_effect: Array | None
    """The action that the last step applied, [N, action_size]."""


class RandomizedTask(WrappedTask):
    """A task around a task: each episode has its own model parameters, and actions and observations are disturbed.

    The reward and the end of an episode are those of the inner task, for the true state and the actions that take
    effect. Random numbers come from the world's own key: they depend neither on the other worlds nor on the devices.
    """

    def __init__(self, inner: Task, config: RandomizeConfig):
        """Wraps a task; raises UserError where its physics cannot be varied as ``config`` says."""
        physical = [*config.physical, *(["push"] if config.push else [])]
        if physical and not isinstance(inner, RobotTask):
            raise UserError(f"randomize.{physical[0]}: {inner.name} is not simulated by this package's physics")
        if isinstance(inner, RobotTask):
            if config.physical and not (physics := inner.physics).takes_parameters:
                raise UserError(
                    f"randomize.{physical[0]}: cannot vary in {physics.name}; "
                    "set physics.backend to planar, spatial or mjx"
                )
            quantities.check_spreads(inner.model, config.physical)
        super().__init__(inner)
        self.config = config

    def variation_in_use(self, worlds: RandomizedWorlds) -> Variation:
        """The variations of the present episodes."""
        if worlds.next_variation is None or worlds.next_in_use is None:
            return worlds.variation
        return select(worlds.next_in_use, worlds.next_variation, worlds.variation)

    def initial(self, keys: Array) -> RandomizedWorlds:
        count, config = keys.shape[0], self.config
        share = None if config.curriculum_return is None else jnp.zeros(count)
        variation = self._draw_variation(keys, share)
        redraws = config.redraw == "episode" and bool(jax.tree.leaves(variation))
        worlds = RandomizedWorlds(
            inner=self.inner.initial(keys),
            key=keys,
            time=jnp.zeros(count, jnp.int32),
            range_share=share,
            variation=variation,
            next_variation=self._draw_variation(draw.second_keys(keys), share) if redraws else None,
            next_in_use=jnp.zeros(count, bool) if redraws else None,
            past_actions=self._no_past_actions(count),
            action_in_effect=self._no_action(count),
        )
        return self._at_start(worlds)

    def restart(self, worlds: RandomizedWorlds, ended: Ended, keys: Array) -> RandomizedWorlds:
        count = keys.shape[0]
        restarted = replace(
            worlds,
            inner=self.inner.restart(worlds.inner, ended, keys),
            key=keys,
            time=jnp.zeros(count, jnp.int32),
            range_share=self._next_range_share(worlds.range_share, ended),
            next_in_use=None if worlds.next_in_use is None else jnp.ones_like(worlds.next_in_use),
            past_actions=self._no_past_actions(count),
            action_in_effect=self._no_action(count),
        )
        return self._at_start(restarted)

    def _at_start(self, worlds: RandomizedWorlds) -> RandomizedWorlds:
        """The worlds, which begin an episode, with what the task computes from the robots of this episode."""
        parameters = self.variation_in_use(worlds).parameters
        if parameters is None:
            return worlds
        assert isinstance(self.inner, RobotTask)
        return replace(worlds, inner=self.inner.at_start(worlds.inner, parameters))

    def _no_past_actions(self, count: int) -> Array | None:
        delay = self.config.max_action_delay
        return jnp.zeros((count, delay, self.action_size)) if delay else None

    def _no_action(self, count: int) -> Array | None:
        return jnp.zeros((count, self.action_size)) if self.config.drop_action else None

    def _next_range_share(self, share: Array | None, ended: Ended) -> Array | None:
        """The curriculum's progress after the episodes that have ended, [N]."""
        threshold = self.config.curriculum_return
        if share is None or threshold is None:
            return share
        change = jnp.where((ended.episode_return >= threshold) & ~ended.nonfinite, 1, -1)
        # An episode whose clock began ahead was cut short: its return does not count.
        change = jnp.where(ended.clock_offset == 0, change, 0)
        return jnp.clip(share + self.config.curriculum_step * change, 0.0, 1.0)

    def _draw_variation(self, keys: Array, share: Array | None) -> Variation:
        """New variations, one for each key [N]."""
        config = self.config
        parameters = bias = delay = None
        if config.physical:
            assert isinstance(self.inner, RobotTask)
            parameters = draw.draw_parameters(config, self.inner.model, keys, share)
        if config.observation_bias.on:
            each = replace(config.observation_bias, each=True)
            bias = draw.draw_numbers(each, keys, "observation_bias", self.obs_size, share)
        if config.max_action_delay:
            delay = draw.draw_integers(keys, "delay", config.max_action_delay + 1)
        return Variation(parameters, bias, delay)

    def prepare(self, worlds: RandomizedWorlds) -> RandomizedWorlds:
        """Draws the next variation of worlds whose next one is in use."""
        worlds = super().prepare(worlds)
        in_use = worlds.next_in_use
        if in_use is None:
            return worlds

        def exchange(worlds: RandomizedWorlds) -> RandomizedWorlds:
            drawn = self._draw_variation(worlds.key, worlds.range_share)
            return replace(
                worlds,
                variation=self.variation_in_use(worlds),
                next_variation=select(in_use, drawn, worlds.next_variation),
                next_in_use=jnp.zeros_like(in_use),
            )

        return lax.cond(in_use.any(), exchange, lambda worlds: worlds, worlds)

    def observe(self, worlds: RandomizedWorlds) -> Array:
        obs = self.inner.observe(worlds.inner)
        bias = self.variation_in_use(worlds).observation_bias
        if bias is not None:
            obs = obs + bias
        if self.config.observation_noise:
            words = noise.random_words(worlds.key, worlds.time, noise.NOISE, -(-self.obs_size // 2))
            obs = obs + self.config.observation_noise * noise.normal_numbers(words)[: self.obs_size].T
        return obs

    def hidden(self, worlds: RandomizedWorlds) -> dict[str, Array]:
        known, variation = super().hidden(worlds), self.variation_in_use(worlds)
        if variation.parameters is not None:
            assert isinstance(self.inner, RobotTask)
            known |= hidden_parameters(self.config, self.inner.model, variation.parameters)
        if self.config.observation_noise or variation.observation_bias is not None:
            known["observation"] = self.inner.observe(worlds.inner)
        if variation.action_delay is not None and worlds.past_actions is not None:
            known["action_delay"] = variation.action_delay[:, None] / self.config.max_action_delay
            known["past_actions"] = worlds.past_actions.reshape(len(variation.action_delay), -1)
        if worlds.action_in_effect is not None:
            known["action_in_effect"] = worlds.action_in_effect
        return known

    def advance(self, worlds: RandomizedWorlds, action: Array) -> tuple[RandomizedWorlds, dict[str, Array], Array]:
        variation = self.variation_in_use(worlds)
        worlds, action = self.disturb(*_delay_action(worlds, variation, action))
        inner = worlds.inner
        if variation.parameters is not None:
            inner = replace(inner, parameters=variation.parameters)
        inner, terms, terminated = self.inner.advance(inner, action)
        if variation.parameters is not None:
            inner = replace(inner, parameters=None)
        return replace(worlds, inner=inner, time=worlds.time + 1), terms, terminated

    def disturb(self, worlds: RandomizedWorlds, action: Array) -> tuple[RandomizedWorlds, Array]:
        """Drops some of the actions [N, action_size] and pushes some of the robots; returns the applied actions."""
        config = self.config
        if not (config.drop_action or config.push):
            return worlds, action
        dofs = self._pushed_dofs()
        words = noise.random_words(worlds.key, worlds.time, noise.EVENTS, (3 + len(dofs)) // 2)
        lost, pushed, *directions = noise.uniform_numbers(words)[: 2 + len(dofs)]
        if worlds.action_in_effect is not None:
            action = jnp.where((lost < config.drop_action)[:, None], worlds.action_in_effect, action)
            worlds = replace(worlds, action_in_effect=action)
        if config.push:
            change = jnp.where(pushed < config.push, config.push_speed * (2 * jnp.stack(directions) - 1), 0.0)
            qvel = worlds.inner.qvel.at[:, dofs].add(change.T)
            worlds = replace(worlds, inner=replace(worlds.inner, qvel=qvel))
        return worlds, action

    def _pushed_dofs(self) -> np.ndarray:
        """The dofs that pushes change: those of the first body's own joints."""
        if not isinstance(self.inner, RobotTask):
            return np.zeros(0, int)
        model = self.inner.model
        return model.body_dofadr[1] + np.arange(model.body_dofnum[1])

    def state_variables(self, worlds: RandomizedWorlds) -> Any:
        return self.inner.state_variables(worlds.inner), worlds.past_actions, worlds.action_in_effect

    def metrics(self, worlds: RandomizedWorlds) -> dict[str, Array]:
        share = worlds.range_share
        return super().metrics(worlds) | ({} if share is None else {"randomization_extent": share})


def _delay_action(worlds: RandomizedWorlds, variation: Variation, action: Array) -> tuple[RandomizedWorlds, Array]:
    """The worlds with the new action stored, and the actions [N, action_size] that take effect now."""
    if worlds.past_actions is None or variation.action_delay is None:
        return worlds, action
    actions = jnp.concatenate([action[:, None], worlds.past_actions], axis=1)
    arrives = jnp.arange(actions.shape[1]) == variation.action_delay[:, None]
    # The sum of one number and zeros is cheaper than a gather.
    return replace(worlds, past_actions=actions[:, :-1]), jnp.where(arrives[..., None], actions, 0).sum(1)
