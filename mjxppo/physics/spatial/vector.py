"""Vectors and matrices of three dimensions, whose components may be constants (``physics.maths``)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mjxppo.physics.maths import Scalar, add, dot, mul, sub

Vector = tuple[Scalar, Scalar, Scalar]
"""Components along x, y and z."""
Matrix3 = tuple[Vector, Vector, Vector]
"""Rows."""
Symmetric = tuple[Scalar, Scalar, Scalar, Scalar, Scalar, Scalar]
"""The symmetric matrix with the entries (xx, xy, xz, yy, yz, zz)."""

ZERO: Vector = (0.0, 0.0, 0.0)
IDENTITY: Matrix3 = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def add3(a: Vector, b: Vector) -> Vector:
    """Sum of two vectors."""
    return add(a[0], b[0]), add(a[1], b[1]), add(a[2], b[2])


def sub3(a: Vector, b: Vector) -> Vector:
    """Difference of two vectors."""
    return sub(a[0], b[0]), sub(a[1], b[1]), sub(a[2], b[2])


def scale3(factor: Scalar, a: Vector) -> Vector:
    """A vector times a scalar."""
    return mul(factor, a[0]), mul(factor, a[1]), mul(factor, a[2])


def cross(a: Vector, b: Vector) -> Vector:
    """The vector product."""
    return (
        sub(mul(a[1], b[2]), mul(a[2], b[1])),
        sub(mul(a[2], b[0]), mul(a[0], b[2])),
        sub(mul(a[0], b[1]), mul(a[1], b[0])),
    )


def apply(m: Matrix3, v: Vector) -> Vector:
    """A matrix times a vector."""
    return dot(m[0], v), dot(m[1], v), dot(m[2], v)


def transposed(m: Matrix3) -> Matrix3:
    """The transposed matrix."""
    return (m[0][0], m[1][0], m[2][0]), (m[0][1], m[1][1], m[2][1]), (m[0][2], m[1][2], m[2][2])


def product(a: Matrix3, b: Matrix3) -> Matrix3:
    """The product of two matrices."""
    x, y, z = transposed(b)
    return (
        (dot(a[0], x), dot(a[0], y), dot(a[0], z)),
        (dot(a[1], x), dot(a[1], y), dot(a[1], z)),
        (dot(a[2], x), dot(a[2], y), dot(a[2], z)),
    )


def full(s: Symmetric) -> Matrix3:
    """A symmetric matrix with all its entries."""
    xx, xy, xz, yy, yz, zz = s
    return (xx, xy, xz), (xy, yy, yz), (xz, yz, zz)


def add_symmetric(a: Symmetric, b: Symmetric) -> Symmetric:
    """Sum of two symmetric matrices."""
    xx, xy, xz, yy, yz, zz = (add(x, y) for x, y in zip(a, b, strict=True))
    return xx, xy, xz, yy, yz, zz


def rotated(rotation: Matrix3, s: Symmetric) -> Symmetric:
    """R S R^T."""
    half = product(rotation, full(s))
    r = rotation
    return (
        *(dot(half[0], r[0]), dot(half[0], r[1]), dot(half[0], r[2])),
        *(dot(half[1], r[1]), dot(half[1], r[2]), dot(half[2], r[2])),
    )


def length(squared: jax.Array, least: float) -> jax.Array:
    """The square root of ``squared`` [N]; 1 where it is below ``least``, so that it can be divided by.

    XLA turns a division by a square root into a product with the reciprocal root, whose rounding depends on how many
    worlds it takes at once. It does not see the root behind the condition.
    """
    small = squared < least
    return jnp.where(small, 1.0, jnp.sqrt(jnp.where(small, 1.0, squared)))


def rotation_about(axis: tuple[float, float, float], sin: Scalar, cos: Scalar) -> Matrix3:
    """The rotation about a constant unit axis (Rodrigues' formula)."""
    versine = sub(1.0, cos)

    def entry(i: int, j: int) -> Scalar:
        if i == j:
            # Along the axis exactly 1: a constant, which shortens everything that follows.
            return 1.0 if abs(axis[i]) == 1.0 else add(cos, mul(axis[i] * axis[i], versine))
        turn = axis[3 - i - j] if (i - j) % 3 == 1 else -axis[3 - i - j]
        return add(mul(axis[i] * axis[j], versine), mul(turn, sin))

    x, y, z = (tuple(entry(i, j) for j in range(3)) for i in range(3))
    return (x[0], x[1], x[2]), (y[0], y[1], y[2]), (z[0], z[1], z[2])


def quaternion_rotation(q: tuple[Scalar, Scalar, Scalar, Scalar]) -> Matrix3:
    """The rotation of a unit quaternion (w, x, y, z) (mju_quat2Mat)."""
    w, x, y, z = q
    ww, xx, yy, zz = mul(w, w), mul(x, x), mul(y, y), mul(z, z)
    xy, xz, yz, wx, wy, wz = mul(x, y), mul(x, z), mul(y, z), mul(w, x), mul(w, y), mul(w, z)
    return (
        (sub(add(ww, xx), add(yy, zz)), mul(2.0, sub(xy, wz)), mul(2.0, add(xz, wy))),
        (mul(2.0, add(xy, wz)), sub(add(ww, yy), add(xx, zz)), mul(2.0, sub(yz, wx))),
        (mul(2.0, sub(xz, wy)), mul(2.0, add(yz, wx)), sub(add(ww, zz), add(xx, yy))),
    )
