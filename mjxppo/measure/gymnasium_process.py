"""Environment steps per second of Gymnasium's own vector environment, measured in a process without JAX's threads.

Gymnasium's asynchronous mode forks the process, which may hang where threads run.
"""

from __future__ import annotations

import time
from multiprocessing.connection import Connection
from typing import Any

import gymnasium

from mjxppo.physics.messages import without_model_warnings


def measure_rate(envs: Any, actions: Any, seconds: float) -> float:
    """Environment steps per second of ``envs``, stepped for ``seconds`` with each of ``actions`` in turn."""
    steps, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        envs.step(actions[steps % len(actions)])
        steps += 1
    return steps * envs.num_envs / elapsed


def serve(connection: Connection, gym_id: str, num_envs: int, mode: str, actions: Any) -> None:
    """Makes Gymnasium's own vector environment, then receives seconds and sends the rate, until it receives None."""
    with without_model_warnings():
        envs = gymnasium.make_vec(gym_id, num_envs=num_envs, vectorization_mode=mode)
    envs.reset(seed=0)
    envs.step(actions[0])
    connection.send("ready")
    while (seconds := connection.recv()) is not None:
        connection.send(measure_rate(envs, actions, seconds))
    envs.close()
