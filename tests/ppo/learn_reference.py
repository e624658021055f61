"""One PPO update in float64 NumPy, written out from the papers: what ``mjxppo.ppo.update.learn`` has to compute.

Networks have one tanh layer each and a state-independent std. Nothing is imported from the package but the draw of the
minibatches, which the caller makes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]

LOG_TWO_PI = np.log(2 * np.pi)
EPSILON = 1e-8
RATE_RANGE, PENALTY_RANGE = (1e-5, 1e-2), (1e-4, 1e4)


@dataclass
class State:
    """What an update changes."""

    params: Arrays
    """``log_std`` and, of ``actor_`` and ``critic_``: W1, b1, W2, b2."""
    first: Arrays
    """Adam's first moments."""
    second: Arrays
    count: int
    return_mean: float
    return_var: float
    return_count: float
    learning_rate: float
    kl_penalty: float
    metrics: dict[str, float] = field(default_factory=dict)


def forward(params: Arrays, name: str, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hidden units and outputs."""
    hidden = np.tanh(obs @ params[f"{name}_W1"] + params[f"{name}_b1"])
    return hidden, hidden @ params[f"{name}_W2"] + params[f"{name}_b2"]


def backward(params: Arrays, name: str, obs: np.ndarray, hidden: np.ndarray, d_output: np.ndarray) -> Arrays:
    """The gradient by one network's parameters, given that by its outputs."""
    d_z = (d_output @ params[f"{name}_W2"].T) * (1 - hidden**2)
    return {
        f"{name}_W2": hidden.T @ d_output,
        f"{name}_b2": d_output.sum(0),
        f"{name}_W1": obs.T @ d_z,
        f"{name}_b1": d_z.sum(0),
    }


def log_density(u: np.ndarray, mean: np.ndarray, log_std: np.ndarray) -> np.ndarray:
    return (-0.5 * ((u - mean) / np.exp(log_std)) ** 2 - log_std - 0.5 * LOG_TWO_PI).sum(-1)


def squash(u: np.ndarray) -> np.ndarray:
    """``log(1 - tanh(u)^2)``"""
    return 2 * (np.log(2) - u - np.logaddexp(0, -2 * u))


def advantages(batch: Any, value: np.ndarray, final_value: np.ndarray, gamma: float, lam: float) -> np.ndarray:
    """GAE of one block, arrays [T, B], ``value`` [T + 1, B]; a loop over steps and worlds."""
    steps, worlds = batch["reward"].shape
    result = np.zeros((steps, worlds))
    for n in range(worlds):
        following = 0.0
        for t in reversed(range(steps)):
            ends = batch["terminated"][t, n] or batch["truncated"][t, n]
            if not batch["valid"][t, n]:
                following = 0.0
                continue
            after = value[t + 1, n]
            after = final_value[t, n] if batch["truncated"][t, n] else after
            after = 0.0 if batch["terminated"][t, n] else after
            delta = batch["reward"][t, n] + gamma * after - value[t, n]
            following = delta + (0.0 if ends else gamma * lam * following)
            result[t, n] = following
    return result


def learn(
    config: Any, floor: float, ceiling: float, state: State, batch: Any, last_obs: np.ndarray, draws: Any, used: float
) -> State:
    """The state after one update.

    ``batch`` has arrays [blocks, T, B, ...], ``draws`` for each epoch and minibatch the indices of its samples in the
    flattened batch, ``used`` is the share of the budget used before the update, ``floor`` and ``ceiling`` bound
    log_std.
    """
    params = {name: x.copy() for name, x in state.params.items()}
    old_std = np.sqrt(state.return_var + EPSILON)
    value = forward(params, "critic", np.concatenate([batch["obs"], last_obs[:, None]], 1))[1][..., 0]
    value = value * old_std + state.return_mean
    final_value = batch["final_value"] * old_std + state.return_mean
    blocks = range(len(value))
    blocks_of = [{name: x[i] for name, x in batch.items()} for i in blocks]
    advantage = np.stack(
        [advantages(blocks_of[i], value[i], final_value[i], config.gamma, config.gae_lambda) for i in blocks]
    )
    value, valid = value[:, :-1], batch["valid"].astype(float)
    target = advantage + value
    known = config.normalize_returns and state.return_count > 1.5e-6 and state.return_var > EPSILON
    bounded = np.clip(target, state.return_mean - 100 * old_std, state.return_mean + 100 * old_std)
    outliers = (bounded != target) & (valid > 0) & known
    if known:
        target, advantage = bounded, np.clip(advantage, -100 * old_std, 100 * old_std)

    def moments(x: np.ndarray) -> tuple[float, float]:
        mean = (x * valid).sum() / valid.sum()
        return mean, ((x - mean) ** 2 * valid).sum() / valid.sum()

    target_mean, target_var = moments(target)
    value_mean, advantage_mean = moments(value)[0], moments(advantage)[0]
    flips = moments((advantage > 0) != (advantage > advantage_mean))[0]
    explained = 1 - moments(target - value)[1] / target_var
    if config.advantage_normalization == "batch":
        mean, var = moments(advantage)
        advantage = (advantage - mean) / np.sqrt(var + EPSILON)
    return_mean, return_var, return_count = state.return_mean, state.return_var, state.return_count
    if config.normalize_returns:
        weight = max(0.01, 1 / (np.floor(return_count) + 1))
        delta = target_mean - return_mean
        return_var = (1 - weight) * (return_var + weight * delta**2) + weight * target_var
        return_mean = return_mean + weight * delta
        return_count += 1 if return_count > 4.5e-6 else 1e-6
        std = np.sqrt(return_var + EPSILON)
        params["critic_W2"] = params["critic_W2"] * old_std / std
        params["critic_b2"] = (params["critic_b2"] * old_std + state.return_mean - return_mean) / std
    std = np.sqrt(return_var + EPSILON)
    flat = {
        "obs": batch["obs"].reshape(-1, batch["obs"].shape[-1]),
        "u": batch["u"].reshape(-1, batch["u"].shape[-1]),
        "log_prob": batch["log_prob"].ravel(),
        "advantage": advantage.ravel(),
        "target": ((target - return_mean) / std).ravel(),
        "value": ((value - return_mean) / std).ravel(),
        "valid": valid.ravel(),
    }
    rate = config.learning_rate * max(1 - used, 0) if config.learning_rate_schedule == "linear" else state.learning_rate
    first, second = ({name: x.copy() for name, x in each.items()} for each in (state.first, state.second))
    count, rows, stopped = state.count, [], False
    for epoch in draws:
        kls = []
        for index in epoch if not stopped else ():
            one = {name: x[index] for name, x in flat.items()}
            if one["valid"].sum() == 0:
                continue
            gradient, terms = gradient_of(config, params, one, state.kl_penalty)
            if config.max_kl > 0 and config.kl_stop == "step" and (stopped or terms["approx_kl"] > config.max_kl):
                stopped = True
                continue
            norm = np.sqrt(sum((g**2).sum() for g in gradient.values()))
            rows.append(terms | {"grad_norm": norm})
            kls.append(terms["approx_kl"])
            count += 1
            for name, g in gradient.items():
                g = g * min(1, config.max_grad_norm / norm)
                first[name] = config.adam_b1 * first[name] + (1 - config.adam_b1) * g
                second[name] = config.adam_b2 * second[name] + (1 - config.adam_b2) * g**2
                direction = first[name] / (1 - config.adam_b1**count)
                direction = direction / (np.sqrt(second[name] / (1 - config.adam_b2**count)) + config.adam_eps)
                params[name] = params[name] - rate * direction
            params["log_std"] = np.clip(params["log_std"], floor, ceiling)
        stopped = stopped or (config.max_kl > 0 and bool(kls) and np.mean(kls) > config.max_kl)

    mean = forward(params, "actor", flat["obs"])[1]
    log_ratio = np.where(flat["valid"] > 0, log_density(flat["u"], mean, params["log_std"]) - flat["log_prob"], 0)
    kl = ((np.exp(log_ratio) - 1 - log_ratio) * flat["valid"]).sum() / flat["valid"].sum()
    metrics = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} | {
        "approx_kl": kl,
        "grad_norm_variance": np.var([row["grad_norm"] for row in rows]),
        "entropy": moments(squash(batch["u"]).sum(-1) - batch["log_prob"])[0],
        "explained_variance": explained,
        "value_target_mean": target_mean,
        "value_mean": value_mean,
        "advantage_sign_flips": flips,
        "target_outliers": outliers.sum(),
        "learning_rate": rate,
        "gradient_steps": len(rows),
        "skipped_gradient_steps": 0,
    }
    penalty = state.kl_penalty
    if config.learning_rate_schedule.startswith("adaptive_kl"):
        wanted = config.target_kl * (1 - used if config.learning_rate_schedule == "adaptive_kl_linear" else 1)
        rate = np.clip(rate * (1 / 1.5 if kl > 2 * wanted else 1.5 if kl < wanted / 2 else 1), *RATE_RANGE)
    if config.loss == "kl_penalty":
        factor = 2 if kl > 1.5 * config.target_kl else 0.5 if kl < config.target_kl / 1.5 else 1
        penalty = np.clip(penalty * factor, *PENALTY_RANGE)
    return State(params, first, second, count, return_mean, return_var, return_count, rate, penalty, metrics)


def gradient_of(config: Any, params: Arrays, one: Arrays, kl_penalty: float) -> tuple[Arrays, dict[str, float]]:
    """The gradient of the loss of one minibatch, by hand, and the loss's terms."""
    weight = one["valid"] / one["valid"].sum()
    advantage = one["advantage"]
    if config.advantage_normalization == "minibatch":
        mean = (weight * advantage).sum()
        advantage = (advantage - mean) / np.sqrt((weight * (advantage - mean) ** 2).sum() + EPSILON)
    hidden, mean = forward(params, "actor", one["obs"])
    log_std = params["log_std"]
    std = np.exp(log_std)
    noise = (one["u"] - mean) / std
    ratio = np.exp(np.where(weight > 0, log_density(one["u"], mean, log_std) - one["log_prob"], 0))
    kl = (weight * (ratio - 1 - np.log(ratio))).sum()
    gain, slope = ratio * advantage, ratio * advantage  # of the surrogate, and its derivative by the log ratio
    if config.loss == "clip":
        low, high = 1 - config.clip_eps, 1 + config.clip_eps
        clipped = np.clip(ratio, low, high) * advantage
        slope = np.where((clipped < gain) & ((ratio < low) | (ratio > high)), 0, slope)
        gain = np.minimum(gain, clipped)
    policy_loss, d_log = -(weight * gain).sum(), -slope
    if config.loss == "kl_penalty":
        policy_loss, d_log = policy_loss + kl_penalty * kl, d_log + kl_penalty * (ratio - 1)
    d_log = (weight * d_log)[:, None]
    # Of the entropy's estimate: log_std, and the squashing term of mean + std * noise.
    d_squash = -2 * np.tanh(one["u"]) * weight[:, None] * config.entropy_coef
    d_mean = d_log * noise / std - d_squash
    d_log_std = (d_log * (noise**2 - 1)).sum(0) - config.entropy_coef - (d_squash * std * noise).sum(0)
    critic_hidden, value = forward(params, "critic", one["obs"])
    value = value[:, 0]
    error, d_value = (value - one["target"]) ** 2, 2 * (value - one["target"])
    if config.value_clip_eps > 0:
        change = np.clip(value - one["value"], -config.value_clip_eps, config.value_clip_eps)
        limited = one["value"] + change
        worse = (limited - one["target"]) ** 2 > error
        inside = np.abs(value - one["value"]) < config.value_clip_eps
        d_value = np.where(worse, np.where(inside, 2 * (limited - one["target"]), 0), d_value)
        error = np.maximum(error, (limited - one["target"]) ** 2)
    d_value = config.value_coef * 0.5 * weight * d_value
    gradient = backward(params, "actor", one["obs"], hidden, d_mean) | {"log_std": d_log_std}
    gradient |= backward(params, "critic", one["obs"], critic_hidden, d_value[:, None])
    return gradient, {
        "policy_loss": policy_loss,
        "value_loss": 0.5 * (weight * error).sum(),
        "approx_kl": kl,
        "clip_fraction": (weight * (np.abs(ratio - 1) > config.clip_eps)).sum(),
        "std": std.mean(),
    }
