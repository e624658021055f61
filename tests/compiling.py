"""How the tests compile programs whose compiled form is not what they test."""

QUICKLY = {"xla_backend_optimization_level": 0}
"""``jax.jit(..., compiler_options=QUICKLY)``: half the time to compile the physics. For comparisons of formulas in
float64; roundings, speed and the bits of the program that users run are tested on that program.
"""
