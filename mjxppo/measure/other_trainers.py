"""Training throughput of other trainers on the same task, with the same networks, epochs and minibatches.

Each runs in a process of its own, so that a crash is reported in one line.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import jax
import jax.numpy as jnp

from mjxppo import envs
from mjxppo.config.schema import Config, minibatches_per_epoch
from mjxppo.envs.registry import gym_id_of
from mjxppo.errors import UserError
from mjxppo.measure.arguments import check_known
from mjxppo.physics.compiler import check_compiler
from mjxppo.policy.processes import process_pool

_SB3_ENVS = 16
_SB3_UPDATES = 3
_BRAX_NAMES = {"half_cheetah": "halfcheetah", "hopper": "hopper", "walker2d": "walker2d"}


def sb3(config: Config) -> dict[str, Any]:
    """Stable-Baselines3's PPO in Gymnasium's environment, one process for each of 16 worlds.

    Raises UserError where it is not installed.
    """
    try:  # an optional package
        from stable_baselines3 import PPO
        from stable_baselines3.common.env_util import make_vec_env
        from stable_baselines3.common.vec_env import SubprocVecEnv
        from torch import nn
    except ImportError as error:
        raise UserError("against: sb3 needs stable-baselines3; pip install stable-baselines3") from error
    ppo = config.ppo
    env = make_vec_env(gym_id_of(config.env), n_envs=_SB3_ENVS, vec_env_cls=SubprocVecEnv)
    samples = ppo.num_envs * ppo.rollout_length
    model = PPO(
        "MlpPolicy",
        env,
        n_steps=samples // _SB3_ENVS,
        batch_size=samples // minibatches_per_epoch(ppo),
        n_epochs=ppo.num_epochs,
        policy_kwargs={
            "net_arch": list(config.policy.hidden_sizes),
            "activation_fn": {"silu": nn.SiLU, "tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU}[
                config.policy.activation
            ],
        },
        device="cpu",
    )
    started = time.perf_counter()
    model.learn(_SB3_UPDATES * samples)
    seconds = time.perf_counter() - started
    env.close()
    return _row(config, "Stable-Baselines3 PPO", "Gymnasium", _SB3_UPDATES * samples / seconds)


def brax_own(config: Config) -> dict[str, Any]:
    """Brax's PPO in Brax's environment of the same name, whose model is simpler than Gymnasium's."""
    from brax.envs import get_environment  # slow to import, and only needed here

    check_compiler("Brax", "against")
    return _brax(config, lambda: get_environment(_BRAX_NAMES[config.env]), "Brax's own")


def brax_ours(config: Config) -> dict[str, Any]:
    """Brax's PPO in this package's environment."""
    return _brax(config, lambda: envs.as_brax(config.env), "ours")


def _brax(config: Config, make: Callable[[], Any], label: str) -> dict[str, Any]:
    # Brax 0.14 needs this function, which newer versions of JAX do not have.
    if not hasattr(jax, "device_put_replicated"):
        jax.device_put_replicated = lambda tree, devices: jax.tree.map(lambda x: jnp.stack([x] * len(devices)), tree)  # type: ignore[assignment]
    from brax.training.agents.ppo import networks  # these need the function above
    from brax.training.agents.ppo import train as ppo_train

    def network(*args: Any, **options: Any) -> Any:
        sizes = tuple(config.policy.hidden_sizes)
        return networks.make_ppo_networks(
            *args,
            policy_hidden_layer_sizes=sizes,
            value_hidden_layer_sizes=sizes,
            activation=getattr(jax.nn, config.policy.activation),
            **options,
        )

    ppo, speeds = config.ppo, []
    ppo_train.train(
        environment=make(),
        num_timesteps=4 * ppo.num_envs * ppo.rollout_length,
        episode_length=1000,
        num_envs=ppo.num_envs,
        unroll_length=ppo.rollout_length,
        batch_size=ppo.num_envs // minibatches_per_epoch(ppo),
        num_minibatches=ppo.num_minibatches,
        num_updates_per_batch=ppo.num_epochs,
        normalize_observations=True,
        network_factory=network,
        num_evals=5,
        run_evals=False,
        max_devices_per_host=1,  # its reductions over host devices fail on current versions of JAX
        progress_fn=lambda _, metrics: speeds.append(float(metrics["training/sps"])),
    )
    return _row(config, "Brax PPO", label, statistics.median(speeds[1:]))  # the first includes compilation


def _row(config: Config, trainer: str, environment: str, env_steps_per_s: float) -> dict[str, Any]:
    return {"env": config.env, "trainer": trainer, "environment": environment, "env_steps_per_s": env_steps_per_s}


TRAINERS = {"sb3": sb3, "brax": brax_own, "brax-ours": brax_ours}
"""Trainers by the name that ``mjxppo benchmark train --against`` takes."""


def compare_trainers(config: Config, names: tuple[str, ...], own_env_steps_per_s: float) -> list[dict[str, Any]]:
    """Measures the trainers ``names`` (keys of ``TRAINERS``) with the task and the sizes of ``config``, in turn.

    Returns a row for this package, whose throughput is ``own_env_steps_per_s``, and for each trainer; ``ratio`` is this
    package's throughput divided by the row's. Raises UserError where a name is unknown, or a trainer is not installed
    or fails.
    """
    check_known("against", names, TRAINERS)
    rows = [_row(config, "mjxppo", "ours", own_env_steps_per_s)]
    rows += [_measure_in_process(name, config) for name in names]
    return [row | {"ratio": own_env_steps_per_s / row["env_steps_per_s"]} for row in rows]


def _measure_in_process(name: str, config: Config) -> dict[str, Any]:
    with process_pool(1) as pool:
        try:
            return pool.submit(TRAINERS[name], config).result()
        except BrokenProcessPool as error:
            raise UserError(f"against: {name} died; does it run with the installed jax {jax.__version__}?") from error
