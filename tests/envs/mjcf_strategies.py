"""Strategies for robots as MJCF: a plain robot that one of the tasks takes, with a few features that may not suit it.

A feature is a function that changes the file. A generator draws which features a robot has, and a seed for the numbers:
``make_case`` with some of a failing case's features makes a smaller one. Hypothesis would draw other robots in every
process, because it takes numbers from the modules that are imported.
"""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from dataclasses import dataclass

from mjcf_features import FEATURES, MJX_FEATURES, SPATIAL_FEATURES, Feature, numbers

ROOTS = {"half_cheetah": 1, "hopper": 3, "walker2d": 3}
"""The tasks of planar robots, and how many joints of the root they need."""
SPATIAL_TASKS = ("ant", "ant", *ROOTS)
"""The tasks of robots whose limbs move in three dimensions."""


@dataclass(frozen=True)
class Case:
    """A robot for a task."""

    task: str
    features: tuple[str, ...]
    frame_skip: int
    seed: int
    xml: str

    def __repr__(self) -> str:
        features = ", ".join(self.features) or "plain"
        return f"{self.task}, frame_skip {self.frame_skip}, seed {self.seed}, {features}\n{self.xml}"


def cases(rng: random.Random, features: dict[str, Feature] = FEATURES) -> Case:
    """A robot with some of ``features``."""
    while True:
        chosen = rng.sample(sorted(features), rng.randint(0, 3))
        try:
            return make_case(rng.choice(sorted(ROOTS)), chosen, rng.randint(1, 3), rng.getrandbits(32))
        except (IndexError, ValueError):
            continue  # one feature has taken away the joint or body that another changes


def spatial_cases(rng: random.Random) -> Case:
    """A robot with limbs in three dimensions, and some of the features that suit them."""
    chosen = rng.sample(sorted(SPATIAL_FEATURES), rng.randint(0, 2))
    return make_case(rng.choice(SPATIAL_TASKS), chosen, rng.randint(1, 2), rng.getrandbits(32), True)


def make_case(task: str, features: list[str], frame_skip: int, seed: int, spatial: bool = False) -> Case:
    rng = random.Random(seed)
    robot = spatial_robot(rng, task) if spatial else plain_robot(rng, ROOTS[task])
    for name in features:
        ALL[name](robot, rng)
    ET.indent(robot)
    return Case(task, tuple(features), frame_skip, seed, ET.tostring(robot, encoding="unicode"))


ALL = {**FEATURES, **MJX_FEATURES, **SPATIAL_FEATURES}


def plain_robot(rng: random.Random, num_roots: int) -> ET.Element:
    """A planar robot of up to three limbs, on a floor that it stands on or soon falls on.

    Its root is a slide along x, and with 3 of ``num_roots`` always, with 1 mostly, a slide along z and a hinge about y.
    """
    robot = ET.Element("mujoco")
    ET.SubElement(robot, "compiler", angle="radian")
    ET.SubElement(
        robot,
        "option",
        timestep=rng.choice(("0.002", "0.005", "0.01")),
        integrator=rng.choice(("Euler", "Euler", "RK4")),
    )
    world = ET.SubElement(robot, "worldbody")
    ET.SubElement(world, "geom", name="floor", type="plane", size="20 20 1", condim=rng.choice(("1", "3")))
    torso = ET.SubElement(world, "body", name="torso", pos=f"0 0 {rng.uniform(0.75, 1):.6g}")
    ET.SubElement(torso, "joint", name="rootx", type="slide", axis="1 0 0")
    if num_roots == 3 or rng.random() < 0.9:
        # As in Gymnasium's files, z is the torso's height, which the health rules of its tasks are about.
        ref = f"{rng.uniform(0.85, 1.2):.6g}" if rng.random() < 0.9 else "0"
        ET.SubElement(torso, "joint", name="rootz", type="slide", axis="0 0 1", ref=ref)
        ET.SubElement(torso, "joint", name="rooty", type="hinge", axis="0 1 0")
    ET.SubElement(torso, "geom", name="torso", **_capsule(rng, 0.3))
    actuators = ET.SubElement(robot, "actuator")
    for limb in range(rng.choice((1, 1, 2))):
        parent = torso
        for part in range(rng.choice((1, 1, 2))):
            name = f"limb{limb}{part}"
            parent = ET.SubElement(
                parent, "body", name=name, pos=numbers(rng.uniform(-0.2, 0.2), 0, rng.uniform(-0.4, -0.2))
            )
            joint = ET.SubElement(parent, "joint", name=name, type="hinge", axis=rng.choice(("0 1 0", "0 -1 0")))
            joint.set("damping", f"{rng.uniform(0.1, 2):.6g}")
            joint.set("armature", f"{rng.uniform(0.01, 0.5):.6g}")
            if rng.random() < 0.5:
                joint.set("range", numbers(rng.uniform(-1, -0.3), rng.uniform(0.3, 1)))
            ET.SubElement(parent, "geom", name=name, **_capsule(rng, 0.25))
            gear = f"{rng.uniform(5, 60):.6g}"
            ET.SubElement(
                actuators,
                "motor",
                name=name,
                joint=name,
                gear=gear,
                ctrlrange=rng.choice(("-1 1", "-1 1", "-2 2", "-0.4 1")),
            )
    return robot


def spatial_robot(rng: random.Random, task: str) -> ET.Element:
    """A robot whose root is the task's, with limbs on hinges, slides and balls in any direction.

    Its geoms touch the floor, and in a third of the robots each other. Some are boxes.
    """
    robot = plain_robot(rng, ROOTS.get(task, 3))
    torso, floor = robot.find(".//body[@name='torso']"), robot.find(".//geom[@name='floor']")
    assert torso is not None and floor is not None
    if task == "ant":
        for joint in torso.findall("joint"):
            torso.remove(joint)
        torso.insert(0, ET.Element("joint", name="root", type="free"))
        torso.set("pos", f"0 0 {rng.uniform(0.4, 0.8):.6g}")
        torso.set("euler", rng.choice(("0 0 0", "0 0 0", numbers(*(rng.uniform(-0.5, 0.5) for _ in range(3))))))
    apart = rng.random() < 0.67
    for geom in torso.iter("geom"):
        if apart:
            geom.set("contype", "0")
        if rng.random() < 0.15:
            geom.attrib.pop("fromto", None)
            geom.set("type", "box")
            geom.set("size", numbers(*(rng.uniform(0.03, 0.15) for _ in "123")))
        if rng.random() < 0.7:
            geom.set(
                "euler" if geom.get("fromto") is None else "friction", numbers(*(rng.uniform(0.2, 1) for _ in "123"))
            )
    for joint in torso.findall(".//body/joint"):
        joint.set("axis", numbers(*(rng.uniform(-1, 1) for _ in "123")))
        joint.set("pos", numbers(*(rng.uniform(-0.1, 0.1) for _ in "123")))
        if rng.random() < 0.2:
            joint.set("type", "slide")
    if rng.random() < 0.3:
        last = list(torso.iter("body"))[-1]
        tip = ET.SubElement(last, "body", pos="0.1 0.05 -0.1")
        ET.SubElement(tip, "joint", name="tip", type="ball", damping="0.1")
        ET.SubElement(tip, "geom", type="sphere", size="0.06", contype="0", pos="0.05 0 0.02")
    return robot


def _capsule(rng: random.Random, length: float) -> dict[str, str]:
    if rng.random() < 0.2:
        return {"type": "sphere", "size": f"{rng.uniform(0.05, 0.15):.6g}"}
    tip = numbers(rng.uniform(-length, length), 0, rng.uniform(-length, 0))
    return {"type": "capsule", "fromto": f"0 0 0 {tip}", "size": f"{rng.uniform(0.03, 0.08):.6g}"}
