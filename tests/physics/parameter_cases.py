"""Random parameters, and C MuJoCo on the models that they make, one model a world."""

from __future__ import annotations

import mujoco
import numpy as np
from planar_models import Worlds, c_step

from mjxppo import physics
from mjxppo.physics.parameters import nominal

SCALED = (
    *("body_mass", "body_inertia", "geom_friction", "dof_armature", "dof_damping", "jnt_stiffness"),
    *("actuator_gear", "actuator_gainprm", "actuator_biasprm"),
)


def random_parameters(model: mujoco.MjModel, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Everything at once: factors from 0.5 to 2 element by element, offsets where the model has a zero."""
    rng = np.random.default_rng(seed)
    fields = {}
    for name in SCALED:
        value = nominal(model, name)
        shape = (count, *value.shape[:1], *(1,) * (value.ndim - 1)) if name == "body_inertia" else (count, *value.shape)
        fields[name] = value * 2.0 ** rng.uniform(-1, 1, shape)
    fields["body_ipos"] = model.body_ipos + rng.uniform(-0.03, 0.03, (count, model.nbody, 3))
    fields["opt.gravity"] = model.opt.gravity + rng.uniform(-2, 2, (count, 3))
    fields["qpos_spring"] = model.qpos_spring + rng.uniform(-0.2, 0.2, (count, model.nq))
    for name in ("dof_armature", "dof_damping", "jnt_stiffness"):
        fields[name] = fields[name] + rng.uniform(0, 0.3, fields[name].shape)
    return fields


def random_sizes(model: mujoco.MjModel, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Every part of every body elsewhere and of another size, in the plane; masses stay as they are."""
    rng = np.random.default_rng(seed)
    in_plane = np.array([1.0, 0.0, 1.0])
    fields = {}
    for name in ("body_pos", "jnt_pos", "geom_pos"):
        value = nominal(model, name)
        fields[name] = value + in_plane * rng.uniform(-0.05, 0.05, (count, *value.shape))
    fields["geom_size"] = model.geom_size * rng.uniform(0.7, 1.4, (count, model.ngeom, 3))
    return fields


def c_step_of_each(model: mujoco.MjModel, fields: dict[str, np.ndarray], worlds: Worlds, steps: int) -> np.ndarray:
    """qvel [N, nv] after ``steps`` steps of C MuJoCo, world i on the model with its own fields."""
    rows = []
    for i in range(len(worlds)):
        own = physics.modified_model(model, {name: value[i] for name, value in fields.items()})
        rows.append(c_step(own, worlds[i : i + 1], steps)[1][0])
    return np.array(rows)
