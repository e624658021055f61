"""Training throughput on growing numbers of devices, and the time that the collectives take.

Weak scaling gives every device the same number of worlds, strong scaling shares a fixed number. The time of the
collectives is the difference to the same program without any reduction over devices, which does the same work and
learns nothing useful. It includes the devices' waiting for each other in the reductions. Rounds with and without
reductions take turns, so that a change of the machine's load affects both.
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
from mjxppo.measure.arguments import check_known
from mjxppo.measure.training_rounds import UPDATES, TrainingRounds, with_rounds
from mjxppo.ppo.collective import Devices
from mjxppo.ppo.program import TrainingProgram
from mjxppo.run import start
from mjxppo.run.machine import describe

T = TypeVar("T")

MODES = ("weak", "strong")


class _Apart(Devices):
    """Reductions that return their argument, so that devices do not wait for each other."""

    def sum(self, tree: T) -> T:
        return tree

    def mean(self, tree: T) -> T:
        return tree


class _Measured(NamedTuple):
    """Median seconds of an update, with and without reductions."""

    update_s: float
    apart_s: float
    """The time without reductions."""


def measure_scaling(
    configs: Sequence[Config], modes: Sequence[str] = MODES, num_devices: Sequence[int] = (), repeats: int = 5
) -> dict[str, Any]:
    """Measures training on growing numbers of devices.

    Args:
        configs: checked configurations; of one with several policies the first policy is measured.
        modes: weak (``ppo.num_envs`` worlds on each device) and strong (``ppo.num_envs`` worlds on all devices).
        num_devices: numbers of devices to measure; empty: 1, 2, 4, ... up to all devices.
        repeats: number of rounds of ``UPDATES`` updates; results are medians.

    Returns:
        ``{"hardware", "versions", "results"}``; for each measurement the throughput; ``efficiency``, the throughput
        per device relative to that of the first measurement; the milliseconds of an update and the share of them that
        the collectives take; and the bytes of the gradients and the number of gradient steps in an update.

    Raises:
        UserError: a mode or a number of devices makes no sense here.
    """
    counts = _counts(num_devices)
    check_known("modes", modes, MODES)
    singles = [members_of(config)[0].config for config in configs]
    rows = [row for config in singles for mode in modes for row in _scale(config, mode, counts, repeats)]
    return {**describe(), "results": rows}


def _counts(asked: Sequence[int]) -> list[int]:
    """The numbers of devices to measure: ``asked``, or powers of two times the number of processes."""
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
            with_rounds(config), num_devices=count, ppo=dataclasses.replace(config.ppo, num_envs=num_envs)
        )
        program = start.build(check_config(changed))
        measured = _measure(program, repeats)
        rate = program.env_steps_per_update / measured.update_s
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
            **_gradients(program),
        }


def _gradients(program: TrainingProgram) -> dict[str, int]:
    """Bytes of the gradients of all parameters, which each gradient step reduces, and steps in an update."""
    ppo, params = program.config.ppo, program.shapes().learner.params
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    return {"gradient_bytes": size, "gradient_steps": ppo.num_epochs * minibatches_per_epoch(ppo)}


def _measure(program: TrainingProgram, repeats: int) -> _Measured:
    reduced, apart = TrainingRounds(program), TrainingRounds(without_reductions(program))
    pairs = [(reduced.train_round(), apart.train_round()) for _ in range(repeats + 1)][1:]  # the first is a warm-up
    update_s, apart_s = np.median(pairs, axis=0) / UPDATES
    return _Measured(float(update_s), float(apart_s))


def without_reductions(program: TrainingProgram) -> TrainingProgram:
    """A program that does the same work without reductions over devices."""
    apart = type(program)(program.env, program.config)
    apart.devices = _Apart(program.layout.num_devices)
    return apart
