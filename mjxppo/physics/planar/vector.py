"""Vectors (x, z), whose components may be constants (``physics.maths``)."""

from __future__ import annotations

from mjxppo.physics.maths import Scalar, add, mul, sub

Vector = tuple[Scalar, Scalar]
"""Components along x and z."""


def add2(a: Vector, b: Vector) -> Vector:
    """Sum of two vectors."""
    return add(a[0], b[0]), add(a[1], b[1])


def sub2(a: Vector, b: Vector) -> Vector:
    """Difference of two vectors."""
    return sub(a[0], b[0]), sub(a[1], b[1])


def scale2(factor: Scalar, a: Vector) -> Vector:
    """A vector times a scalar."""
    return mul(factor, a[0]), mul(factor, a[1])


def cross2(a: Vector, b: Vector) -> Scalar:
    """a_x b_z - a_z b_x."""
    return sub(mul(a[0], b[1]), mul(a[1], b[0]))
