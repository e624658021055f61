"""How the tests compile programs whose compiled form is not what they test, or that are for a GPU."""

import jax
from jax.sharding import AbstractDevice, AbstractMesh

QUICKLY = {"xla_backend_optimization_level": 0}
"""``jax.jit(..., compiler_options=QUICKLY)``: half the time to compile the physics. For comparisons of formulas in
float64; roundings, speed and the bits of the program that users run are tested on that program.
"""


def lowered_for_cuda(function, *arguments) -> str:
    """The program as it would go to the compiler of a GPU that is not here."""
    device = AbstractDevice(device_kind="NVIDIA H200", num_cores=None, platform="gpu")
    with jax.sharding.use_abstract_mesh(AbstractMesh((1,), ("devices",), abstract_device=device)):
        return jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
