"""What the teacher of a student sees in the student's worlds, and says."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from mjxppo.config.schema import Config
from mjxppo.envs import Environment, EnvState
from mjxppo.ppo import networks, normalize, schedules
from mjxppo.ppo.rollout import Policy, Reference, see_obs
from mjxppo.ppo.state import Frozen, Teacher

Array = jax.Array


def view(env: Environment, config: Config, obs: Array) -> Array:
    """The part of the student's observations [N, obs_size] that the teacher sees, in the teacher's order, [N, any].

    A shorter stack is the beginning of a longer one; what is privileged comes last, and is the same for both.
    """
    stack = env.obs_size - env.privileged_size
    one = (stack + env.action_size) // config.policy.history - env.action_size
    history = config.distill.policy.history
    own = obs[:, : history * one + (history - 1) * env.action_size]
    return jnp.concatenate([own, obs[:, stack:]], axis=1) if config.distill.policy.privileged == "both" else own


def placeholder(env: Environment, config: Config) -> Teacher:
    """A teacher of the right shapes that knows nothing; whoever has trained one puts it here."""
    size = jax.eval_shape(lambda obs: view(env, config, obs), jnp.zeros((1, env.obs_size))).shape[1]
    network = networks.build(env.action_size, config.distill.policy)
    params = networks.actor_of(networks.init_params(network, size, jax.random.key(0)))
    share = schedules.teacher_share(config.distill, 0.0)
    return Teacher(Frozen(params, normalize.initial_moments((size,))), share)


def reference(env: Environment, config: Config, teacher: Teacher) -> Reference:
    """The teacher as a function of the student's worlds."""
    network = networks.build(env.action_size, config.distill.policy)
    policy = Policy(network, teacher.policy.params, teacher.policy.obs_moments)
    settings = replace(config.ppo, normalize_obs=config.distill.normalize_obs)

    def reference(worlds: EnvState) -> tuple[Array, Array]:
        return networks.apply_policy(network, policy.params, see_obs(policy, settings, view(env, config, worlds.obs)))

    return reference
