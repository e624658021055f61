"""Arithmetic for programs that are unrolled while JAX traces them: one array [N] for each number of N worlds.

A ``Scalar`` may also be a Python float, a constant of the program. Most of a robot's constants are 0 or 1: joint axes
along x, anchors at the frame's origin, no friction. XLA may not drop ``0 * x`` (x could be NaN), so ``add``, ``sub``
and ``mul`` drop it where a term or factor is a Python float. On two arrays they are ``+``, ``-`` and ``*``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np

Scalar = float | jax.Array
"""One number of N worlds: a constant, or an array [N]."""
Fence = Callable[[jax.Array], jax.Array]
"""An identity that XLA:CPU computes once, see ``make_fence``."""

Tree = TypeVar("Tree")


def is_zero(a: Scalar) -> bool:
    """Whether ``a`` is the constant 0."""
    return isinstance(a, float) and a == 0.0


def add(a: Scalar, b: Scalar) -> Scalar:
    """Sum of two scalars."""
    if is_zero(a):
        return b
    return a if is_zero(b) else a + b


def sub(a: Scalar, b: Scalar) -> Scalar:
    """Difference of two scalars."""
    if is_zero(b):
        return a
    return -b if is_zero(a) else a - b


def mul(a: Scalar, b: Scalar) -> Scalar:
    """Product of two scalars."""
    if isinstance(b, float):
        a, b = b, a
    if isinstance(a, float) and a in (0.0, 1.0, -1.0):
        return 0.0 if a == 0.0 else (b if a == 1.0 else -b)
    return a * b


@overload
def total(first: jax.Array, /, *others: jax.Array) -> jax.Array: ...


@overload
def total(*terms: Scalar) -> Scalar: ...


def total(*terms: Scalar) -> Scalar:
    """The sum of all terms, from the left: one expression, which XLA fuses into one loop."""
    result: Scalar = 0.0
    for term in terms:
        result = add(result, term)
    return result


def dot(a: tuple[Scalar, ...], b: tuple[Scalar, ...]) -> Scalar:
    """The scalar product of two tuples of components."""
    return total(*(mul(x, y) for x, y in zip(a, b, strict=True)))


def maximum(a: Scalar, b: Scalar) -> Scalar:
    """The larger of two scalars."""
    return max(a, b) if isinstance(a, float) and isinstance(b, float) else jnp.maximum(a, b)


def as_array(a: Scalar, like: jax.Array) -> jax.Array:
    """``a`` as an array: a constant in the shape and dtype of ``like``, an array as it is."""
    return jnp.full_like(like, a) if isinstance(a, float) else a


def separate_arrays(tree: Tree) -> tuple[list[jax.Array], Callable[[list[jax.Array]], Tree]]:
    """The arrays of a pytree of scalars, and the function that puts them back: constants must stay Python floats."""
    leaves, structure = jax.tree.flatten(tree)
    varying = [isinstance(leaf, jax.Array) for leaf in leaves]

    def rebuild(arrays: list[jax.Array]) -> Tree:
        remaining = iter(arrays)
        filled = [next(remaining) if v else leaf for leaf, v in zip(leaves, varying, strict=True)]
        return jax.tree.unflatten(structure, filled)

    return [leaf for leaf, v in zip(leaves, varying, strict=True) if v], rebuild


def make_fence(like: jax.Array) -> Fence:
    """An identity that keeps XLA:CPU from recomputing its argument in every consumer.

    XLA:CPU fuses an elementwise producer into each of its consumers, which multiplies the work of deep expressions; it
    never duplicates a division. So the fence divides by a one that is computed at run time, because XLA would remove a
    constant one. Exact, but for worlds in which ``like`` [N] is NaN or -inf (their results are lost in any case).
    """

    def fence(x: jax.Array) -> jax.Array:
        return x / jnp.where(like > -jnp.inf, jnp.ones((), x.dtype), 2)

    return fence


@jax.custom_jvp
def sincos(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(sin x, cos x).

    In float32 a polynomial (Cephes' ``sinf`` and ``cosf``: error below 2 ulp for |x| < 8000) that XLA:CPU
    vectorises and evaluates once for both; in float64 the library's functions.
    """
    if x.dtype != jnp.float32:
        return jnp.sin(x), jnp.cos(x)
    f = np.float32
    # Rounded to nearest by floor, because Triton has no round.
    quarter_turns = jnp.floor(x * f(2 / np.pi) + f(0.5))
    # pi/2 in three parts (Cody and Waite), so that the subtraction loses no digits.
    r = x - quarter_turns * f(1.5703125)
    r = r - quarter_turns * f(4.837512969970703125e-4)
    r = r - quarter_turns * f(7.54978995489188216e-8)
    z = r * r
    sin = r + r * z * (f(-1.6666654611e-1) + z * (f(8.3321608736e-3) + z * f(-1.9515295891e-4)))
    cos = f(4.166664568298827e-2) + z * (f(-1.388731625493765e-3) + z * f(2.443315711809948e-5))
    cos = f(1) - f(0.5) * z + z * z * cos
    # The quadrant's two binary digits as floats, and no condition used twice: XLA:CPU fuses arrays of one dtype only.
    half_turns = jnp.floor(f(0.5) * quarter_turns)
    odd = quarter_turns - f(2) * half_turns
    sign = f(1) - f(2) * (half_turns - f(2) * jnp.floor(f(0.5) * half_turns))
    sin, cos = jnp.where(odd > f(0.5), cos, sin), jnp.where(odd < f(0.5), cos, sin)
    return sign * sin, sign * (f(1) - f(2) * odd) * cos


@sincos.defjvp
def _sincos_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]):
    sin, cos = sincos(primals[0])
    return (sin, cos), (cos * tangents[0], -sin * tangents[0])
