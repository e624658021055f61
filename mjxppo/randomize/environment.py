"""A randomised task: an environment around an environment, so that learning does not know of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from mjxppo.envs.base import Array, Environment, EnvState
from mjxppo.envs.locomotion import Locomotion
from mjxppo.errors import UserError
from mjxppo.randomize import draw, hidden
from mjxppo.randomize.config import RandomizeConfig


@flax.struct.dataclass
class World:
    """N worlds of the task, and what else is random about their episodes. What is off is None."""

    physics: Any
    """The task's own worlds; the drawn parameters are in them."""
    key: Array
    """The episode's random key, [N]; what happens at each step is drawn from it and ``time``."""
    time: Array
    """Steps taken in the episode, [N] int32."""
    extent: Array | None
    """How far the curriculum has come, from 0 (the model itself) to 1 (the full ranges), [N]."""
    observation_bias: Array | None
    """[N, obs_size]"""
    delay: Array | None
    """Environment steps that actions are late by, [N] int32."""
    past_actions: Array | None
    """The last ``max_action_delay`` actions, the latest first, [N, max_action_delay, action_size]."""
    action_in_effect: Array | None
    """What the last step applied, [N, action_size]."""


def wrap(env: Environment, config: RandomizeConfig) -> Environment:
    """The environment itself where nothing varies, else its randomised form.

    Raises:
        UserError: the environment's physics cannot be varied.
    """
    return RandomizedEnvironment(env, config) if config.on else env


class RandomizedEnvironment(Environment):
    """Draws every episode's parameters anew, and stands between the policy and the task.

    The reward and the end of an episode are the task's, on true states and with the actions that take effect.
    Random numbers come from the world's own key: they depend neither on the other worlds nor on the devices.
    """

    def __init__(self, env: Environment, config: RandomizeConfig):
        physical = [*config.physical, *(["push"] if config.push else [])]
        if physical and not isinstance(env, Locomotion):
            raise UserError(f"randomize.{physical[0]}: {env.name} is not simulated by this package's physics")
        if config.physical and not env.physics.takes_parameters:  # type: ignore[attr-defined]
            backend = env.physics.name  # type: ignore[attr-defined]
            raise UserError(f"randomize.{physical[0]}: cannot vary in {backend}; set physics.backend to planar or mjx")
        self.env = env
        self.config = config
        self.name, self.gym_id = env.name, env.gym_id
        self.obs_size, self.action_size = env.obs_size, env.action_size
        self.max_episode_steps, self.step_duration = env.max_episode_steps, env.step_duration

    def reset_info(self, physics: World) -> dict[str, Array]:
        return self.env.reset_info(physics.physics)

    def step_info(self, state: EnvState) -> dict[str, Array]:
        return self.env.step_info(replace(state, physics=state.physics.physics))

    def _initial(self, keys: Array) -> World:
        curriculum = self.config.curriculum_return is not None
        return self._fresh(keys, jnp.zeros(keys.shape[0]) if curriculum else None)

    def _restart(self, state: EnvState, keys: Array) -> World:
        extent, threshold = state.physics.extent, self.config.curriculum_return
        if extent is not None and threshold is not None:
            change = jnp.where((state.episode_return >= threshold) & ~state.nonfinite, 1, -1)
            # An episode that began with its clock ahead was cut short, and says nothing.
            change = jnp.where(state.clock_offset == 0, change, 0)
            extent = jnp.clip(extent + self.config.curriculum_step * change, 0.0, 1.0)
        fresh, old = self._fresh(keys, extent), state.physics
        if self.config.redraw == "never":
            # What was drawn for nothing is no part of the compiled program.
            fresh = replace(fresh, observation_bias=old.observation_bias, delay=old.delay)
            if self.config.physical:
                fresh = replace(fresh, physics=replace(fresh.physics, parameters=old.physics.parameters))
        return fresh

    def _fresh(self, keys: Array, extent: Array | None) -> World:
        config, count = self.config, keys.shape[0]
        reset_keys, draw_keys, bias_keys, delay_keys, episode_keys = _split(keys, 5)
        physics = self.env._initial(reset_keys)
        if config.physical:
            assert isinstance(self.env, Locomotion)
            physics = replace(physics, parameters=draw.parameters(config, self.env.model, draw_keys, extent))
        bias = delay = past = effective = None
        if config.observation_bias.on:
            each = replace(config.observation_bias, each=True)
            bias = draw.numbers(each, bias_keys, "observation_bias", self.obs_size, extent)
        if config.max_action_delay:
            delay = jax.vmap(lambda k: jax.random.randint(k, (), 0, config.max_action_delay + 1))(delay_keys)
            past = jnp.zeros((count, config.max_action_delay, self.action_size))
        if config.drop_action:
            effective = jnp.zeros((count, self.action_size))
        return World(physics, episode_keys, jnp.zeros(count, jnp.int32), extent, bias, delay, past, effective)

    def _observe(self, physics: World) -> Array:
        obs = self.env._observe(physics.physics)
        if physics.observation_bias is not None:
            obs = obs + physics.observation_bias
        if self.config.observation_noise:
            keys = _at_this_step(physics, 0)
            noise = jax.vmap(lambda k: jax.random.normal(k, (self.obs_size,)))(keys)
            obs = obs + self.config.observation_noise * noise
        return obs

    def _hidden(self, physics: World) -> dict[str, Array]:
        known = self.env._hidden(physics.physics)
        if self.config.physical:
            assert isinstance(self.env, Locomotion)
            known |= hidden.factors(self.config, self.env.model, physics.physics.parameters)
        if self.config.observation_noise or physics.observation_bias is not None:
            known["observation"] = self.env._observe(physics.physics)
        if physics.delay is not None and physics.past_actions is not None:
            known["action_delay"] = physics.delay[:, None] / self.config.max_action_delay
            known["past_actions"] = physics.past_actions.reshape(len(physics.delay), -1)
        if physics.action_in_effect is not None:
            known["action_in_effect"] = physics.action_in_effect
        return known

    def _advance(self, physics: World, action: Array) -> tuple[World, dict[str, Array], Array]:
        world, action = self._effective(physics, action)
        if self.config.push:
            world = self._pushed(world)
        moved, terms, terminated = self.env._advance(world.physics, action)
        return replace(world, physics=moved, time=world.time + 1), terms, terminated

    def _effective(self, world: World, action: Array) -> tuple[World, Array]:
        """The actions that take effect: late, or lost."""
        if world.past_actions is not None and world.delay is not None:
            actions = jnp.concatenate([action[:, None], world.past_actions], axis=1)
            action = jnp.take_along_axis(actions, world.delay[:, None, None], axis=1)[:, 0]
            world = replace(world, past_actions=actions[:, :-1])
        if world.action_in_effect is not None:
            lost = jax.vmap(lambda k: jax.random.bernoulli(k, self.config.drop_action))(_at_this_step(world, 1))
            action = jnp.where(lost[:, None], world.action_in_effect, action)
            world = replace(world, action_in_effect=action)
        return world, action

    def _pushed(self, world: World) -> World:
        """Changes the root's velocities in some worlds: those of the first body's own joints."""
        assert isinstance(self.env, Locomotion)
        model, speed = self.env.model, self.config.push_speed
        root = model.body_dofadr[1] + np.arange(model.body_dofnum[1])

        def one(key: Array) -> Array:
            whether, *how = jax.random.uniform(key, (1 + len(root),))
            return jnp.where(whether < self.config.push, speed * (2 * jnp.stack(how) - 1), 0.0)

        change = jax.vmap(one)(_at_this_step(world, 2))
        physics = world.physics
        return replace(world, physics=replace(physics, qvel=physics.qvel.at[:, root].add(change)))


def _split(keys: Array, count: int) -> tuple[Array, ...]:
    parts = jax.vmap(lambda key: jax.random.split(key, count))(keys)
    return tuple(parts[:, i] for i in range(count))


def _at_this_step(world: World, purpose: int) -> Array:
    """A random key of each world for one purpose (of four) at this step, [N]."""
    return jax.vmap(jax.random.fold_in)(world.key, 4 * world.time + purpose)
