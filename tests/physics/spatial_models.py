"""Models, states and a strategy for random models that the tests of the spatial backend share."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from compiling import QUICKLY
from hypothesis import strategies as st
from planar_generated import Generator, vector
from planar_models import Worlds, c_step

from mjxppo.physics.planar.compile.common import lone_free_joint
from mjxppo.physics.spatial import SpatialPhysics

TUMBLER = """
<mujoco>
  <option timestep="0.005" integrator="{integrator}"/>
  <default><geom conaffinity="0"/></default>
  <worldbody>
    <geom type="plane" size="1 1 1" conaffinity="1" euler="{tilt}"/>
    <body pos="0 0 0.4" euler="20 0 0">
      <freejoint/>
      <geom type="capsule" size="0.1 0.15" euler="0 50 10"/>
      <geom size="0.1" pos="0.2 0.1 0"/>
      <body pos="0.2 0 0" euler="0 30 20">
        <joint axis="0 1 1" range="-30 40" limited="true" damping="1" stiffness="3" armature="0.02"/>
        <geom type="capsule" fromto="0 0 0 0.3 0.1 -.1" size="0.05" condim="1"/>
        <body pos="0.3 0.1 -.1">
          <joint type="ball" pos="0.01 0.02 0" damping="0.2"/>
          <joint name="piston" type="slide" axis="1 0 2" damping="0.3"/>
          <geom type="capsule" fromto="0 0 0 0.2 0 0" size="0.05"/>
          <body euler="10 20 30" pos=".1 0 0"><geom size=".07" contype="0"/></body>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="piston" gear="30"/></actuator>
</mujoco>
"""
"""A free body with a hinge, a ball and a slide; two capsules and a sphere may touch the floor."""


TOP = """
<mujoco>
  <option timestep="0.005" density="300" viscosity="0.3" wind="1 -2 0.5"/>
  <worldbody>
    <geom type="plane" size="1 1 1" conaffinity="0" friction="0.6"/>
    <body pos="0 0 0.3">
      <freejoint/>
      <geom type="capsule" size="0.1 0.15" contype="0"/>
      <body pos="0.2 0 0">
        <joint name="arm" axis="0 1 1" damping="1" stiffness="3"/>
        <geom size="0.1" contype="0"/>
      </body>
    </body>
  </worldbody>
  <actuator><position joint="arm" kp="2" ctrlrange="-1 1" ctrllimited="true"/></actuator>
</mujoco>
"""
"""A smaller one in a thick medium, that compiles sooner."""


WRESTLERS = """
<mujoco>
  <option timestep="0.005" gravity="0 0 -3"/>
  <worldbody>
    <geom type="capsule" fromto="-0.2 0 0 0.3 0.1 0.1" size="0.1" condim="1"/>
    <body pos="0.1 0 0.2">
      <freejoint/>
      <geom type="capsule" size="0.08 0.2" euler="0 90 0"/>
      <body pos="0.3 0 0">
        <joint name="arm" axis="0 1 1" damping="1"/>
        <geom size="0.1" pos="0.05 0 0"/>
        <body pos="0.1 0 0.1">
          <joint type="ball" damping="0.1"/>
          <geom type="capsule" fromto="0 0 0 -0.3 0 0.1" size="0.05" margin="0.01"/>
        </body>
      </body>
    </body>
    <body pos="0 0.1 0.1">
      <joint type="slide" axis="0 1 0"/>
      <joint axis="1 0 0"/>
      <geom type="capsule" size="0.07 0.1" pos="0.01 0 0" friction="0.4"/>
    </body>
  </worldbody>
  <actuator><motor joint="arm" gear="30"/></actuator>
</mujoco>
"""
"""Capsules and a sphere that touch each other, within a tree, of two trees, and fixed ones."""

SERVOS = """
<mujoco>
  <option timestep="0.01" integrator="implicitfast"/>
  <worldbody>
    <geom type="plane" size="1 1 1" conaffinity="0"/>
    <body pos="0 0 0.1">
      <freejoint/>
      <geom type="capsule" size="0.1 0.15" contype="0"/>
      <body pos="0.2 0 0">
        <joint name="a" axis="0 1 1" damping="0.3" armature="0.01" actuatorfrcrange="-2 2"/>
        <geom size="0.1" contype="0"/>
        <body pos="0.2 0 0">
          <joint name="b" axis="1 0 0" frictionloss="0.05"/>
          <geom size="0.08" pos="0 0.1 0" contype="0"/>
          <body pos="0 0.2 0"><joint name="c" type="slide" axis="0 0 1"/><geom size="0.05" contype="0"/></body>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <position joint="a" kp="20" kv="3" ctrlrange="-0.5 0.5" forcerange="-4 4"/>
    <velocity joint="b" kv="5" gear="2" forcerange="-4 4"/>
    <general joint="c" gaintype="affine" gainprm="3 0.5 -0.7" biastype="affine" biasprm="0.1 -2 -0.9" ctrlrange="-1 1"/>
    <general joint="b" gaintype="fixed" gainprm="3 0.5 -0.7" biastype="none" biasprm="0.1 -2 -0.9"/>
  </actuator>
</mujoco>
"""
"""Servos whose forces depend on velocities and are clamped, on joints whose forces are."""

STACKED = """
<mujoco>
  <worldbody>
    <geom type="{first}" size="0.1 0.3" pos="0 0 0"/>
    <body><freejoint/><geom type="{second}" size="0.08 0.2" friction="0.7"/></body>
  </worldbody>
</mujoco>
"""
"""A free capsule or sphere and a fixed one, both along z and at the origin."""


def tumbler(integrator: str = "Euler", tilt: str = "0 0 0") -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(TUMBLER.format(integrator=integrator, tilt=tilt))


def tumbling_worlds(model: mujoco.MjModel, count: int, seed: int = 0) -> Worlds:
    """Any orientation, in and above the floor, joints beyond their limits, slow and fast; useless warm starts."""
    rng = np.random.default_rng(seed)
    qpos = np.tile(model.qpos0, (count, 1))
    for joint in range(model.njnt):
        at, kind = int(model.jnt_qposadr[joint]), mujoco.mjtJoint(model.jnt_type[joint]).name.removeprefix("mjJNT_")
        if kind in ("FREE", "BALL"):
            quaternion = at + (3 if kind == "FREE" else 0)
            # Not of length 1: MuJoCo normalises what it is given.
            qpos[:, quaternion : quaternion + 4] = rng.normal(size=(count, 4))
        if kind == "FREE":
            qpos[:, at : at + 3] += rng.uniform(-1, 1, (count, 3)) * [3.0, 3.0, 0.4]
        if kind in ("HINGE", "SLIDE"):
            qpos[:, at] += rng.uniform(-1.5, 1.5, count) * (1.0 if kind == "HINGE" else 0.3)
    qvel = rng.normal(size=(count, model.nv)) * 10.0 ** rng.uniform(-2, 1, (count, 1))
    warmstart = rng.normal(size=(count, model.nv)) * 10.0 ** rng.uniform(-2, 3, (count, 1))
    return Worlds(qpos, qvel, warmstart, rng.uniform(-2, 2, (count, model.nu)))


def spatial_step(model: mujoco.MjModel, worlds: Worlds, steps: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """qpos and qvel after ``steps`` steps of the spatial backend, in float64."""
    with jax.enable_x64(True):
        sim = SpatialPhysics(model, steps)
        out = jax.jit(sim.step, compiler_options=QUICKLY)(*worlds.state(jnp.float64))
        return np.asarray(out.qpos), np.asarray(out.qvel)


def relative_errors(model: mujoco.MjModel, worlds: Worlds) -> np.ndarray:
    """The largest error in qvel of each world after a step, relative where velocities exceed 1, and in qpos."""
    expected, actual = c_step(model, worlds, 1), spatial_step(model, worlds)
    velocity = np.abs(actual[1] - expected[1]).max(axis=1) / np.maximum(1.0, np.abs(expected[1]).max(axis=1))
    return np.maximum(velocity, np.abs(actual[0] - expected[0]).max(axis=1))


class _SpatialGenerator(Generator):
    """Draws one model whose joints and geoms lie in any direction."""

    def direction(self) -> str:
        if self.chance(30):
            return self.choose("1 0 0", "0 1 0", "0 0 1", "0 -1 0")
        return vector(*self.rng.normal(size=3))

    def orientation(self) -> str:
        return f'quat="{vector(*self.rng.normal(size=4))}"' if self.chance(50) else ""

    def joint(self, kind: str) -> str:
        if kind in ("ball", "free"):
            passive = f'damping="{self.number(0, 2):.9g}" armature="{self.number(0, 0.3):.9g}"'
            if self.chance(20):
                passive += f' frictionloss="{10 ** self.number(-2, 1):.9g}"'
            if kind == "ball" and self.chance(40):
                passive += f' stiffness="{10 ** self.number(-1, 2):.9g}"'
            if kind == "ball" and self.chance(40):
                margin = f' margin="{self.number(0.01, 0.2):.9g}"' if self.chance(30) else ""
                passive += f' limited="true" range="0 {self.number(0.1, 3.5):.9g}"{margin}'
            return f'<joint type="{kind}" {passive}/>'
        out = super().joint(kind)
        start = out.index('axis="')
        end = out.index('"', start + 6)
        return out[:start] + f'axis="{self.direction()}' + out[end:]

    def geom(self, fixed: bool = False) -> str:
        x, y, z = self.rng.uniform(-0.3, 0.3, 3)
        size = f"{self.number(0.02, 0.12):.9g}"
        shape = f'"{size}" type="sphere"'
        if self.chance(70):
            shape = f'"{size} {self.number(0.05, 0.4):.9g}" type="capsule" {self.orientation()}'
        # With the floor; a sixth also with each other.
        mask = f'contype="{self.choose(0, 0, 0, 0, 0, 1)}" conaffinity="{self.choose(0, 1, 1, 1)}"'
        density = self.number(200, 3000)
        return f'<geom density="{density:.9g}" pos="{vector(x, y, z)}" size={shape} {mask}{self.contact()}/>'

    def body(self, depth: int, room: list[int]) -> str:
        """A body and its subtree; ``room`` is how many more dofs there may be."""
        roots = ("free", "free", "ball", "slide slide slide hinge", "hinge", "slide hinge hinge")
        inner = ("hinge", "hinge", "hinge hinge", "slide hinge", "ball", "ball slide", "slide", "")
        sizes = {"free": 6, "ball": 3}
        wanted = self.choose(*(roots if depth == 0 else inner)).split()
        kinds = [kind for kind in wanted if sizes.get(kind, 1) <= room[0]]
        room[0] -= sum(sizes.get(kind, 1) for kind in kinds)
        position = self.rng.uniform(-0.5, 0.5, 3) + (np.array([0, 0, 0.5]) if depth == 0 else 0.0)
        out = f'<body pos="{vector(*position)}" {self.orientation()}>' + "".join(self.joint(kind) for kind in kinds)
        if self.chance(30):
            com, turn = vector(*self.rng.uniform(-0.1, 0.1, 3)), vector(*self.rng.normal(size=4))
            mass = self.number(0.1, 5)
            out += f'<inertial pos="{com}" mass="{mass:.9g}" diaginertia="0.02 0.03 0.04" quat="{turn}"/>'
        out += "".join(self.geom() for _ in range(self.choose(1, 1, 2)))
        while room[0] > 0 and depth < 3 and self.chance(65):
            out += self.body(depth + 1, room)
        return out + "</body>"

    def floor(self) -> str:
        tilt = self.choose("", "", self.orientation())
        return (
            f'<geom name="floor" type="plane" size="5 5 1" pos="0.1 0.2 -0.3" conaffinity="0" {tilt}{self.contact()}/>'
        )

    def medium(self) -> str:
        if self.chance(60) or self.integrator == "implicitfast":
            return ""
        density, viscosity = self.choose(0, self.number(0, 2000)), self.choose(0, self.number(0, 2))
        wind = vector(*self.rng.normal(size=3)) if self.chance(50) else "0 0 0"
        return f'density="{density:.9g}" viscosity="{viscosity:.9g}" wind="{wind}"'

    def most_dofs(self) -> int:
        return int(self.rng.integers(6, 9))


def generate(seed: int) -> str:
    """MJCF of one random tree in three dimensions."""
    xml = _SpatialGenerator(seed).model()
    alone = lone_free_joint(mujoco.MjModel.from_xml_string(xml))
    return xml.replace("implicitfast", "Euler") if alone else xml


def spatial_models() -> st.SearchStrategy[str]:
    """MJCF of a tree of up to 8 dofs with random everything that the backend claims to support."""
    return st.integers(0, 2**32 - 1).map(generate)
