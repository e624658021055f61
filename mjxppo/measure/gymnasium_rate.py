"""Steps a second of a vector environment; imports no JAX, because Gymnasium's asynchronous mode forks the process."""

from __future__ import annotations

import time
from multiprocessing.connection import Connection
from typing import Any


def rate(envs: Any, actions: Any, seconds: float) -> float:
    """Environment steps a second of ``envs``, stepped for so many seconds with ``actions`` in turn."""
    steps, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        envs.step(actions[steps % len(actions)])
        steps += 1
    return steps * envs.num_envs / elapsed


def serve(connection: Connection, gym_id: str, num_envs: int, mode: str, actions: Any) -> None:
    """Makes Gymnasium's own vector environment and answers each number of seconds with its rate, until None."""
    import gymnasium

    from mjxppo.physics.messages import without_model_warnings

    with without_model_warnings():
        envs = gymnasium.make_vec(gym_id, num_envs=num_envs, vectorization_mode=mode)
    envs.reset(seed=0)
    envs.step(actions[0])
    connection.send("ready")
    while (seconds := connection.recv()) is not None:
        connection.send(rate(envs, actions, seconds))
    envs.close()
