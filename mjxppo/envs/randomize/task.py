"""A randomised task: an environment around an environment, so that learning does not know of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mjxppo.config.randomize import RandomizeConfig
from mjxppo.envs.environment import Array, Environment, EnvState, select
from mjxppo.envs.locomotion import Locomotion
from mjxppo.envs.randomize import draw, hidden, noise, quantities
from mjxppo.errors import UserError
from mjxppo.physics import Parameters


@flax.struct.dataclass
class Robots:
    """What is drawn for an episode, and does not change in it. What does not vary is None."""

    parameters: Parameters | None
    """Fields of the model, each [N, *shape of the field]."""
    observation_bias: Array | None
    """[N, obs_size]"""
    delay: Array | None
    """Environment steps that actions are late by, [N] int32."""


@flax.struct.dataclass
class World:
    """N worlds of the task, and what else is random about their episodes. What is off is None.

    Robots are dear to draw, and large: no step makes or moves any. Each world holds the one after the present one as
    well, an episode's end only notes that it is in use, and ``renew`` draws new ones, for a whole rollout.
    """

    physics: Any
    """The task's own worlds, without parameters."""
    key: Array
    """The episode's random key, [N]; what happens at each step is drawn from it and ``time``."""
    time: Array
    """Steps taken in the episode, [N] int32."""
    extent: Array | None
    """How far the curriculum has come, from 0 (the model itself) to 1 (the full ranges), [N]."""
    robots: Robots
    """In use where not ``exchanged``; see ``RandomizedEnvironment.robots``."""
    next_robots: Robots | None
    """In use where ``exchanged``; None: each world keeps its robot for good."""
    exchanged: Array | None
    """Whether an episode has begun since ``renew``, [N] bool."""
    past_actions: Array | None
    """The last ``max_action_delay`` actions, the latest first, [N, max_action_delay, action_size]."""
    action_in_effect: Array | None
    """What the last step applied, [N, action_size]."""


def wrap(env: Environment, config: RandomizeConfig) -> Environment:
    """The environment itself where nothing varies, else its randomised form.

    Raises:
        UserError: the environment's physics cannot be varied.
    """
    if config.on and env.on_host:
        raise UserError(f"randomize: {env.name} is simulated on the host; change it with env_options.perturb")
    return RandomizedEnvironment(env, config) if config.on else env


class RandomizedEnvironment(Environment):
    """Gives episodes robots of their own, and stands between the policy and the task.

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
        if isinstance(env, Locomotion):
            quantities.check_spreads(env.model, config.physical)
        self.env = env
        self.config = config
        self.name, self.gym_id = env.name, env.gym_id
        self.obs_size, self.action_size = env.obs_size, env.action_size
        self.max_episode_steps, self.step_duration = env.max_episode_steps, env.step_duration

    def robots(self, worlds: World) -> Robots:
        """The robots of the present episodes."""
        if worlds.next_robots is None or worlds.exchanged is None:
            return worlds.robots
        return select(worlds.exchanged, worlds.next_robots, worlds.robots)

    def reset_info(self, physics: World) -> dict[str, Array]:
        return self.env.reset_info(physics.physics)

    def step_info(self, state: EnvState) -> dict[str, Array]:
        return self.env.step_info(replace(state, physics=state.physics.physics))

    def metrics(self, state: EnvState) -> dict[str, Array]:
        extent = state.physics.extent
        return {} if extent is None else {"randomization_extent": extent}

    def renew(self, state: EnvState) -> EnvState:
        """Draws the next robots of worlds that have begun to use theirs."""
        exchanged = state.physics.exchanged
        if exchanged is None:
            return state

        def exchange(worlds: World) -> World:
            drawn = self._draw(worlds.key, worlds.extent)
            return replace(
                worlds,
                robots=self.robots(worlds),
                next_robots=select(exchanged, drawn, worlds.next_robots),
                exchanged=jnp.zeros_like(exchanged),
            )

        worlds = lax.cond(exchanged.any(), exchange, lambda worlds: worlds, state.physics)
        return replace(state, physics=worlds)

    def _variables(self, physics: World) -> Any:
        return physics.physics, physics.past_actions, physics.action_in_effect

    def _initial(self, keys: Array) -> World:
        extent = None if self.config.curriculum_return is None else jnp.zeros(keys.shape[0])
        robots = self._draw(keys, extent)
        each = self.config.redraw == "episode" and bool(jax.tree.leaves(robots))
        return self._begin(
            keys,
            extent=extent,
            robots=robots,
            next_robots=self._draw(draw.others(keys), extent) if each else None,
            exchanged=jnp.zeros(keys.shape[0], bool) if each else None,
        )

    def _restart(self, state: EnvState, keys: Array) -> World:
        old, threshold = state.physics, self.config.curriculum_return
        extent = old.extent
        if extent is not None and threshold is not None:
            change = jnp.where((state.episode_return >= threshold) & ~state.nonfinite, 1, -1)
            # An episode that began with its clock ahead was cut short, and says nothing.
            change = jnp.where(state.clock_offset == 0, change, 0)
            extent = jnp.clip(extent + self.config.curriculum_step * change, 0.0, 1.0)
        return self._begin(
            keys,
            extent=extent,
            robots=old.robots,
            next_robots=old.next_robots,
            exchanged=None if old.exchanged is None else jnp.ones_like(old.exchanged),
        )

    def _begin(self, keys: Array, **kept: Any) -> World:
        """Worlds at the start of an episode."""
        count, config = keys.shape[0], self.config
        past = effective = None
        if config.max_action_delay:
            past = jnp.zeros((count, config.max_action_delay, self.action_size))
        if config.drop_action:
            effective = jnp.zeros((count, self.action_size))
        return World(
            physics=self.env._initial(keys),
            key=keys,
            time=jnp.zeros(count, jnp.int32),
            past_actions=past,
            action_in_effect=effective,
            **kept,
        )

    def _draw(self, keys: Array, extent: Array | None) -> Robots:
        """New robots, one for each key."""
        config = self.config
        parameters = bias = delay = None
        if config.physical:
            assert isinstance(self.env, Locomotion)
            parameters = draw.parameters(config, self.env.model, keys, extent)
        if config.observation_bias.on:
            each = replace(config.observation_bias, each=True)
            bias = draw.numbers(each, keys, "observation_bias", self.obs_size, extent)
        if config.max_action_delay:
            delay = draw.integers(keys, "delay", config.max_action_delay + 1)
        return Robots(parameters, bias, delay)

    def _observe(self, physics: World) -> Array:
        obs = self.env._observe(physics.physics)
        bias = self.robots(physics).observation_bias
        if bias is not None:
            obs = obs + bias
        if self.config.observation_noise:
            words = noise.bits(physics.key, physics.time, noise.NOISE, -(-self.obs_size // 2))
            obs = obs + self.config.observation_noise * noise.normal(words)[: self.obs_size].T
        return obs

    def _hidden(self, physics: World) -> dict[str, Array]:
        known, robots = self.env._hidden(physics.physics), self.robots(physics)
        if robots.parameters is not None:
            assert isinstance(self.env, Locomotion)
            known |= hidden.factors(self.config, self.env.model, robots.parameters)
        if self.config.observation_noise or robots.observation_bias is not None:
            known["observation"] = self.env._observe(physics.physics)
        if robots.delay is not None and physics.past_actions is not None:
            known["action_delay"] = robots.delay[:, None] / self.config.max_action_delay
            known["past_actions"] = physics.past_actions.reshape(len(robots.delay), -1)
        if physics.action_in_effect is not None:
            known["action_in_effect"] = physics.action_in_effect
        return known

    def _advance(self, physics: World, action: Array) -> tuple[World, dict[str, Array], Array]:
        robots = self.robots(physics)
        world, action = self._disturbed(*_delayed(physics, robots, action))
        task = world.physics
        if robots.parameters is not None:
            task = replace(task, parameters=robots.parameters)
        moved, terms, terminated = self.env._advance(task, action)
        if robots.parameters is not None:
            moved = replace(moved, parameters=None)
        return replace(world, physics=moved, time=world.time + 1), terms, terminated

    def _disturbed(self, world: World, action: Array) -> tuple[World, Array]:
        """What happens at once: actions get lost, robots are pushed."""
        config = self.config
        if not (config.drop_action or config.push):
            return world, action
        root = self._root()
        words = noise.bits(world.key, world.time, noise.EVENTS, (3 + len(root)) // 2)
        lost, pushed, *how = noise.uniform(words)[: 2 + len(root)]
        if world.action_in_effect is not None:
            action = jnp.where((lost < config.drop_action)[:, None], world.action_in_effect, action)
            world = replace(world, action_in_effect=action)
        if config.push:
            change = jnp.where(pushed < config.push, config.push_speed * (2 * jnp.stack(how) - 1), 0.0)
            qvel = world.physics.qvel.at[:, root].add(change.T)
            world = replace(world, physics=replace(world.physics, qvel=qvel))
        return world, action

    def _root(self) -> np.ndarray:
        """The dofs that pushes change: those of the first body's own joints."""
        if not isinstance(self.env, Locomotion):
            return np.zeros(0, int)
        model = self.env.model
        return model.body_dofadr[1] + np.arange(model.body_dofnum[1])


def _delayed(world: World, robots: Robots, action: Array) -> tuple[World, Array]:
    """The actions [N, action_size] that arrive at the robots now."""
    if world.past_actions is None or robots.delay is None:
        return world, action
    actions = jnp.concatenate([action[:, None], world.past_actions], axis=1)
    late = jnp.arange(actions.shape[1]) == robots.delay[:, None]
    # A sum over one number and zeros: a gather is dearer than all of it.
    return replace(world, past_actions=actions[:, :-1]), jnp.where(late[..., None], actions, 0).sum(1)
