"""Reference policies, from which the learned policy's divergence is a term of the loss.

There are two: the anchor of fine-tuning (``init.anchor_coef``), which the policy is held near, and the teacher of
distillation (``distill.teacher``), which the policy imitates. Both stay as they are during the run, and are part of the
training state.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mjxppo.config.schema import Config
from mjxppo.envs import Environment, EnvState
from mjxppo.ppo import networks, normalize, schedules
from mjxppo.ppo.heads import Outputs
from mjxppo.ppo.networks import ActorCritic
from mjxppo.ppo.state import Learner, ReferencePolicy, Teacher

Array = jax.Array

ReferenceFunction = Callable[[EnvState], Outputs]
"""A reference policy: its outputs, each [B, any], see ``heads``, for B worlds before their step."""


def reference_function(
    env: Environment, config: Config, network: ActorCritic, learner: Learner
) -> ReferenceFunction | None:
    """The run's reference policy, the teacher or the anchor in ``learner``, as a function; None where there is none.

    ``env`` and ``network`` are those of the learned policy.
    """
    if learner.teacher is not None:
        return _teacher_function(env, config, learner.teacher)
    if learner.anchor is not None:
        return _anchor_function(env, config, network, learner.anchor)
    return None


def _anchor_function(
    env: Environment, config: Config, network: ActorCritic, anchor: ReferencePolicy
) -> ReferenceFunction:
    def anchor_of(worlds: EnvState) -> Outputs:
        obs = normalize.network_obs(anchor.obs_moments, worlds.obs, config.ppo.normalize_obs)
        return networks.apply_policy(network, anchor.params, obs, env.action_mask(worlds))

    return anchor_of


def _teacher_function(env: Environment, config: Config, teacher: Teacher) -> ReferenceFunction:
    network, policy = _teachers_network(env, config), teacher.policy

    def teacher_of(worlds: EnvState) -> Outputs:
        seen = teacher_obs(env, config, worlds.obs)
        obs = normalize.network_obs(policy.obs_moments, seen, config.distill.normalize_obs)
        return networks.apply_policy(network, policy.params, obs, env.action_mask(worlds))

    return teacher_of


def _teachers_network(env: Environment, config: Config) -> ActorCritic:
    return networks.build(env.action_size, config.distill.policy, categories=env.actions.categories)


def teacher_obs(env: Environment, config: Config, obs: Array) -> Array:
    """The part of the student's observations [N, obs_size] that the teacher takes, in the teacher's order, [N, any].

    A shorter stack is the beginning of a longer one; what is privileged comes last, and is the same for both.
    """
    stack = env.obs_size - env.privileged_size
    one = (stack + env.action_size) // config.policy.history - env.action_size
    history = config.distill.policy.history
    own = obs[:, : history * one + (history - 1) * env.action_size]
    return jnp.concatenate([own, obs[:, stack:]], axis=1) if config.distill.policy.privileged == "both" else own


def untrained_teacher(env: Environment, config: Config) -> Teacher:
    """A teacher with arrays of the right shapes and random parameters, to be replaced by the trained one's."""
    size = jax.eval_shape(lambda obs: teacher_obs(env, config, obs), jnp.zeros((1, env.obs_size))).shape[1]
    network = _teachers_network(env, config)
    params = networks.actor_of(networks.init_params(network, size, jax.random.key(0)))
    share = schedules.teacher_share(config.distill, 0.0)
    return Teacher(ReferencePolicy(params, normalize.initial_moments((size,))), share)
