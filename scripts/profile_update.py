"""Profile of a few updates of training: ``python scripts/profile_update.py half_cheetah_gpu DIRECTORY``.

Writes a trace for TensorBoard's profiler or Perfetto; compiling is not part of it.
"""

from __future__ import annotations

import sys

import mjxppo  # first: it sets XLA's flags  # noqa: F401

import jax  # isort: skip

from mjxppo.config.layers import changes_of, resolve
from mjxppo.run import start


def main(config: str, directory: str) -> None:
    """Compiles the configuration's training program and traces its second call."""
    values = changes_of([config], {})
    program = start.build(resolve(values["env"], values))
    compiled, total = program.lower().compile(), program.budget(10**9)
    state, metrics = compiled(program.init(), total)
    jax.block_until_ready(metrics)
    with jax.profiler.trace(directory):
        state, metrics = compiled(state, total)
        jax.block_until_ready((state, metrics))


if __name__ == "__main__":
    main(*sys.argv[1:3])
