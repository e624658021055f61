"""A strategy for random planar models, as MJCF."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st


def vector(*numbers: float) -> str:
    return " ".join(f"{x:.9g}" for x in numbers)


class Generator:
    """Draws one model."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.joints: list[str] = []
        self.integrator = self.choose("Euler", "RK4", "implicitfast")

    def number(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def chance(self, percent: int) -> bool:
        return bool(self.rng.integers(100) < percent)

    def choose(self, *options):
        return options[self.rng.integers(len(options))]

    def solver(self, suffix: str = "") -> str:
        """solref and solimp: saturated, linear and steep impedances, time constants below two time steps."""
        out = ""
        if self.chance(60):
            out += f' solref{suffix}="{vector(self.number(0.001, 0.05), self.number(0.3, 2.0))}"'
        if self.chance(60):
            dmin, dmax = self.number(-0.1, 0.95), self.number(0.3, 1.0)
            width = self.choose(0.0, self.number(0.001, 0.2))
            numbers = [dmin, dmax, width, self.number(0.05, 0.95), self.choose(1.0, 2.0, 3.0, self.number(1.0, 4.0))]
            out += f' solimp{suffix}="{vector(*numbers)}"'
        return out

    def joint(self, kind: str) -> str:
        name = f"j{len(self.joints)}"
        self.joints.append(name)
        out = f'<joint name="{name}" type="{kind}"'
        if kind == "hinge":
            out += f' axis="0 {self.choose(1, -1)} 0"'
            if self.chance(50):
                out += f' pos="{vector(self.number(-0.3, 0.3), self.number(-1, 1), self.number(-0.3, 0.3))}"'
        else:
            angle = self.choose(0.0, math.pi / 2, self.number(0, 2 * math.pi))
            out += f' axis="{vector(math.cos(angle), 0, math.sin(angle))}"'
        if self.chance(50):
            low = self.number(-1.5, 0.2)
            out += f' limited="true" range="{vector(low, low + self.number(0.02, 1.5))}"'
            out += f' margin="{self.choose(0.0, self.number(0, 0.3)):.9g}"' + self.solver("limit")
        for name, low, high in (("stiffness", 0, 50), ("damping", 0, 5), ("springref", -1, 1)):
            if self.chance(40):
                out += f' {name}="{self.number(low, high):.9g}"'
        # Two slides of one body may be parallel: only armature then keeps the inertia regular.
        out += f' armature="{self.number(0.05, 1):.9g}"'
        if self.chance(30):
            out += f' ref="{self.number(-0.7, 0.7):.9g}"'
        if self.chance(20):
            out += f' frictionloss="{10 ** self.number(-2, 1):.9g}"' + self.solver("friction")
        if self.chance(15):
            out += f' actuatorfrclimited="true" actuatorfrcrange="{vector(-self.number(0.1, 5), self.number(0.1, 5))}"'
        return out + "/>"

    def geom(self, fixed: bool = False) -> str:
        x, z = self.number(-0.3, 0.3), self.number(-0.3, 0.3)
        out = (
            f'<geom density="{self.number(200, 3000):.9g}" pos="{vector(x, 0, z)}" size="{self.number(0.02, 0.12):.9g}'
        )
        if self.chance(70):
            out += f' {self.number(0.05, 0.4):.9g}" type="capsule" axisangle="0 1 0 {self.number(-4, 4):.9g}"'
        else:
            out += '" type="sphere"'
        if fixed or self.chance(80):
            out += f' contype="{self.choose(1, 3)}" conaffinity="{self.choose(0, 1, 1)}"'
        else:
            out += ' contype="0" conaffinity="0"'
        return out + self.contact() + "/>"

    def contact(self) -> str:
        out = f' condim="{self.choose(1, 3)}" friction="{self.number(0.05, 2):.9g} 0.1 0.1"' + self.solver()
        if self.chance(30):
            out += f' margin="{self.number(0, 0.05):.9g}"'
        if self.chance(20):
            out += f' priority="{self.choose(0, 1)}"'
        if self.chance(30):
            out += f' solmix="{self.choose(0.0, self.number(0.1, 3)):.9g}"'
        return out

    def body(self, depth: int, room: list[int]) -> str:
        """A body and its subtree; ``room`` is how many more dofs there may be."""
        roots = (["slide", "slide", "hinge"], ["hinge"], ["slide", "hinge"], ["slide"], ["slide", "slide"])
        inner = (["hinge"], ["hinge"], ["hinge", "hinge"], ["slide", "hinge"], ["hinge", "slide"], ["slide"], [])
        kinds = self.choose(*roots) if depth == 0 else self.choose(*inner)
        if len(kinds) > room[0]:
            kinds = kinds[: room[0]]
        room[0] -= len(kinds)
        x, z = self.number(-0.5, 0.5), self.number(-0.5, 0.5) + (0.5 if depth == 0 else 0.0)
        out = f'<body pos="{vector(x, 0, z)}"'
        if self.chance(30):
            # About y, or with the body's own y axis pointing the other way.
            half = self.number(-1.5, 1.5)
            c, s = math.cos(half), math.sin(half)
            out += f' quat="{vector(*self.choose((c, 0, s, 0), (0, c, 0, s)))}"'
        out += ">" + "".join(self.joint(kind) for kind in kinds)
        if self.chance(30):
            com = vector(self.number(-0.1, 0.1), self.number(-0.2, 0.2), self.number(-0.1, 0.1))
            out += f'<inertial pos="{com}" mass="{self.number(0.1, 5):.9g}" diaginertia="0.02 0.03 0.04"'
            out += f' euler="0.3 {self.number(-2, 2):.9g} 1"/>'
        out += "".join(self.geom() for _ in range(self.choose(1, 1, 2)))
        while room[0] > 0 and depth < 4 and self.chance(65):
            out += self.body(depth + 1, room)
        return out + "</body>"

    def actuator(self, joint: str) -> str:
        gear = f'joint="{joint}" gear="{self.choose(1, -1) * self.number(1, 20):.9g}"'
        if self.chance(60):
            gear += f' ctrllimited="true" ctrlrange="{vector(-self.number(0.1, 1), self.number(0.1, 1))}"'
        if self.chance(20):
            gear += f' forcelimited="true" forcerange="{vector(-self.number(0.1, 1), self.number(0.1, 1))}"'
        kind = self.choose("motor", "motor", "position", "velocity", "general")
        if kind == "position":
            gear += f' kp="{self.number(0, 10):.9g}"'
        elif kind == "velocity":
            gear += f' kv="{self.number(0, 2):.9g}"'
        elif kind == "general":
            gear += f' gaintype="affine" gainprm="{vector(1, self.number(-1, 1), self.number(-0.1, 0.1))}"'
        return f"<{kind} {gear}/>"

    def floor(self) -> str:
        tilt = self.choose(0.0, 0.0, self.number(-0.5, 0.5))
        return (
            f'<geom name="floor" type="plane" size="5 5 1" pos="0.1 0.2 -0.3" '
            f'axisangle="0 1 0 {tilt:.9g}"{self.contact()}/>'
        )

    def medium(self) -> str:
        """What the option says of the medium: nothing, as the robot moves in a vacuum."""
        return ""

    def most_dofs(self) -> int:
        return int(self.rng.integers(2, 7))

    def tendon(self) -> str:
        """A spring and damper over some joints, slack within a range."""
        if not self.joints or self.chance(75):
            return ""
        low = self.number(-1, 1)
        rest = vector(low, low + self.choose(0.0, self.number(0, 0.5)))
        damping = 0 if self.integrator == "implicitfast" else self.choose(0, self.number(0, 3))
        parts = "".join(f'<joint joint="{j}" coef="{self.number(-2, 2):.9g}"/>' for j in self.joints[:3])
        springs = f'stiffness="{self.number(0, 30):.9g}" springlength="{rest}" damping="{damping:.9g}"'
        return f"<tendon><fixed {springs}>{parts}</fixed></tendon>"

    def model(self) -> str:
        flags = "".join(
            f' {flag}="disable"'
            for flag, percent in (("eulerdamp", 15), ("refsafe", 15), ("filterparent", 20), ("warmstart", 5))
            if self.chance(percent)
        )
        option = (
            f'<option timestep="{self.choose(0.002, 0.005, 0.01)}" integrator="{self.integrator}" '
            f'gravity="{vector(self.number(-3, 3), self.number(-2, 2), self.number(-10, 0))}" '
            f'impratio="{self.choose(1.0, self.number(0.5, 5)):.9g}" {self.medium()}><flag{flags}/></option>'
        )
        world = self.floor()
        if self.chance(25):
            world += self.geom(fixed=True)
        room = [self.most_dofs()]
        world += self.body(0, room)
        if room[0] > 0 and self.chance(30):
            world += self.body(0, room)
        actuators = "".join(self.actuator(joint) for joint in self.joints if self.chance(60))
        return (
            f'<mujoco><compiler angle="radian" autolimits="false"/>{option}<worldbody>{world}</worldbody>'
            f"<actuator>{actuators}</actuator>{self.tendon()}</mujoco>"
        )


def generate(seed: int) -> str:
    """MJCF of one random planar tree."""
    return Generator(seed).model()


def planar_models() -> st.SearchStrategy[str]:
    """MJCF of a planar tree of up to 6 dofs with random everything that the backend claims to support.

    Hypothesis draws only the seed: left to itself it prefers small models of round numbers.
    """
    return st.integers(0, 2**32 - 1).map(generate)


def generated(max_examples: int) -> settings:
    """Hypothesis settings for ``max_examples`` models, the same ones every time."""
    return settings(
        max_examples=max_examples,
        derandomize=True,
        deadline=None,
        # A seed does not shrink.
        phases=[Phase.generate],
        database=None,
        suppress_health_check=list(HealthCheck),
    )
