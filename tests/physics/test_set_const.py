"""What follows from a world's parameters, against ``mj_setConst``."""

import jax
import mujoco
import numpy as np
import pytest
from planar_models import gymnasium_model

from mjxppo import physics
from mjxppo.physics.parameters import nominal

DERIVED = ("body_invweight0", "dof_invweight0", "tendon_invweight0")

EVERY_JOINT = """
<mujoco>
  <worldbody>
    <body pos="0 0 1"> <freejoint/> <geom size="0.1" pos="0.05 0.1 0"/>
      <body pos="0.2 0.1 0"> <joint type="ball"/> <geom type="capsule" size="0.1 0.2" euler="20 30 40"/>
        <body pos="0.1 0 0.2"> <joint name="a" axis="1 1 0" armature="0.2"/> <geom size="0.1" pos="0.1 0.1 0.1"/>
          <body pos="0 0 0.1"> <geom size="0.05"/> </body>
        </body>
      </body>
    </body>
    <body simple="false"> <joint name="b" type="slide" axis="1 0 0.5"/> <geom size="0.1"/> </body>
    <body simple="false"> <joint name="c" axis="0 1 0"/> <geom size="0.1"/> </body>
    <body pos="1 1 1" simple="false"> <geom size="0.1"/> </body>
  </worldbody>
  <tendon>
    <fixed armature="0.3"> <joint joint="a" coef="2"/> <joint joint="b" coef="-3"/> </fixed>
    <fixed> <joint joint="b" coef="1"/> <joint joint="c" coef="0.5"/> </fixed>
  </tendon>
</mujoco>
"""


def random_inertias(model: mujoco.MjModel, count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "body_mass": model.body_mass * rng.uniform(0.3, 3, (count, model.nbody)),
        "body_inertia": model.body_inertia * rng.uniform(0.3, 3, (count, model.nbody, 1)),
        "body_ipos": model.body_ipos + rng.uniform(-0.1, 0.1, (count, model.nbody, 3)),
        "dof_armature": model.dof_armature + rng.uniform(0, 0.3, (count, model.nv)),
        "body_pos": model.body_pos + rng.uniform(-0.1, 0.1, (count, model.nbody, 3)),
        "jnt_pos": model.jnt_pos + rng.uniform(-0.1, 0.1, (count, model.njnt, 3)),
    }


@pytest.mark.parametrize("name", ["hopper", "half_cheetah", "every joint"])
@pytest.mark.parametrize(
    "fields",
    [
        ("body_mass", "body_inertia"),
        ("body_mass", "body_ipos", "dof_armature"),
        ("body_pos",),
        ("body_mass", "body_ipos", "body_pos", "jnt_pos"),
    ],
)
def test_derived_constants_are_mj_set_consts(name, fields):
    model = mujoco.MjModel.from_xml_string(EVERY_JOINT) if name == "every joint" else gymnasium_model(name)
    parameters = {field: value for field, value in random_inertias(model, 4).items() if field in fields}
    with jax.enable_x64(True):
        derived = jax.jit(lambda p: physics.set_const(model, p))(parameters)
        for i in range(4):
            own = physics.modified_model(model, {field: value[i] for field, value in parameters.items()})
            for field in DERIVED:
                if getattr(model, field).size:
                    np.testing.assert_allclose(derived[field][i], getattr(own, field), rtol=1e-12, atol=1e-16)


def test_nothing_follows_from_what_changes_no_inertia():
    model = gymnasium_model("hopper")
    parameters = {"geom_friction": np.repeat(model.geom_friction[None], 3, axis=0)}
    assert set(physics.set_const(model, parameters)) == {"geom_friction"}


def test_the_given_model_stays_as_it_is():
    model = gymnasium_model("hopper")
    before = {name: nominal(model, name) for name in ("body_mass", "body_invweight0", "opt.gravity")}
    own = physics.modified_model(model, {"body_mass": 2 * model.body_mass, "opt.gravity": np.array([1.0, 0, -5])})
    assert own.opt.gravity[0] == 1.0
    assert own.body_invweight0[1, 0] < model.body_invweight0[1, 0]
    for name, value in before.items():
        np.testing.assert_array_equal(nominal(model, name), value)
