"""The dofs that every constraint row can touch: the static sparsity of MJX's constraint Jacobian.

MJX builds a dense Jacobian J with a row for everything that could ever be in contact or at a limit. Most of its
entries are zero for every state: a contact of one leg with the floor does not involve the other leg. Consecutive
rows with the same dofs form a group, and the solver works on groups.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import mjx

from mjxppo.physics.mjx.model import constants

MAX_ROW_GROUPS = 16
"""More groups mean less arithmetic but a larger program; neighbours are merged down to this number."""

Kind = Literal["equality", "friction", "unilateral"]


@dataclass(frozen=True)
class RowGroup:
    """Consecutive constraint rows of one kind: all touch the same dofs, or each touches one dof of its own."""

    start: int
    stop: int
    kind: Kind
    dofs: tuple[int, ...]
    """The dofs that all rows touch; of a diagonal group, the dof of each row."""
    diagonal: bool
    """Whether each row touches one dof of its own."""

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.stop - self.start


def row_groups(m: mujoco.MjModel, mjx_model: mjx.Model, mjx_data: mjx.Data) -> tuple[RowGroup, ...]:
    """The groups of the rows of a model, given as MuJoCo's and as MJX's, in the order of ``mjx.make_constraint``."""
    impl: Any = mjx_data._impl
    rows = _row_dofs(m, mjx_model, mjx_data)
    num_rows = impl.efc_J.shape[0]
    if len(rows) != num_rows:
        raise AssertionError(f"{len(rows)} constraint rows expected, MJX has {num_rows}")

    groups: list[RowGroup] = []
    for i, dofs in enumerate(rows):
        kind: Kind = "equality" if i < impl.ne else "friction" if i < impl.ne + impl.nf else "unilateral"
        single = len(dofs) == 1
        last = groups[-1] if groups else None
        if last and last.kind == kind and last.diagonal and single:
            groups[-1] = RowGroup(last.start, i + 1, kind, last.dofs + dofs, True)
        elif last and last.kind == kind and not single and last.dofs == dofs and not last.diagonal:
            groups[-1] = RowGroup(last.start, i + 1, kind, dofs, False)
        else:
            groups.append(RowGroup(i, i + 1, kind, dofs, single))
    while len(groups) > MAX_ROW_GROUPS and _merge_cheapest(groups):
        pass
    return tuple(groups)


def _merge_cheapest(groups: list[RowGroup]) -> bool:
    """Merges the two neighbours whose merging adds the least work; False when there are none of one kind."""

    def merged(a: RowGroup, b: RowGroup) -> RowGroup:
        return RowGroup(a.start, b.stop, a.kind, tuple(sorted({*a.dofs, *b.dofs})), False)

    def work(group: RowGroup) -> int:  # multiplications in J^T D J
        return group.size * (1 if group.diagonal else len(group.dofs) ** 2)

    costs = {
        i: work(merged(a, b)) - work(a) - work(b)
        for i, (a, b) in enumerate(itertools.pairwise(groups))
        if a.kind == b.kind
    }
    if not costs:
        return False
    best = min(costs, key=costs.__getitem__)
    groups[best : best + 2] = [merged(groups[best], groups[best + 1])]
    return True


def _row_dofs(m: mujoco.MjModel, mjx_model: mjx.Model, mjx_data: mjx.Data) -> list[tuple[int, ...]]:
    """The dofs of every row, ascending, in the order of ``mjx.make_constraint``."""
    impl: Any = mjx_data._impl
    flags, disable = m.opt.disableflags, mujoco.mjtDisableBit
    every = tuple(range(m.nv))
    if flags & disable.mjDSBL_CONSTRAINT:
        return []
    rows = [every] * impl.ne
    if not flags & disable.mjDSBL_FRICTIONLOSS:
        rows += [(int(i),) for i in np.nonzero(m.dof_frictionloss > 0)[0]]
        rows += [every] * int((m.tendon_frictionloss > 0).sum())
    if not flags & disable.mjDSBL_LIMIT:
        for types in ([mujoco.mjtJoint.mjJNT_BALL], [mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE]):
            joints = np.nonzero(np.isin(m.jnt_type, types) & (m.jnt_limited > 0))[0]
            width = 3 if types[0] == mujoco.mjtJoint.mjJNT_BALL else 1
            rows += [tuple(range(m.jnt_dofadr[j], m.jnt_dofadr[j] + width)) for j in joints]
        rows += [every] * int((m.tendon_limited > 0).sum())
    num_contact_rows = impl.efc_J.shape[0] - len(rows)
    if _contacts_are_selected_at_run_time(m):
        return rows + [every] * num_contact_rows
    if num_contact_rows:
        geoms = _contact_geoms(mjx_model, mjx_data)
        for (geom1, geom2), dim in zip(geoms, impl.contact.dim, strict=True):
            # A dof above both bodies moves them together, so its entry is 0: dofs of one body only.
            dofs = _moving_dofs(m, m.geom_bodyid[geom1]) ^ _moving_dofs(m, m.geom_bodyid[geom2])
            # Two geoms that nothing moves, such as the floor and a mocap body, touch none; any entry of theirs is 0.
            rows += [tuple(sorted(dofs)) or (0,)] * (1 if dim == 1 else 2 * (int(dim) - 1))
    return rows


def _contact_geoms(mjx_model: mjx.Model, mjx_data: mjx.Data) -> np.ndarray:
    """The pair of geoms of every contact slot, [ncon, 2]: the same for every state."""

    def geoms() -> jax.Array:
        impl: Any = mjx.collision(*constants((mjx_model, mjx_data), jnp.float32))._impl
        return impl.contact.geom

    return np.asarray(jax.jit(geoms)())


def _contacts_are_selected_at_run_time(m: mujoco.MjModel) -> bool:
    """Whether MJX picks the contacts that it keeps by distance (its two custom numeric fields)."""
    names = {m.numeric(i).name for i in range(m.nnumeric)}
    return bool(names & {"max_contact_points", "max_geom_pairs"})


def _moving_dofs(m: mujoco.MjModel, body: int) -> set[int]:
    """The dofs that move a body."""
    dofs: set[int] = set()
    while body > 0:
        start = m.body_dofadr[body]
        dofs |= set(range(start, start + m.body_dofnum[body]))
        body = m.body_parentid[body]
    return {int(i) for i in dofs}
