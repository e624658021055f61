"""What the planar backend does not represent exactly is refused by name, and what it does is not."""

import mujoco
import pytest
from planar_models import GYMNASIUM, gymnasium_model

from mjxppo.errors import UserError
from mjxppo.physics.errors import UnsupportedModelError
from mjxppo.physics.planar import PlanarPhysics

TEMPLATE = """
<mujoco>
  <compiler angle="radian"/>
  <option {option}>{flag}</option>
  {top}
  <worldbody>
    <geom name="floor" type="plane" size="1 1 1" {floor}/>
    {world}
    <body name="torso" pos="0 0 1" {body}>
      <joint name="x" type="slide" axis="1 0 0"/>
      <joint name="z" type="slide" axis="{slide}"/>
      <joint name="turn" type="hinge" axis="0 1 0"/>
      <geom name="trunk" type="capsule" size="0.1 0.2" {geom}/>
      <site name="tip"/>
      <body name="leg" pos="0 0 -0.3">
        <joint name="hip" axis="{axis}" {joint}/>
        <geom name="shin" type="capsule" size="0.05 0.1" {shin}/>
        {leg}
      </body>
    </body>
    {bodies}
  </worldbody>
  {actuators}
</mujoco>
"""
_DEFAULTS = {"axis": "0 1 0", "slide": "0 0 1"} | dict.fromkeys(
    ("option", "flag", "top", "floor", "world", "body", "geom", "joint", "shin", "leg", "bodies", "actuators"), ""
)


def build(**parts: str) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(TEMPLATE.format(**_DEFAULTS | parts))


def actuator(xml: str) -> str:
    return f"<actuator>{xml}</actuator>"


REFUSED = {
    "elliptic cone": ({"option": 'cone="elliptic"'}, "cone elliptic", ""),
    "implicit integrator": ({"option": 'integrator="implicit"'}, "integrator implicit", ""),
    "density": ({"option": 'density="1.2"'}, "density", ""),
    "viscosity": ({"option": 'viscosity="0.1"'}, "viscosity", ""),
    "noslip": ({"option": 'noslip_iterations="3"'}, "noslip_iterations", ""),
    "contact override": ({"flag": '<flag override="enable"/>'}, "override", ""),
    "sleep": ({"flag": '<flag sleep="enable"/>'}, "sleep", ""),
    "hinge off the y axis": ({"axis": "0 1 0.1"}, "axis of hinge", '"hip"'),
    "slide off the plane": ({"slide": "0 1 1"}, "axis of slide", '"z"'),
    "ball joint": ({"leg": '<body><joint name="b" type="ball"/><geom size=".1"/></body>'}, "ball", '"b"'),
    "free joint": ({"bodies": '<body><freejoint name="f"/><geom size=".1"/></body>'}, "free", '"f"'),
    "direct solreffriction": ({"joint": 'frictionloss="0.1" solreffriction="-9 -1"'}, "frictionloss", '"hip"'),
    "polynomial damping": ({"joint": 'damping="1 0.5 0.1"'}, "polynomial damping", '"hip"'),
    "polynomial stiffness": ({"joint": 'stiffness="1 0.5 0.1"'}, "polynomial stiffness", '"hip"'),
    "direct solref": ({"joint": 'range="-1 1" solreflimit="-100 -1"'}, "solref", '"hip"'),
    "direct geom solref": ({"geom": 'solref="-100 -1"'}, "solref", '"trunk"'),
    "condim 4": ({"geom": 'condim="4"'}, "condim 4", '"trunk"'),
    "condim 6": ({"floor": 'condim="6"'}, "condim 6", '"floor"'),
    "gap": ({"geom": 'margin="0.1" gap="0.05"'}, "gap", '"trunk"'),
    "two slides along the same axis": (
        {
            "bodies": '<body pos="0 0 2"><joint name="x1" type="slide"/>'
            '<joint name="x2" type="slide"/><geom size=".1"/></body>'
        },
        "singular inertia matrix",
        '"x1"',
    ),
    "adhesion": ({"geom": 'adhesion="1"'}, "adhesion", '"trunk"'),
    "surface velocity": ({"floor": 'surfacevel="1 0 0 0 0 0"'}, "surface velocity", '"floor"'),
    "fluid shape": ({"geom": 'fluidshape="ellipsoid"'}, "fluid", '"trunk"'),
    "gravity compensation": ({"body": 'gravcomp="1"'}, "gravity compensation", '"torso"'),
    "box on the floor": ({"leg": '<geom name="toe" type="box" size=".1 .1 .1"/>'}, "box", '"toe"'),
    "ellipsoid": ({"leg": '<geom name="toe" type="ellipsoid" size=".1 .1 .2"/>'}, "ellipsoid", '"toe"'),
    "tilted floor": ({"floor": 'euler="0.1 0 0"'}, "normal", '"floor"'),
    "oblique capsule": ({"geom": 'euler="0.5 0 0"'}, "oblique", '"trunk"'),
    "capsules in different planes": (
        {"bodies": '<body name="other" pos="0 0.05 1"><joint axis="0 1 0"/><geom name="ball" size=".1"/></body>'},
        "same xz plane",
        '"ball"',
    ),
    "explicit pair": ({"top": '<contact><pair geom1="floor" geom2="shin"/></contact>'}, "<pair>", '"shin"'),
    "equality": (
        {"top": '<equality><joint name="lock" joint1="hip"/></equality>'},
        "equality",
        '"lock"',
    ),
    "limited tendon": (
        {"top": '<tendon><fixed name="cord" range="-1 1"><joint joint="hip" coef="1"/></fixed></tendon>'},
        "the limit of tendon",
        '"cord"',
    ),
    "damped tendon": (
        {
            "option": 'integrator="implicitfast"',
            "top": '<tendon><fixed name="cord" damping="1"><joint joint="hip" coef="1"/></fixed></tendon>',
        },
        "damping of tendon",
        '"cord"',
    ),
    "mocap body": ({"bodies": '<body name="target" mocap="true"><geom size=".1"/></body>'}, "mocap", '"target"'),
    "activation": ({"actuators": actuator('<general name="m" joint="hip" dyntype="filter"/>')}, "activation", '"m"'),
    "site actuator": ({"actuators": actuator('<general name="m" site="tip"/>')}, "transmission", '"m"'),
    "muscle": ({"actuators": actuator('<muscle name="m" joint="hip" lengthrange="0 1"/>')}, "activation", '"m"'),
    "actuator armature": ({"actuators": actuator('<motor name="m" joint="hip" armature="0.1"/>')}, "armature", '"m"'),
    "actuator damping": ({"actuators": actuator('<motor name="m" joint="hip" damping="0.1"/>')}, "damping", '"m"'),
    "actuator delay": (
        {"actuators": actuator('<motor name="m" joint="hip" nsample="5" delay="0.004"/>')},
        "delay",
        "",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unsupported_features_are_refused_by_name(case):
    parts, feature, owner = REFUSED[case]
    model = build(**parts)
    with pytest.raises(UnsupportedModelError) as refusal:
        PlanarPhysics(model)
    message = str(refusal.value)
    assert "\n" not in message
    assert feature in message
    assert owner in message
    assert isinstance(refusal.value, UserError)


ACCEPTED = {
    "as it is": {},
    "visual geoms of any kind": {
        "leg": '<geom type="box" size=".1 .1 .1" contype="0" conaffinity="0" euler="1 1 1"/>',
    },
    "legs beside each other": {
        "bodies": '<body pos="0 0.3 1"><joint axis="0 1 0"/><geom size=".1"/></body>',
    },
    "a rolling cylinder made of a capsule along y": {
        "leg": '<geom type="capsule" size=".1 .2" euler="1.5707963267948966 0 0"/>'
    },
    "excluded contacts": {
        "top": '<contact><exclude body1="torso" body2="other"/><exclude body1="leg" body2="other"/></contact>',
        "bodies": '<body name="other" pos="0 0.05 1"><joint axis="0 1 0"/><geom size=".1"/></body>',
    },
    "sensors, keyframes and energy": {
        "flag": '<flag energy="enable"/>',
        "top": '<sensor><jointpos joint="hip"/></sensor><keyframe><key qpos="0 0 0 0"/></keyframe>',
    },
    "gravity across the plane": {"option": 'gravity="0 3 -9.81"'},
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_features_that_change_nothing_are_accepted(case):
    from planar_models import errors, hard_worlds

    model = build(**ACCEPTED[case])
    assert errors(model, hard_worlds(model, 64), 1).max() < 1e-9


@pytest.mark.parametrize("name", GYMNASIUM)
def test_gymnasiums_planar_robots_are_accepted(name):
    PlanarPhysics(gymnasium_model(name))


@pytest.mark.parametrize("name", ["ant", "humanoid", "swimmer", "reacher"])
def test_gymnasiums_other_robots_are_refused(name):
    with pytest.raises(UnsupportedModelError, match="planar physics cannot represent"):
        PlanarPhysics(gymnasium_model(name))
