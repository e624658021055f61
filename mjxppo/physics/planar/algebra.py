"""Arithmetic that folds constants while the program is traced.

Most of a robot's constants are 0 or 1: joint axes along x, anchors at the frame's origin, no friction. XLA may
not drop ``0 * x`` (x could be NaN), so these helpers do where a factor or term is a Python float.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from mjxppo.physics.planar.model import Scalar, Vector

T = TypeVar("T")


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


def total(*terms: Scalar) -> Scalar:
    """The sum of all terms, from the left."""
    result: Scalar = 0.0
    for term in terms:
        result = add(result, term)
    return result


def dot(a: tuple[Scalar, ...], b: tuple[Scalar, ...]) -> Scalar:
    """The scalar product of two tuples of components."""
    return total(*(mul(x, y) for x, y in zip(a, b, strict=True)))


def add2(a: Vector, b: Vector) -> Vector:
    """Sum of two vectors."""
    return add(a[0], b[0]), add(a[1], b[1])


def sub2(a: Vector, b: Vector) -> Vector:
    """Difference of two vectors."""
    return sub(a[0], b[0]), sub(a[1], b[1])


def scale2(factor: Scalar, a: Vector) -> Vector:
    """A vector times a scalar."""
    return mul(factor, a[0]), mul(factor, a[1])


def maximum(a: Scalar, b: Scalar) -> Scalar:
    """The larger of two scalars."""
    return max(a, b) if isinstance(a, float) and isinstance(b, float) else jnp.maximum(a, b)


def separate(tree: T) -> tuple[list[jax.Array], Callable[[list[jax.Array]], T]]:
    """The arrays of a pytree of scalars, and the function that puts them back: constants must stay Python floats."""
    leaves, structure = jax.tree.flatten(tree)
    varying = [isinstance(leaf, jax.Array) for leaf in leaves]

    def rebuild(arrays: list[jax.Array]) -> T:
        remaining = iter(arrays)
        filled = [next(remaining) if v else leaf for leaf, v in zip(leaves, varying, strict=True)]
        return jax.tree.unflatten(structure, filled)

    return [leaf for leaf, v in zip(leaves, varying, strict=True) if v], rebuild


def array(a: Scalar, like: jax.Array) -> jax.Array:
    """``a`` as an array of the shape and dtype of ``like``."""
    return jnp.full_like(like, a) if isinstance(a, float) else a


@jax.custom_jvp
def sincos(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(sin x, cos x).

    In float32 a polynomial (Cephes' ``sinf`` and ``cosf``: error below 2 ulp for |x| < 8000) that XLA:CPU
    vectorises and evaluates once for both; in float64 the library's functions.
    """
    if x.dtype != jnp.float32:
        return jnp.sin(x), jnp.cos(x)
    f = np.float32
    # Rounded to nearest by floor, which Triton has; round it has not.
    quarter_turns = jnp.floor(x * f(2 / np.pi) + f(0.5))
    # pi/2 in three parts (Cody and Waite), so that the subtraction loses no digits.
    r = x - quarter_turns * f(1.5703125)
    r = r - quarter_turns * f(4.837512969970703125e-4)
    r = r - quarter_turns * f(7.54978995489188216e-8)
    z = r * r
    sin = r + r * z * (f(-1.6666654611e-1) + z * (f(8.3321608736e-3) + z * f(-1.9515295891e-4)))
    cos = f(4.166664568298827e-2) + z * (f(-1.388731625493765e-3) + z * f(2.443315711809948e-5))
    cos = f(1) - f(0.5) * z + z * z * cos
    # The quadrant's two binary digits, as floats, and no condition used twice: XLA:CPU fuses arrays of one dtype only.
    half_turns = jnp.floor(f(0.5) * quarter_turns)
    odd = quarter_turns - f(2) * half_turns
    sign = f(1) - f(2) * (half_turns - f(2) * jnp.floor(f(0.5) * half_turns))
    sin, cos = jnp.where(odd > f(0.5), cos, sin), jnp.where(odd < f(0.5), cos, sin)
    return sign * sin, sign * (f(1) - f(2) * odd) * cos


@sincos.defjvp
def _sincos_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]):
    sin, cos = sincos(primals[0])
    return (sin, cos), (cos * tangents[0], -sin * tangents[0])
