"""Estimate of a run's memory, from shapes, before anything is compiled or written.

The estimate counts what grows with the configuration: the worlds, the batch and the copies that learning makes of it
(evolution strategies have perturbations instead), a minibatch's activations, and the copy of the state that a
checkpoint takes. The factors were fitted to what XLA allocates on a CPU; see docs/reliability.md for how well they fit.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import jax

from mjxppo.config.schema import Config, minibatches_per_epoch
from mjxppo.config.sweep import members_of
from mjxppo.errors import UserError
from mjxppo.ppo.networks import actor_of
from mjxppo.ppo.program import TrainingProgram

_FLOAT = 4
_STATE_COPIES = 3.0
"""The state itself, the next one while it is made, and one regrouped into blocks."""
_BATCH_COPIES = 2.0
"""The rollout's batch, and a copy as units that minibatches are drawn from."""
_ACTIVATION_COPIES = 3.0
"""Copies of the activations in a gradient step: forward, derivative, backward."""
_PROGRAM = 900e6
"""A process that has imported everything, compiled the program and keeps it, on a CPU."""
_NOISE_COPIES = 2.0
"""The perturbations, and the random numbers that they are cut from."""
_CHECKPOINT_COPIES = 3.0
"""Host copies of the state while a checkpoint is written: ours, Orbax's, and the compressed one."""


class Estimate(NamedTuple):
    """Bytes by what they are for."""

    state: float
    """All worlds and the learner, with the copies that the device program makes."""
    batch: float
    """One update's experience, with copies."""
    minibatch: float
    """One gradient step."""
    host: float
    """What the process needs besides: the program, and the copy of the state that is being saved."""

    @property
    def device(self) -> float:
        """Bytes on all devices together."""
        return self.state + self.batch + self.minibatch


def estimate(program: TrainingProgram) -> Estimate:
    """Bytes that training needs at its peak."""
    config, env = program.config, program.env
    ppo, policy = config.ppo, config.policy
    # Members that are trained one after the other share the room for what they learn from.
    at_a_time = 1 if program.layout.members_in_turn else max(1, len(program.members))
    state = _bytes_of_state(program)
    samples = ppo.num_envs * ppo.rollout_length
    # Observation and action, and of each sample the log-probability, reward, last value, advantage, target, weight, and
    # the age and the return of its episode.
    outputs = 2 * env.actions.continuous + env.actions.logits
    compared = outputs if config.init.anchor_coef > 0 or config.distill.teacher else 0
    sample = _FLOAT * (env.obs_size + env.action_size + 11 + compared)
    units = sum(policy.hidden_sizes) + sum(policy.critic_hidden_sizes or policy.hidden_sizes)
    # The worlds before each step of a horizon that is differentiated, of those that are simulated at a time.
    simulated = program.layout.worlds_at_a_time * program.layout.num_devices / ppo.num_envs
    horizon = ppo.rollout_length * simulated * state if config.algorithm == "shac" else 0.0
    per_step = sample + _FLOAT * _ACTIVATION_COPIES * units
    host = _PROGRAM + _CHECKPOINT_COPIES * state
    if config.algorithm == "es":  # its steps are not kept; the noise of the candidates that act together is
        noise = _NOISE_COPIES * _noise_of_population(program) * at_a_time
        return Estimate(state=_STATE_COPIES * state, batch=noise, minibatch=0.0, host=host)
    return Estimate(
        state=_STATE_COPIES * state,
        batch=(_BATCH_COPIES * samples * sample + horizon) * at_a_time,
        minibatch=samples / (minibatches_per_epoch(ppo) * ppo.num_microbatches) * per_step * at_a_time,
        host=host,
    )


def _noise_of_population(program: TrainingProgram) -> float:
    """Bytes of the perturbations, full ones, of the pairs that all devices simulate at a time."""
    learner = program.shapes().learner
    lead = 1 if program.members else 0
    numbers = sum(math.prod(leaf.shape[lead:]) for leaf in jax.tree.leaves(actor_of(learner.params)))
    pairs = program.layout.worlds_at_a_time * program.layout.num_devices / (2 * program.config.es.worlds_per_candidate)
    return _FLOAT * pairs * numbers


def _bytes_of_state(program: TrainingProgram) -> float:
    """Bytes of the whole training state, by its shapes alone."""

    def size(leaf: jax.ShapeDtypeStruct) -> int:
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return math.prod(leaf.shape) * (8 if is_key else leaf.dtype.itemsize)

    return float(sum(size(leaf) for leaf in jax.tree.leaves(program.shapes())))


def check_fits(program: TrainingProgram) -> None:
    """Raises UserError, with the numbers and a remedy, where a run needs more than the free memory, if known."""
    needed = estimate(program)
    on_host, on_devices = needed.host, needed.device / jax.process_count()
    if program.platform == "cpu":
        on_host += on_devices
    else:
        available = _free_on_devices(program)
        if available is not None and on_devices > available:
            raise _does_not_fit(program.config, needed, on_devices, available, "device")
    available = available_on_host()
    if available is not None and on_host > available:
        raise _does_not_fit(program.config, needed, on_host, available, "host")


def _does_not_fit(config: Config, needed: Estimate, total: float, available: float, where: str) -> UserError:
    ppo, count = config.ppo, len(members_of(config))
    policies = f" for each of {count} policies (num_seeds, grid)" if count > 1 else ""
    return UserError(
        f"ppo.num_envs: {ppo.num_envs} worlds times ppo.rollout_length = {ppo.rollout_length}{policies} need about "
        f"{_gib(total)} of {where} memory (worlds {_gib(needed.state)}, batch {_gib(needed.batch)}, minibatch "
        f"{_gib(needed.minibatch)}), and there are {_gib(available)}; lower one of them, or raise "
        f"ppo.num_microbatches if it is the minibatch"
    )


def _gib(count: float) -> str:
    return f"{count / 2**30:.2g} GiB" if count < 100 * 2**30 else f"{count / 2**30:.0f} GiB"


def _free_on_devices(program: TrainingProgram) -> float | None:
    """Bytes that may be allocated on the run's devices of this host together; None where that is unknown."""
    free = 0.0
    for device in program.mesh.local_devices:
        stats = device.memory_stats()
        if not stats or "bytes_limit" not in stats:
            return None
        free += stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return free


def available_on_host(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Bytes that this process may still take: what the machine has free, or its control group allows, if less."""
    limits = [limit for limit in (_machine(proc), _control_group(proc, cgroup)) if limit is not None]
    return min(limits) if limits else None


def _machine(proc: Path) -> float | None:
    try:
        for line in (proc / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _control_group(proc: Path, cgroup: Path) -> float | None:
    """What is left of the control group's limit (version 2), without the caches that the system can drop."""
    try:
        own = next(line for line in (proc / "self/cgroup").read_text().splitlines() if line.startswith("0::"))
        directory = cgroup / own.removeprefix("0::").lstrip("/")
        directory = directory if (directory / "memory.max").is_file() else cgroup
        limit, used = float((directory / "memory.max").read_text()), float((directory / "memory.current").read_text())
        stat = dict(line.split() for line in (directory / "memory.stat").read_text().splitlines())
        return limit - used + float(stat.get("inactive_file", 0))
    except (OSError, ValueError, StopIteration):
        return None
