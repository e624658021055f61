"""The commands, a file each: their options as a dataclass, and a few lines around a function.

What a command needs is imported inside its ``main``: help, completion and wrong options then do not wait for JAX,
MuJoCo and Orbax.
"""
