"""How training scales over devices, and what its collectives cost.

Weak scaling gives every device the same number of worlds, strong scaling shares a fixed number. The share of the
collectives is measured by taking them away: the same program, with every reduction over devices left out, does the
same work and learns nonsense. What it gains is the time of the reductions and of the devices' waiting for each other
in them. Rounds with and without take turns, so that a machine that is busy at times slows both alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from mjxppo.config.check import check_config
from mjxppo.config.schema import Config, minibatches_per_epoch
from mjxppo.config.sweep import members_of
from mjxppo.errors import UserError
from mjxppo.measure.rounds import UPDATES, Rounds, endless
from mjxppo.ppo.collective import Devices
from mjxppo.ppo.program import TrainingProgram
from mjxppo.run import loop
from mjxppo.run.machine import describe

T = TypeVar("T")

MODES = ("weak", "strong")


class _Apart(Devices):
    """Devices that do not wait for each other: every reduction gives back what it was given."""

    def sum(self, tree: T) -> T:
        return tree

    def mean(self, tree: T) -> T:
        return tree


class _Measured(NamedTuple):
    """Median seconds of an update."""

    update_s: float
    apart_s: float
    """Without reductions."""


def run(
    configs: Sequence[Config], modes: Sequence[str] = MODES, num_devices: Sequence[int] = (), repeats: int = 5
) -> dict[str, Any]:
    """Measures training on growing numbers of devices.

    Args:
        configs: checked configurations; of one with several policies the first is measured.
        modes: weak (``ppo.num_envs`` worlds on each device) and strong (so many on all together).
        num_devices: how many to measure; none: 1, 2, 4, ... up to those there are.
        repeats: rounds of some updates each; the median counts.

    Returns:
        ``{"hardware", "versions", "results"}``; of each measurement the throughput, its ratio to so many times the
        first one's of one device (``efficiency``), the milliseconds of an update, the share of them that the
        collectives take, and how many bytes of gradients an update reduces, in how many steps.

    Raises:
        UserError: a mode or a number of devices makes no sense here.
    """
    counts = _counts(num_devices)
    unknown = sorted(set(modes) - set(MODES))
    if unknown:
        raise UserError(f"modes: there is no {unknown[0]!r}; choose from {', '.join(MODES)}")
    singles = [members_of(config)[0].config for config in configs]
    rows = [row for config in singles for mode in modes for row in _scale(config, mode, counts, repeats)]
    return {**describe(), "results": rows}


def _counts(asked: Sequence[int]) -> list[int]:
    available, processes = jax.device_count(), jax.process_count()
    powers = [processes * 2**i for i in range(available.bit_length()) if processes * 2**i <= available]
    wrong = [count for count in asked if not 0 < count <= available or count % processes]
    if wrong:
        raise UserError(
            f"num_devices: {wrong[0]} cannot be measured with {available} devices of {processes} processes; on a CPU "
            "XLA_FLAGS=--xla_force_host_platform_device_count=8 makes 8"
        )
    return sorted(set(asked)) or powers


def _scale(config: Config, mode: str, counts: Sequence[int], repeats: int) -> Iterator[dict[str, Any]]:
    first_rate = None
    for count in counts:
        num_envs = config.ppo.num_envs * (count if mode == "weak" else 1)
        changed = dataclasses.replace(
            endless(config), num_devices=count, ppo=dataclasses.replace(config.ppo, num_envs=num_envs)
        )
        trainer = loop.build(check_config(changed))
        measured = _measure(trainer, repeats)
        rate = trainer.env_steps_per_update / measured.update_s
        first_rate = first_rate or rate / count
        yield {
            "env": config.env,
            "mode": mode,
            "num_devices": count,
            "num_envs": num_envs,
            "env_steps_per_s": rate,
            "efficiency": rate / (count * first_rate),
            "update_ms": 1e3 * measured.update_s,
            "collective_share": max(0.0, 1 - measured.apart_s / measured.update_s),
            **_gradients(trainer),
        }


def _gradients(trainer: TrainingProgram) -> dict[str, int]:
    """The reductions that grow with the network: one of all parameters for each gradient step."""
    ppo, params = trainer.config.ppo, trainer.shapes().learner.params
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    return {"gradient_bytes": size, "gradient_steps": ppo.num_epochs * minibatches_per_epoch(ppo)}


def _measure(trainer: TrainingProgram, repeats: int) -> _Measured:
    together, apart = Rounds(trainer), Rounds(without_reductions(trainer))
    pairs = [(together.seconds(), apart.seconds()) for _ in range(repeats + 1)][1:]  # the first round is a warm-up
    update_s, apart_s = np.median(pairs, axis=0) / UPDATES
    return _Measured(float(update_s), float(apart_s))


def without_reductions(trainer: TrainingProgram) -> TrainingProgram:
    """The same work on devices that do not wait for each other."""
    apart = TrainingProgram(trainer.env, trainer.config)
    apart.devices = _Apart(trainer.layout.num_devices)
    return apart
