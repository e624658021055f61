"""Checks of a whole configuration: what depends on several fields, which types cannot state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mjxppo.config import randomize
from mjxppo.config.algorithms import check_algorithm
from mjxppo.config.schema import Config, PpoConfig, fits_critic_apart, minibatches_per_epoch
from mjxppo.config.sweep import members_of
from mjxppo.config.values import from_dict
from mjxppo.errors import UserError

_MOST_POLICIES = 4096


def make_config(values: Mapping[str, Any], source: str = "config") -> Config:
    """The checked configuration from plain ``values`` by field name; sections are mappings.

    Raises UserError, which names the first field that is unknown or wrong and a right value, or else ``source``.
    """
    return check_config(from_dict(values, source))


def check_config(config: Config) -> Config:
    """Checks what depends on several fields; returns the configuration unchanged.

    Raises UserError, which names the first wrong field and a right value.
    """
    ppo, policy = config.ppo, config.policy
    if ppo.num_envs % ppo.block_size:
        fits = max(size for size in range(1, ppo.block_size) if ppo.num_envs % size == 0)
        raise UserError(
            f"ppo.block_size: {ppo.block_size} does not divide ppo.num_envs = {ppo.num_envs}; {fits} would do"
        )
    if ppo.num_envs * ppo.rollout_length >= 2**31:
        raise UserError(
            f"ppo.num_envs: {ppo.num_envs} worlds times ppo.rollout_length = {ppo.rollout_length} must stay below 2^31"
        )
    check_algorithm(config)
    _check_minibatches(ppo)
    if fits_critic_apart(config):
        _check_divides("critic.num_minibatches", config.critic.num_minibatches, ppo)
    if policy.min_log_std >= policy.init_log_std:
        raise UserError(
            f"policy.min_log_std: must be below policy.init_log_std = {policy.init_log_std}, is {policy.min_log_std}"
        )
    with_optimizer = ("policy",) if config.algorithm == "es" else ("policy", "critic")
    if "optimizer" in config.init.carry and not set(with_optimizer) <= set(config.init.carry):
        goes_with = " and ".join(with_optimizer)
        raise UserError(f"init.carry: optimizer goes with {goes_with}, whose gradients its moments are of")
    if config.init.anchor_coef > 0 and config.init.path is None:
        raise UserError("init.anchor_coef: needs a policy to hold on to; name it with init.path")
    if config.init.best and config.init.path is None:
        raise UserError("init.best: needs a run whose best policy it takes; name it with init.path")
    _check_distill(config)
    _check_eval(config)
    if config.seed + config.num_seeds > 2**32:
        raise UserError(f"num_seeds: {config.num_seeds} seeds from {config.seed} on go beyond 2^32 - 1")
    randomize.check_ranges(config.randomize)
    count = config.num_seeds * math.prod(len(values) for values in config.grid.values())
    if count > _MOST_POLICIES:
        raise UserError(f"grid: {count} policies in one program are too many; {_MOST_POLICIES} are the most")
    members_of(config)
    if policy.final_min_log_std is not None and policy.std != "state_independent":
        raise UserError("policy.final_min_log_std: the floor moves only with policy.std = state_independent")
    blocks = ppo.num_envs // ppo.block_size
    if config.num_devices and blocks % config.num_devices:
        raise UserError(
            f"num_devices: {config.num_devices} does not divide the number of blocks of worlds, ppo.num_envs / "
            f"ppo.block_size = {blocks}"
        )
    return config


def _check_eval(config: Config) -> None:
    own = config.eval
    given = {"stop_at_return": own.stop_at_return is not None, "patience": own.patience, "video_every": own.video_every}
    for field in (field for field, is_given in given.items() if is_given):
        if not own.every_env_steps:
            raise UserError(
                f"eval.{field}: needs evaluations while training; set eval.every_env_steps, such as 1000000"
            )
        if field != "video_every" and own.every_env_steps >= config.total_env_steps:
            raise UserError(
                f"eval.every_env_steps: must be below total_env_steps = {config.total_env_steps} for eval.{field} to "
                f"end the run, not {own.every_env_steps}"
            )


def _check_distill(config: Config) -> None:
    distill, ppo = config.distill, config.ppo
    if distill.teacher is None:
        return
    if config.init.path is not None:
        raise UserError("init.path: a student starts from new parameters; fine-tune it when it has been distilled")
    if ppo.learning_rate_schedule not in ("constant", "linear"):
        raise UserError(
            f"ppo.learning_rate_schedule: must be constant or linear to distill, not {ppo.learning_rate_schedule}"
        )
    if distill.policy.history > config.policy.history:
        raise UserError(
            f"policy.history: must be at least the teacher's {distill.policy.history}, is {config.policy.history}"
        )


def _check_minibatches(ppo: PpoConfig) -> None:
    batch, block = ppo.num_envs * ppo.rollout_length, ppo.rollout_length * ppo.block_size
    if ppo.minibatch_size:
        if batch % ppo.minibatch_size or block % (batch // ppo.minibatch_size):
            number = _nearest_divisor(block, max(batch // ppo.minibatch_size, 1))
            raise UserError(
                f"ppo.minibatch_size: {ppo.minibatch_size} samples cannot be drawn evenly from {batch // block} blocks "
                f"of ppo.rollout_length * ppo.block_size = {block}; {batch // number} would do"
            )
    else:
        _check_divides("ppo.num_minibatches", ppo.num_minibatches, ppo)
    if batch // minibatches_per_epoch(ppo) == 1 and ppo.advantage_normalization == "minibatch":
        raise UserError(
            "ppo.advantage_normalization: must be batch or none with minibatches of one sample, whose normalised "
            "advantage is always 0"
        )
    share = block // minibatches_per_epoch(ppo)
    if share % ppo.num_microbatches:
        raise UserError(
            f"ppo.num_microbatches: {ppo.num_microbatches} does not divide a minibatch's samples from each block, "
            f"{share}; {_nearest_divisor(share, ppo.num_microbatches)} would do"
        )


def _check_divides(field: str, number: int, ppo: PpoConfig) -> None:
    block = ppo.rollout_length * ppo.block_size
    if block % number:
        raise UserError(
            f"{field}: {number} does not divide ppo.rollout_length * ppo.block_size = {ppo.rollout_length} * "
            f"{ppo.block_size}; {_nearest_divisor(block, number)} would do"
        )


def _nearest_divisor(number: int, wanted: int) -> int:
    small = [divisor for divisor in range(1, math.isqrt(number) + 1) if number % divisor == 0]
    return min(sorted({*small, *(number // divisor for divisor in small)}), key=lambda divisor: abs(divisor - wanted))
