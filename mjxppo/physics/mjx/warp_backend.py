"""The ``mjx-warp`` backend: MJX on NVIDIA Warp (MuJoCo Warp called from JAX)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax import lax
from mujoco import mjx
from mujoco.mjx._src.collision_driver import geom_pairs

from mjxppo.errors import UserError
from mjxppo.physics.base import Physics, PhysicsState
from mjxppo.physics.errors import UnsupportedModelError
from mjxppo.physics.mjx.model import constants
from mjxppo.physics.mjx.support import check_carried_state
from mjxppo.physics.worlds import fold_vmap

Array = jax.Array

MAX_CONTACTS_PER_WORLD = 256
"""Largest number of contact slots that are allocated per world on average."""

LOST_CONTACTS = 0b1_0111_1111
"""Bits of MuJoCo Warp's ``OverflowType`` that mean dropped contacts or constraint rows: NEFC, NJMAX_NNZ, BROADPHASE,
NARROWPHASE, CCD, HFIELD, NVMAX, EPA_HORIZON; not CONTACT_MATCH (a sensor) nor the solver's iteration limits."""


class MjxWarpPhysics(Physics):
    """Steps worlds with MuJoCo Warp, with the model's own solver settings, in float32.

    Contact slots are shared by all worlds and filled by atomic operations, so that the order of summation, and with
    it the last bits of the results, differ from run to run: not deterministic. No derivatives. On a CPU it runs, but
    slowly. Buffers are sized for every contact that the model's geoms can make; where that bound had to be capped
    and a step runs out of slots, the affected worlds become NaN, so that no contact is lost without notice.

    Raises:
        UserError: warp-lang is not installed, or MuJoCo Warp cannot represent the model.
    """

    name = "mjx-warp"
    follows_solver_settings = True
    takes_parameters = False

    def __init__(self, model: mujoco.MjModel, frame_skip: int):
        super().__init__(model, frame_skip)
        _require_warp()
        check_carried_state(model, "mjx-warp")
        try:
            mjx_model = mjx.put_model(model, impl="warp")
            # Overflows are detected below; Warp's own warnings would go to stdout, one for every world.
            mjx_model = mjx_model.tree_replace({"opt._impl.warn_overflow": 0})
            self._host_model = jax.tree.map(np.asarray, mjx_model)
        except (NotImplementedError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UnsupportedModelError(f"mjx-warp: MuJoCo Warp cannot represent this model: {reason}") from error
        self._max_contacts, self._max_rows = contact_and_row_bounds(model)

    def _step(self, state: PhysicsState, ctrl: Array) -> PhysicsState:
        if state.parameters:
            raise UserError("mjx-warp: worlds with parameters of their own are not supported; use planar or mjx")
        arrays = (state.qpos, state.qvel, state.qacc_warmstart, ctrl)
        singles = [jnp.asarray(x, jnp.float32) for x in arrays]
        out = fold_vmap(self._step_worlds)(*singles)
        qpos, qvel, warmstart = (x.astype(like.dtype) for x, like in zip(out, arrays[:3], strict=True))
        return PhysicsState(qpos, qvel, warmstart)

    def _step_worlds(self, qpos: Array, qvel: Array, warmstart: Array, ctrl: Array) -> tuple[Array, ...]:
        num_worlds = qpos.shape[0]
        contacts = num_worlds * self._max_contacts
        with jax.ensure_compile_time_eval():  # MJX builds it with array operations, and it has to be a constant
            template = mjx.make_data(
                self.model, impl="warp", naconmax=contacts, naccdmax=contacts, njmax=self._max_rows
            )
            host_data = jax.tree.map(np.asarray, template)
        m, d = constants((self._host_model, host_data), jnp.float32)

        def one_world(qpos: Array, qvel: Array, warmstart: Array, ctrl: Array) -> tuple[Array, ...]:
            data = d.replace(qpos=qpos, qvel=qvel, qacc_warmstart=warmstart, ctrl=ctrl)

            def step(data: mjx.Data, _: None) -> tuple[mjx.Data, Array]:
                data = mjx.step(m, data)
                return data, data._impl.overflow

            data, overflow = lax.scan(step, data, None, length=self.frame_skip)
            lost = jnp.any(overflow & LOST_CONTACTS != 0)
            return tuple(jnp.where(lost, jnp.nan, x) for x in (data.qpos, data.qvel, data.qacc_warmstart))

        return jax.vmap(one_world)(qpos, qvel, warmstart, ctrl)


def _require_warp() -> None:
    try:
        import warp  # an optional package
    except ImportError as error:
        raise UserError(
            "mjx-warp: warp-lang is not installed; install the extra: pip install 'mjxppo[warp]'"
        ) from error
    warp.config.log_level = warp.LOG_WARNING  # Warp would report every kernel on stdout, where results go.


def contact_and_row_bounds(model: mujoco.MjModel) -> tuple[int, int]:
    """The most contacts and constraint rows that one world can have (contacts: at most a fixed cap).

    MuJoCo makes at most one contact between a sphere and anything simple, two between a capsule and a plane, a box
    or a capsule, and up to eight between other convex geoms.
    """
    geom = mujoco.mjtGeom
    contacts = rows = 0
    for geom1, geom2, pair in geom_pairs(model):
        types = {int(model.geom_type[geom1]), int(model.geom_type[geom2])}
        simple = types <= {int(geom.mjGEOM_PLANE), int(geom.mjGEOM_SPHERE), int(geom.mjGEOM_CAPSULE)}
        count = (1 if int(geom.mjGEOM_SPHERE) in types else 2) if simple else 8
        dim = max(model.geom_condim[geom1], model.geom_condim[geom2]) if pair < 0 else model.pair_dim[pair]
        elliptic = model.opt.cone == mujoco.mjtCone.mjCONE_ELLIPTIC
        contacts += count
        rows += count * int(1 if dim == 1 else dim if elliptic else 2 * (dim - 1))
    equality = {mujoco.mjtEq.mjEQ_CONNECT: 3, mujoco.mjtEq.mjEQ_WELD: 6}
    rows += sum(equality.get(mujoco.mjtEq(kind), 1) for kind in model.eq_type)
    # A joint with a range whose ends are closer than twice the margin can be at both of them.
    rows += 2 * int((model.jnt_limited > 0).sum() + (model.tendon_limited > 0).sum())
    rows += int((model.dof_frictionloss > 0).sum() + (model.tendon_frictionloss > 0).sum())
    return max(min(contacts, MAX_CONTACTS_PER_WORLD), 1), max(rows, 1)
