"""A module for each command: a dataclass of its options, and ``main``, which calls a function of another package.

``main`` imports the modules that it needs itself, so that help, completion and wrong options do not import JAX, MuJoCo
and Orbax.
"""
