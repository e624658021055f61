"""Checks that a configuration's settings are those of the algorithm that it names."""

from __future__ import annotations

from dataclasses import fields

from mjxppo.config.schema import Config, PpoConfig, fits_critic_apart
from mjxppo.errors import UserError

_NOT_SWEPT = {
    "a2c": ("clip_eps", "kl_penalty"),
    "vpg": ("clip_eps", "kl_penalty", "value_coef"),
    "reinforce": ("clip_eps", "kl_penalty", "gae_lambda", "value_coef"),
    "trpo": ("clip_eps", "kl_penalty", "learning_rate", "target_kl", "entropy_coef", "value_coef"),
    "es": ("clip_eps", "kl_penalty", "gae_lambda", "value_coef", "entropy_coef", "target_kl"),
    "shac": ("clip_eps", "kl_penalty", "entropy_coef", "value_coef"),
}
"""Fields of ``PpoConfig`` that an algorithm does not use: policies that differ in them would be the same."""
_NOT_USED_BY_ES = (
    *("gae_lambda", "clip_eps", "kl_penalty", "value_clip_eps", "value_coef", "entropy_coef", "target_kl"),
    *("num_microbatches", "advantage_normalization", "normalize_returns"),
)
"""Fields of ``PpoConfig`` of critics, losses and advantages, which es has none of; it keeps their defaults."""


def check_algorithm(config: Config) -> None:
    """Raises UserError where a setting contradicts the algorithm; the message names the field and a right value."""
    name = config.algorithm
    if name == "ppo":
        _check_ppo(config)
    else:
        _check_single_step(config)
    if name == "reinforce":
        _check_reinforce(config)
    if name == "trpo":
        _check_trpo(config)
    if name == "es":
        _check_es(config)
    if name == "shac":
        _check_shac(config)
    _check_used(config)


def _check_used(config: Config) -> None:
    """Checks that what is set is used."""
    name = config.algorithm
    used = {section: name == section for section in ("reinforce", "trpo", "shac", "es")}
    used["critic"] = fits_critic_apart(config)
    for section in (section for section, is_used in used.items() if not is_used):
        given = getattr(config, section)
        for field in fields(given):
            if getattr(given, field.name) != field.default:
                where = " with reinforce.baseline value" if name == "reinforce" else ""
                users = {"critic": "vpg, trpo, shac, or reinforce"}.get(section, section) + where
                raise UserError(f"{section}.{field.name}: is of algorithm {users}, and this is {name}; leave it out")
    for axis in config.grid:
        if axis.removeprefix("ppo.") in _NOT_SWEPT.get(name, ()):
            raise UserError(f"grid: {name} does not use {axis}; choose another setting")


def _check_ppo(config: Config) -> None:
    ppo = config.ppo
    if ppo.loss == "policy_gradient":
        raise UserError("ppo.loss: must be clip or kl_penalty for ppo; for policy_gradient choose algorithm vpg or a2c")
    if ppo.kl_stop == "step" and not ppo.max_kl:
        raise UserError("ppo.kl_stop: step needs a divergence to stop at; set ppo.max_kl, such as 0.015")


def _check_single_step(config: Config) -> None:
    """Checks what the algorithms share that change the policy once for each batch."""
    name, ppo = config.algorithm, config.ppo
    if config.distill.teacher is not None:
        raise UserError(f"algorithm: must be ppo to distill, not {name}")
    if ppo.loss != "policy_gradient":
        raise UserError(f"ppo.loss: must be policy_gradient for {name}; {ppo.loss} is for ppo")
    if ppo.num_epochs != 1:
        raise UserError(
            f"ppo.num_epochs: must be 1 for {name}, which takes one step on each batch, not {ppo.num_epochs}"
        )
    batch = ppo.num_envs * ppo.rollout_length
    if ppo.minibatch_size not in (0, batch) or (not ppo.minibatch_size and ppo.num_minibatches != 1):
        field = "minibatch_size: must be 0" if ppo.minibatch_size else "num_minibatches: must be 1"
        raise UserError(f"ppo.{field} for {name}, which takes one step on each batch; num_microbatches saves memory")
    if ppo.kl_stop == "step" or (ppo.max_kl and name != "trpo"):
        field = "kl_stop" if ppo.kl_stop == "step" else "max_kl"
        right = "epoch" if field == "kl_stop" else "0"
        raise UserError(f"ppo.{field}: must be {right} for {name}, which takes one step on each batch")


def _check_reinforce(config: Config) -> None:
    ppo = config.ppo
    if ppo.stagger_resets:
        raise UserError("ppo.stagger_resets: must be false for reinforce, whose episodes are whole")
    if config.init.critic_warmup and config.reinforce.baseline != "value":
        raise UserError(
            f"init.critic_warmup: must be 0 for reinforce with reinforce.baseline {config.reinforce.baseline}, which "
            f"has no critic"
        )
    if config.reinforce.baseline == "none" and ppo.advantage_normalization != "none":
        raise UserError(
            f"ppo.advantage_normalization: must be none without a baseline, because {ppo.advantage_normalization} "
            f"subtracts the mean, which is one; set reinforce.baseline constant for that"
        )


def _check_trpo(config: Config) -> None:
    ppo, init = config.ppo, config.init
    if not ppo.max_kl:
        raise UserError("ppo.max_kl: must be above 0 for trpo, whose steps it bounds; 0.01 is usual")
    if ppo.entropy_coef:
        raise UserError(f"ppo.entropy_coef: must be 0 for trpo, not {ppo.entropy_coef}")
    if ppo.learning_rate_schedule != "constant":
        raise UserError(
            f"ppo.learning_rate_schedule: must be constant for trpo, whose steps ppo.max_kl bounds, not "
            f"{ppo.learning_rate_schedule}"
        )
    if ppo.advantage_normalization == "minibatch":
        raise UserError("ppo.advantage_normalization: must be batch or none for trpo, which has no minibatches")
    if ppo.num_microbatches != 1:
        raise UserError(f"ppo.num_microbatches: must be 1 for trpo, not {ppo.num_microbatches}")
    for field in ("anchor_coef", "step_size_warmup"):
        if value := getattr(init, field):
            raise UserError(f"init.{field}: must be 0 for trpo, not {value}")


def _check_es(config: Config) -> None:
    ppo, policy, init, default = config.ppo, config.policy, config.init, PpoConfig()
    for field in _NOT_USED_BY_ES:
        if getattr(ppo, field) != getattr(default, field):
            raise UserError(f"ppo.{field}: is not used by es, which has no critic and no loss; leave it out")
    if ppo.stagger_resets:
        raise UserError("ppo.stagger_resets: must be false for es, whose episodes begin with each update")
    if ppo.learning_rate_schedule not in ("constant", "linear"):
        raise UserError(
            f"ppo.learning_rate_schedule: must be constant or linear for es, which measures no KL divergence, not "
            f"{ppo.learning_rate_schedule}"
        )
    if ppo.block_size % (2 * config.es.worlds_per_candidate):
        raise UserError(
            f"ppo.block_size: must be a multiple of 2 * es.worlds_per_candidate = "
            f"{2 * config.es.worlds_per_candidate} for es, whose candidates come in pairs, not {ppo.block_size}"
        )
    if policy.critic_hidden_sizes:
        raise UserError("policy.critic_hidden_sizes: is not used by es, which has no critic; leave it out")
    if policy.privileged == "critic":
        raise UserError("policy.privileged: must be none or both for es, which has no critic")
    if policy.final_min_log_std is not None:
        raise UserError("policy.final_min_log_std: is not used by es, whose policy acts without noise; leave it out")
    if "critic" in init.carry:
        raise UserError("init.carry: must be without critic for es, which has none; policy normalizer would do")
    for field in ("critic_warmup", "anchor_coef"):
        if value := getattr(init, field):
            raise UserError(f"init.{field}: must be 0 for es, not {value}")


def _check_shac(config: Config) -> None:
    ppo, init = config.ppo, config.init
    if ppo.entropy_coef:
        raise UserError(f"ppo.entropy_coef: must be 0 for shac, not {ppo.entropy_coef}; policy.min_log_std keeps noise")
    if ppo.advantage_normalization != "none":
        raise UserError(
            f"ppo.advantage_normalization: must be none for shac, whose policy learns from no advantages, not "
            f"{ppo.advantage_normalization}"
        )
    if ppo.value_clip_eps:
        raise UserError(f"ppo.value_clip_eps: must be 0 for shac, not {ppo.value_clip_eps}; shac.target_decay slows")
    if ppo.num_microbatches != 1:
        raise UserError(f"ppo.num_microbatches: must be 1 for shac, not {ppo.num_microbatches}")
    if init.anchor_coef:
        raise UserError(f"init.anchor_coef: must be 0 for shac, not {init.anchor_coef}")
