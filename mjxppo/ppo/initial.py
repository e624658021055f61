"""The training state before the first update."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from mjxppo.config.schema import Config, PpoConfig, fits_critic_apart
from mjxppo.envs import Environment
from mjxppo.envs.actions import ActionSpec
from mjxppo.ppo import counters, networks, normalize
from mjxppo.ppo.es.episodes import starts_of
from mjxppo.ppo.gradient import optimizer
from mjxppo.ppo.networks import ActorCritic
from mjxppo.ppo.reference import untrained_teacher
from mjxppo.ppo.shac.critic import target_of
from mjxppo.ppo.state import Learner, ReferencePolicy, TrainState

Array = jax.Array


def initial_state(env: Environment, config: Config, network: ActorCritic, key: Array, ppo: PpoConfig) -> TrainState:
    """Fresh worlds and an untrained policy; ``ppo`` holds the settings of one member where there are several.

    Where the run begins with a pretrained policy, an anchor or a teacher, ``run/finetune.py`` and ``run/distill.py``
    replace the arrays made here.
    """
    run_key, params_key, reset_key, clock_key = jax.random.split(key, 4)
    params = networks.init_params(network, env.obs_size, params_key)
    indices = jnp.arange(ppo.num_envs)
    starts = starts_of(config.es, indices) if config.algorithm == "es" else indices
    env_state = env.reset(jax.vmap(partial(jax.random.fold_in, reset_key))(starts))
    if ppo.stagger_resets:
        env_state = env.stagger(env_state, clock_key, indices)
    obs_moments = normalize.initial_moments((env.obs_size,))
    anchor = None
    if config.init.anchor_coef > 0:
        # Copies, because the state is donated: no two of its arrays may be one.
        anchor = ReferencePolicy(*jax.tree.map(jnp.copy, (networks.actor_of(params), obs_moments)))
    spec = env.actions
    learner = Learner(
        params=params,
        opt_state=optimizer(ppo).init(ravel_pytree(params)[0]),
        critic_opt_state=optimizer(ppo).init(ravel_pytree(params)[0]) if fits_critic_apart(config) else None,
        obs_moments=obs_moments,
        return_moments=normalize.initial_moments(()),
        learning_rate=jnp.float32(ppo.learning_rate),
        kl_penalty=jnp.float32(ppo.kl_penalty),
        target_critic=target_of(params) if config.algorithm == "shac" else None,
        anchor=anchor,
        teacher=untrained_teacher(env, config) if config.distill.teacher else None,
        actions=None if spec == ActionSpec(spec.size) else jnp.array(list(spec.to_json().encode()), jnp.uint8),
    )
    return TrainState(
        learner=learner, env_state=env_state, key=run_key, update=jnp.int32(0), env_steps=counters.make(0)
    )
