"""ActionSpec: the numbers and the choices in an action. It imports no JAX, so an exported policy can use it.

Inside this package an action is a vector of float32 numbers: those of a continuous action in [-1, 1] first, then one
number for each choice, the index of the chosen category from 0. An environment of another library may take something
else, such as a ``dict`` of arrays: its form, in which a policy's user gets the actions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST_CATEGORIES = 2**16
"""Categories of all choices together, at most."""


@dataclass(frozen=True)
class ActionSpec:
    """The parts of an action: ``continuous`` numbers in [-1, 1], then a choice for each of ``categories``."""

    continuous: int
    categories: tuple[int, ...] = ()
    """Number of categories of each choice."""
    form: tuple[Any, ...] | None = None
    """The action as the environment takes it; None: the vector, or for choices alone the indices.

    One of ``("box", shape, low, high, dtype)`` with flat bounds; ``("discrete", n, start, dtype)``;
    ``("multi", shape, nvec, start, dtype)`` with flat counts and first numbers; ``("dict", ((name, form), ...))``;
    ``("tuple", (form, ...))``.
    """

    @property
    def size(self) -> int:
        """Length of the vector."""
        return self.continuous + len(self.categories)

    @property
    def parts(self) -> tuple[int, tuple[int, ...]]:
        """What a policy's network depends on: how many numbers, and the categories of each choice."""
        return self.continuous, self.categories

    @property
    def logits(self) -> int:
        """Categories of all choices together."""
        return sum(self.categories)

    def __str__(self) -> str:
        counts = ", ".join(str(count) for count in self.categories)
        one_choice, one_number = len(self.categories) == 1, self.continuous == 1
        choices = f"{'a choice' if one_choice else 'choices'} among {counts}" if counts else ""
        numbers = f"{self.continuous} {'number' if one_number else 'numbers'}" if self.continuous or not counts else ""
        return " and ".join(filter(None, (numbers, choices)))

    def decode(self, vector: np.ndarray) -> Any:
        """The actions in the environment's form, for vectors [..., size]; arrays keep the leading axes."""
        form = self.form
        if form is None and self.categories and not self.continuous:
            one, counts = len(self.categories) == 1, self.categories
            zeros = (0,) * len(counts)
            form = ("discrete", counts[0], 0, "int64") if one else ("multi", (len(counts),), counts, zeros, "int64")
        if form is None:
            return vector
        return _decoded(form, iter(np.moveaxis(vector[..., : self.continuous], -1, 0)), _choices(self, vector))

    def flat_mask(self, mask: Any) -> np.ndarray:
        """The categories that may be chosen, bool [..., logits], from a mask in the environment's form.

        One array [..., logits] is such a mask already. A choice's mask is an array [..., n]; of several choices it is a
        tuple of such arrays. A ``dict`` may leave out parts, which are then free. Raises ValueError where it does not
        fit.
        """
        if self.form is None or isinstance(mask, np.ndarray):
            parts = _leaves(mask)
        else:
            parts = _masks(self.form, mask)
        flat = np.concatenate([np.asarray(part, bool) for part in parts], axis=-1) if parts else np.ones(0, bool)
        if flat.shape[-1] != self.logits:
            raise ValueError(f"the action_mask has {flat.shape[-1]} entries, and the actions {self.logits} categories")
        return flat

    def first_allowed(self, mask: Any = None) -> np.ndarray:
        """The vector [size] of zeros, and of the first category that ``mask`` allows of each choice."""
        free = np.ones(self.logits, bool) if mask is None else self.flat_mask(mask)
        parts = np.split(free, np.cumsum(self.categories, dtype=int)[:-1])[: len(self.categories)]
        return np.array([*[0.0] * self.continuous, *(part.argmax() for part in parts)], np.float32)

    def to_json(self) -> str:
        """The text that ``from_json`` reads."""
        return json.dumps([self.continuous, self.categories, self.form])

    @classmethod
    def from_json(cls, text: str) -> ActionSpec:
        """The spec that ``to_json`` wrote. Raises ValueError where the text is something else."""
        try:
            continuous, categories, form = json.loads(text)
            counts = tuple(int(count) for count in categories)
            spec = cls(int(continuous), counts, None if form is None else _hashable(form))
            spec.decode(np.zeros(spec.size, np.float32))
        except (ValueError, TypeError, LookupError, StopIteration, RuntimeError) as error:
            raise ValueError(f"actions is {text[:80]!r}") from error
        if spec.continuous < 0 or any(count < 2 for count in counts) or spec.logits > MOST_CATEGORIES or not spec.size:
            raise ValueError(f"actions is {text[:80]!r}")
        return spec


def _hashable(tree: Any) -> Any:
    return tuple(_hashable(part) for part in tree) if isinstance(tree, list) else tree


def _choices(spec: ActionSpec, vector: np.ndarray) -> Any:
    """An iterator over the chosen indices, each [...] int64."""
    return iter(np.moveaxis(vector[..., spec.continuous :], -1, 0).astype(np.int64))


def _decoded(form: tuple[Any, ...], numbers: Any, choices: Any) -> Any:
    """One part of the action, from iterators over the numbers and the choices that are left."""
    kind, *rest = form
    if kind == "dict":
        return {name: _decoded(part, numbers, choices) for name, part in rest[0]}
    if kind == "tuple":
        return tuple(_decoded(part, numbers, choices) for part in rest[0])
    if kind == "discrete":
        _, start, dtype = rest
        return (next(choices) + start).astype(dtype)
    if kind == "multi":
        shape, nvec, start, dtype = rest
        flat = np.stack([next(choices) for _ in nvec], axis=-1) + np.asarray(start, np.int64)
    elif kind == "box":
        shape, low, high, dtype = rest
        low, high = np.asarray(low), np.asarray(high)
        unit = np.stack([next(numbers) for _ in low], axis=-1).astype(np.float64)
        flat = np.clip(low + (unit + 1) * 0.5 * (high - low), low, high)
    else:
        raise LookupError(kind)
    return flat.reshape((*flat.shape[:-1], *shape)).astype(dtype)


def _masks(form: tuple[Any, ...], mask: Any) -> list[Any]:
    """The masks of a part's choices, in their order."""
    kind, *rest = form
    if kind == "dict":
        return [one for name, part in rest[0] for one in _masks(part, None if mask is None else mask.get(name))]
    if kind == "tuple":
        parts = [None] * len(rest[0]) if mask is None else mask
        return [one for part, own in zip(rest[0], parts, strict=True) for one in _masks(part, own)]
    if kind == "box":
        return []
    if mask is None:
        return [np.ones(rest[0] if kind == "discrete" else sum(rest[1]), bool)]
    return _leaves(mask)


def _leaves(mask: Any) -> list[Any]:
    """The arrays in nested tuples or lists of arrays; an array, or a list of numbers, is one."""
    nested = isinstance(mask, tuple) or (isinstance(mask, list) and any(np.ndim(part) for part in mask))
    return [leaf for part in mask for leaf in _leaves(part)] if nested else [np.asarray(mask)]


def first_of(action: Any) -> Any:
    """The first world's action, of actions in an environment's form whose arrays lead with the worlds."""
    if isinstance(action, dict):
        return {name: first_of(part) for name, part in action.items()}
    return tuple(first_of(part) for part in action) if isinstance(action, tuple) else action[0]
