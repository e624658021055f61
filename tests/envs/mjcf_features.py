"""Features of MJCF files, each a function that gives a plain robot the feature, with numbers at random."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from collections.abc import Callable

Feature = Callable[[ET.Element, random.Random], None]
FEATURES: dict[str, Feature] = {}
"""Features for robots that ``planar`` takes or that are refused, by name."""
MJX_FEATURES: dict[str, Feature] = {}
"""Features that ``planar`` leaves to ``mjx``."""
SPATIAL_FEATURES: dict[str, Feature] = {}
"""Features of robots in three dimensions."""


def feature(function: Feature) -> Feature:
    FEATURES[function.__name__] = function
    return function


def mjx_feature(function: Feature) -> Feature:
    MJX_FEATURES[function.__name__] = function
    return function


def numbers(*values: float) -> str:
    return " ".join(f"{x:.9g}" for x in values)


def some(rng: random.Random, elements: list[ET.Element]) -> list[ET.Element]:
    """One to all of the elements; none where there are none."""
    return rng.sample(elements, rng.randint(1, len(elements))) if elements else []


def set_some(robot: ET.Element, rng: random.Random, tag: str, **attributes: Callable[[], str]) -> None:
    """Gives some of the robot's elements attributes, whose values are drawn for each."""
    for element in some(rng, list(robot.iter(tag))):
        for name, draw in attributes.items():
            element.set(name, draw())


def joints(robot: ET.Element) -> list[ET.Element]:
    return list(robot.iter("joint"))


def roots(robot: ET.Element) -> list[ET.Element]:
    return [joint for joint in joints(robot) if (joint.get("name") or "").startswith("root")]


def limbs(robot: ET.Element) -> list[ET.Element]:
    return [joint for joint in joints(robot) if (joint.get("name") or "").startswith("limb")]


def world(robot: ET.Element) -> ET.Element:
    return found(robot, "worldbody")


def torso(robot: ET.Element) -> ET.Element:
    return found(robot, ".//body[@name='torso']")


def found(robot: ET.Element, path: str) -> ET.Element:
    element = robot.find(path)
    assert element is not None, path
    return element


def section(robot: ET.Element, tag: str) -> ET.Element:
    """The robot's section ``tag``, which is added where it has none."""
    element = robot.find(tag)
    return ET.SubElement(robot, tag) if element is None else element


def number(rng: random.Random, low: float, high: float) -> Callable[[], str]:
    return lambda: numbers(rng.uniform(low, high))


# The root.


@feature
def root_in_another_order(robot, rng):
    body = torso(robot)
    order = body.findall("joint")
    for joint in order:
        body.remove(joint)
    for joint in rng.sample(order, len(order)):
        body.insert(0, joint)


@feature
def root_with_odd_names(robot, rng):
    names = rng.sample(["rootz", "a b", "äß", "x/y", "0", ""], 3)
    for joint, name in zip(torso(robot).findall("joint"), names, strict=False):
        if name:
            joint.set("name", name)
        else:
            del joint.attrib["name"]


@feature
def root_limited(robot, rng):
    for joint in some(rng, torso(robot).findall("joint")):
        joint.set("range", numbers(rng.uniform(-1, -0.05), rng.uniform(0.05, 1)))


@feature
def root_with_forces(robot, rng):
    """Springs, damping, armature."""
    for joint in some(rng, torso(robot).findall("joint")):
        joint.set(rng.choice(("stiffness", "damping")), numbers(rng.uniform(1, 50)))
        joint.set("armature", numbers(rng.uniform(0, 1)))
        joint.set("springref", numbers(rng.uniform(-0.5, 0.5)))


@feature
def root_reversed(robot, rng):
    for joint in some(rng, torso(robot).findall("joint")):
        joint.set("axis", " ".join(numbers(-3 * float(x)) for x in joint.get("axis", "0 0 1").split()))


@feature
def root_with_reference(robot, rng):
    for joint in some(rng, torso(robot).findall("joint")):
        joint.set("ref", numbers(rng.uniform(-1, 1)))


@feature
def root_in_several_bodies(robot, rng):
    body = torso(robot)
    x = body.findall("joint")[0]
    body.remove(x)
    world(robot).remove(body)
    carrier = ET.SubElement(world(robot), "body", name="carrier", pos=numbers(rng.uniform(-1, 1), 0, 0))
    carrier.append(x)
    ET.SubElement(carrier, "inertial", pos="0 0 0", mass="0.5", diaginertia="0.01 0.01 0.01")
    carrier.append(body)


@feature
def root_turned(robot, rng):
    torso(robot).set(
        "euler",
        rng.choice(("0 0.3 0", "0 0 3.14159265358979", "0 3.14159265358979 0", "0 0 0.2", "3.141592653589793 0 0")),
    )


@feature
def root_moved(robot, rng):
    torso(robot).set("pos", numbers(rng.uniform(-3, 3), rng.choice((0, 0, 0.5)), rng.uniform(0.6, 1.2)))


@feature
def root_oblique(robot, rng):
    rng.choice(torso(robot).findall("joint")).set("axis", numbers(*(rng.uniform(-1, 1) for _ in range(3))))


@feature
def root_is_free(robot, rng):
    body = torso(robot)
    for joint in body.findall("joint"):
        body.remove(joint)
    body.insert(0, ET.Element(rng.choice(("freejoint", "joint")), name="root"))


@feature
def root_with_another_joint(robot, rng):
    joint = ET.Element(
        "joint", name="rootw", type=rng.choice(("slide", "hinge")), axis=rng.choice(("1 0 0", "0 0 1", "0 1 0"))
    )
    joint.set("armature", "0.1")
    torso(robot).insert(rng.randint(0, 4), joint)


@feature
def root_missing(robot, rng):
    body = torso(robot)
    body.remove(rng.choice(body.findall("joint")))


@feature
def another_body_before_the_robot(robot, rng):
    body = movable(robot, rng)
    world(robot).remove(body)
    world(robot).insert(0, body)


@feature
def another_body_after_the_robot(robot, rng):
    movable(robot, rng)


def movable(robot: ET.Element, rng: random.Random) -> ET.Element:
    """A sphere near the robot that moves on a slide or a hinge."""
    body = ET.SubElement(world(robot), "body", name="movable", pos=numbers(rng.uniform(-1, 1), 0, rng.uniform(0.3, 1)))
    kind, axis = rng.choice((("slide", "1 0 0"), ("slide", "0 0 1"), ("hinge", "0 1 0")))
    ET.SubElement(body, "joint", type=kind, axis=axis, damping="0.5")
    ET.SubElement(body, "geom", type="sphere", size="0.1", pos=numbers(rng.uniform(-0.2, 0.2), 0, 0))
    return body


# Joints.


@feature
def joints_with_passive_forces(robot, rng):
    for joint in some(rng, limbs(robot)):
        joint.set("stiffness", numbers(rng.uniform(0, 50)))
        joint.set("springref", numbers(rng.uniform(-1, 1)))
        joint.set("damping", numbers(rng.uniform(0, 3)))


@feature
def joints_with_limits(robot, rng):
    for joint in some(rng, limbs(robot)):
        low = rng.uniform(-1, 0.1)
        joint.set("range", numbers(low, low + rng.uniform(0.05, 1)))
        joint.set("margin", numbers(rng.choice((0, rng.uniform(0, 0.2)))))
        solver_parameters(joint, rng, "limit")


@feature
def joints_with_references(robot, rng):
    for joint in some(rng, limbs(robot)):
        joint.set("ref", numbers(rng.uniform(-1, 1)))


@feature
def joints_with_force_ranges(robot, rng):
    for joint in some(rng, limbs(robot)):
        joint.set("actuatorfrcrange", numbers(-rng.uniform(0.5, 10), rng.uniform(0.5, 10)))


@feature
def joint_extra(robot, rng):
    body = rng.choice([body for body in robot.iter("body") if body is not torso(robot)])
    kind = rng.choice(("hinge", "slide", "slide"))
    axis = "0 1 0" if kind == "hinge" else rng.choice(("1 0 0", "0 0 1", "1 0 1"))
    body.insert(
        0, ET.Element("joint", type=kind, axis=axis, armature="0.05", pos=numbers(rng.uniform(-0.1, 0.1), 0, 0))
    )


@feature
def joint_out_of_the_plane(robot, rng):
    rng.choice(joints(robot)).set("axis", rng.choice(("1 0 0", "0 0 1", "0 1 0.1", "1 1 0")))


@feature
def joint_with_steep_damping(robot, rng):
    """Damping and springs that are polynomials."""
    joint = rng.choice(joints(robot))
    joint.set(rng.choice(("damping", "stiffness")), numbers(*(rng.uniform(0, 2) for _ in range(rng.choice((2, 3))))))


def solver_parameters(element: ET.Element, rng: random.Random, suffix: str = "") -> None:
    element.set(f"solref{suffix}", numbers(rng.uniform(0.005, 0.05), rng.uniform(0.3, 2)))
    if rng.random() < 0.5:
        numbers_ = (
            rng.uniform(0, 0.95),
            rng.uniform(0.5, 1),
            rng.uniform(0.001, 0.1),
            rng.uniform(0.1, 0.9),
            rng.uniform(1, 3),
        )
        element.set(f"solimp{suffix}", numbers(*numbers_))


# Actuators.


def actuators(robot: ET.Element) -> list[ET.Element]:
    return list(found(robot, "actuator"))


@feature
def actuators_of_other_kinds(robot, rng):
    for actuator in some(rng, actuators(robot)):
        kind = rng.choice(("position", "velocity", "general", "damper"))
        actuator.tag = kind
        if kind == "position":
            actuator.set("kp", numbers(rng.uniform(1, 30)))
            actuator.set(*rng.choice((("kv", "0.5"), ("dampratio", "1"), ("gear", "-1"))))
        elif kind == "velocity":
            actuator.set("kv", numbers(rng.uniform(0.1, 3)))
        elif kind == "damper":
            actuator.set("kv", numbers(rng.uniform(0.1, 3)))
            actuator.set("ctrlrange", "0 1")
            actuator.set("gear", "1")
        else:
            actuator.set("gaintype", "affine")
            actuator.set("gainprm", numbers(rng.uniform(0.5, 3), rng.uniform(-1, 1), rng.uniform(-0.3, 0.1)))
            actuator.set("biastype", "affine")
            actuator.set("biasprm", numbers(rng.uniform(-1, 1), rng.uniform(-10, 0), rng.uniform(-0.5, 0)))


@feature
def actuators_with_ranges(robot, rng):
    for actuator in some(rng, actuators(robot)):
        low = rng.uniform(-5, 2)
        actuator.set("ctrlrange", numbers(low, low + rng.choice((0.01, rng.uniform(0.1, 10)))))
        if rng.random() < 0.5:
            actuator.set("forcerange", numbers(-rng.uniform(0.1, 1), rng.uniform(0.1, 1)))


@feature
def actuators_with_gears(robot, rng):
    for actuator in some(rng, actuators(robot)):
        actuator.set("gear", numbers(rng.choice((-1, 1)) * rng.choice((0, 1e-3, rng.uniform(1, 100)))) + " 1 2 3 4 5")


@feature
def actuator_without_range(robot, rng):
    actuator = rng.choice(actuators(robot))
    if rng.random() < 0.5:
        del actuator.attrib["ctrlrange"]
    else:
        actuator.set("ctrllimited", "false")


@feature
def actuator_on_the_root(robot, rng):
    joint = rng.choice(torso(robot).findall("joint"))
    kind = rng.choice(("motor", "position", "velocity"))
    ET.SubElement(found(robot, "actuator"), kind, joint=joint.get("name", "rootx"), ctrlrange="-1 1", gear="5")


@feature
def actuators_in_any_order(robot, rng):
    """Also several on one joint, one joint in the parent's frame, joints without one."""
    parts = actuators(robot)
    for part in parts:
        found(robot, "actuator").remove(part)
    for part in rng.sample(parts, rng.randint(0 if rng.random() < 0.1 else 1, len(parts))):
        found(robot, "actuator").append(part)
        if rng.random() < 0.5:
            again = ET.SubElement(found(robot, "actuator"), "motor", ctrlrange="-1 1", gear="3")
            again.set(rng.choice(("joint", "jointinparent")), part.get("joint", ""))


@feature
def actuator_with_a_state(robot, rng):
    actuator = rng.choice(actuators(robot))
    actuator.tag = rng.choice(("general", "intvelocity", "muscle", "cylinder", "position"))
    if actuator.tag == "general":
        actuator.set("dyntype", rng.choice(("integrator", "filter", "filterexact")))
        actuator.set("dynprm", "0.1")
    elif actuator.tag == "intvelocity":
        actuator.set("actrange", "-1 1")
    elif actuator.tag == "position":
        actuator.set("timeconst", "0.1")
    elif actuator.tag == "muscle":
        actuator.set("lengthrange", "0.1 1")
        actuator.set("ctrlrange", "0 1")


@feature
def actuator_in_a_disabled_group(robot, rng):
    rng.choice(actuators(robot)).set("group", "2")
    found(robot, "option").set("actuatorgroupdisable", "2")


@feature
def actuator_with_its_own_dynamics(robot, rng):
    actuator = rng.choice(actuators(robot))
    for name, value in rng.choice(({"armature": "0.1"}, {"damping": "0.5"}, {"delay": "0.02", "nsample": "4"})).items():
        actuator.set(name, value)


@feature
def actuator_at_a_site(robot, rng):
    ET.SubElement(torso(robot), "site", name="thruster", pos="0.1 0 0")
    gear = numbers(rng.uniform(-5, 5), 0, rng.uniform(0, 20), 0, rng.uniform(-2, 2), 0)
    ET.SubElement(found(robot, "actuator"), "motor", site="thruster", gear=gear, ctrlrange="-1 1")


# Geoms.


@feature
def geoms_with_contact_parameters(robot, rng):
    for geom in some(rng, list(robot.iter("geom"))):
        geom.set("friction", numbers(rng.uniform(0, 2), 0.01, 0.001))
        geom.set("condim", rng.choice(("1", "3", "3", "3", "4", "6") if rng.random() < 0.2 else ("1", "3")))
        geom.set("solmix", numbers(rng.choice((0, 1, rng.uniform(0.1, 3)))))
        geom.set("priority", rng.choice("0001"))
        solver_parameters(geom, rng)


@feature
def geoms_with_margins(robot, rng):
    for geom in some(rng, list(robot.iter("geom"))):
        geom.set("margin", numbers(rng.uniform(0, 0.05)))
        if rng.random() < 0.2:
            geom.set("gap", numbers(rng.uniform(0, 0.05)))


@feature
def geoms_with_stiffness_of_contact(robot, rng):
    """The direct form of solref."""
    for geom in some(rng, list(robot.iter("geom"))):
        geom.set("solref", numbers(-rng.uniform(500, 5000), -rng.uniform(10, 100)))


@feature
def geoms_that_touch_some(robot, rng):
    for geom in some(rng, list(robot.iter("geom"))):
        geom.set("contype", rng.choice("0123"))
        geom.set("conaffinity", rng.choice("0123"))


@feature
def geoms_of_other_shapes(robot, rng):
    for geom in some(rng, list(torso(robot).iter("geom"))):
        other_shape(geom, rng)
        if rng.random() < 0.5:
            geom.set("contype", "0")
            geom.set("conaffinity", "0")


def other_shape(geom: ET.Element, rng: random.Random) -> None:
    geom.attrib.pop("fromto", None)
    geom.set("type", rng.choice(("box", "cylinder", "ellipsoid")))
    geom.set("size", numbers(*(rng.uniform(0.05, 0.15) for _ in range(3))))


@feature
def geoms_beside_the_plane(robot, rng):
    for body in some(rng, list(robot.iter("body"))):
        geom = ET.SubElement(body, "geom", type=rng.choice(("capsule", "sphere")), size="0.05 0.1")
        geom.set("pos", numbers(0, rng.choice((-0.3, 0.1)), -0.1))
        geom.set("euler", rng.choice(("0 0 0", "1.5707963267949 0 0", "0 0.4 0", "0.4 0 0")))
        geom.set("contype", rng.choice("01"))


@feature
def geoms_with_masses(robot, rng):
    for geom in some(rng, list(torso(robot).iter("geom"))):
        geom.set(
            *rng.choice(
                (
                    ("mass", numbers(rng.uniform(0.1, 5))),
                    ("density", numbers(rng.uniform(100, 5000))),
                    ("shellinertia", "true"),
                )
            )
        )


@feature
def bodies_with_inertias(robot, rng):
    for body in some(rng, list(robot.iter("body"))):
        if body.find("inertial") is None:
            ET.SubElement(
                body,
                "inertial",
                pos=numbers(rng.uniform(-0.1, 0.1), rng.choice((0, 0.05)), rng.uniform(-0.1, 0.1)),
                mass=numbers(rng.uniform(0.2, 4)),
                diaginertia="0.02 0.03 0.04",
                euler=numbers(0.3, rng.uniform(-2, 2), 1),
            )


@feature
def bodies_with_gravity_of_their_own(robot, rng):
    rng.choice(list(robot.iter("body"))).set("gravcomp", rng.choice(("1", "0.5")))


@feature
def bodies_turned(robot, rng):
    for body in some(rng, [body for body in robot.iter("body") if body is not torso(robot)]):
        body.set("euler", rng.choice((f"0 {rng.uniform(-1, 1):.6g} 0", "0 0 3.14159265358979", "0 0 0.3")))


# The world.


@feature
def floor_tilted(robot, rng):
    for floor in robot.iter("geom"):
        if floor.get("name") == "floor":
            floor.set(
                "euler",
                numbers(*rng.choice(((0, rng.uniform(-0.3, 0.3), 0), (rng.uniform(-0.3, 0.3), 0, 0), (0, 0, 1)))),
            )


@feature
def floor_missing(robot, rng):
    for floor in world(robot).findall("geom"):
        world(robot).remove(floor)


@feature
def floors(robot, rng):
    """More planes: below or above the floor, walls, ramps."""
    for _ in range(rng.randint(1, 2)):
        plane = ET.SubElement(world(robot), "geom", type="plane", size="0 0 1")
        tilt = rng.choice((0, 0, 1.5707963267949, -1.5707963267949, rng.uniform(-0.5, 0.5)))
        plane.set("pos", numbers(-2 * tilt, 0, rng.uniform(-0.3, 0.2)))
        plane.set("euler", numbers(0, tilt, 0))


@feature
def obstacles(robot, rng):
    for _ in range(rng.randint(1, 3)):
        obstacle = ET.SubElement(
            world(robot), "geom", type=rng.choice(("sphere", "capsule")), size=numbers(rng.uniform(0.05, 0.3), 0.2)
        )
        obstacle.set("pos", numbers(rng.uniform(-2, 2), 0, rng.uniform(-0.1, 0.3)))
        obstacle.set("euler", numbers(0, rng.uniform(-2, 2), 0))


@feature
def obstacles_beside_the_plane(robot, rng):
    obstacle = ET.SubElement(
        world(robot), "geom", type="sphere", size="0.2", pos=numbers(rng.uniform(-1, 1), rng.choice((0.1, 0.25, 5)), 0)
    )
    obstacle.set("condim", rng.choice("13"))


@feature
def obstacles_of_other_shapes(robot, rng):
    obstacle = ET.SubElement(world(robot), "geom", name="obstacle", pos=numbers(rng.uniform(0.2, 1), 0, 0))
    other_shape(obstacle, rng)
    if rng.random() < 0.5:
        obstacle.set("contype", "0")
        obstacle.set("conaffinity", "0")


@feature
def scenery(robot, rng):
    """Bodies in the world that do not move, with or without something to touch; marks, cameras and lights."""
    body = ET.SubElement(world(robot), "body", pos=numbers(rng.uniform(-1, 1), 0, rng.uniform(0, 0.3)))
    touch = rng.choice("01")
    ET.SubElement(body, "geom", type="sphere", size="0.1", contype=touch, conaffinity=touch)
    for tag in ("site", "camera", "light"):
        ET.SubElement(rng.choice((body, torso(robot), world(robot))), tag, pos="0 0 1")


@feature
def mocap_body(robot, rng):
    body = ET.SubElement(world(robot), "body", name="mocap", mocap="true", pos=numbers(rng.uniform(-1, 1), 0, 0.2))
    touch = rng.choice("01")
    ET.SubElement(body, "geom", type="sphere", size="0.1", contype=touch, conaffinity=touch)


@feature
def robot_inside_a_body(robot, rng):
    """The robot's body is in one that is fixed to the world."""
    body = torso(robot)
    world(robot).remove(body)
    frame = ET.SubElement(world(robot), rng.choice(("body", "frame")), pos=numbers(rng.uniform(-1, 1), 0, 0))
    if rng.random() < 0.4:
        frame.set("euler", rng.choice(("0 0 3.141592653589793", "0 0.2 0")))
    frame.append(body)


@feature
def world_in_the_body_of_the_robot(robot, rng):
    """The robot's body is in one that is fixed to the world and holds geoms, bodies or the floor, too."""
    robot_inside_a_body(robot, rng)
    frame = found(robot, "worldbody/*/body[@name='torso']/..")
    frame.tag = "body"
    if rng.random() < 0.3:
        for floor in world(robot).findall("geom"):
            world(robot).remove(floor)
            frame.append(floor)
    for _ in range(rng.randint(0, 2)):
        place = ET.SubElement(frame, "body", pos=numbers(rng.uniform(-1, 1), 0, rng.uniform(0, 0.3)))
        if rng.random() < 0.3:
            ET.SubElement(place, "joint", type="slide", axis="0 0 1")
        ET.SubElement(place, "geom", type="sphere", size=numbers(rng.uniform(0.1, 0.3)))


# Options.


@feature
def gravity(robot, rng):
    found(robot, "option").set("gravity", numbers(rng.uniform(-5, 5), rng.choice((0, 1)), rng.uniform(-15, 0)))


@feature
def fluid(robot, rng):
    option = found(robot, "option")
    option.set("wind", numbers(rng.uniform(-5, 5), rng.choice((0, 1)), 0))
    if rng.random() < 0.7:
        option.set(rng.choice(("density", "viscosity")), numbers(rng.uniform(0.1, 3)))


@feature
def fluid_around_geoms(robot, rng):
    found(robot, "option").set("density", "100")
    rng.choice(list(torso(robot).iter("geom"))).set("fluidshape", "ellipsoid")


@feature
def integrator(robot, rng):
    found(robot, "option").set("integrator", rng.choice(("Euler", "RK4", "implicit", "implicitfast")))


@feature
def solver(robot, rng):
    """What is not followed, because the solver always converges."""
    option = found(robot, "option")
    option.set("solver", rng.choice(("PGS", "CG", "Newton")))
    option.set("iterations", rng.choice(("1", "10", "100")))
    option.set("tolerance", rng.choice(("0", "1e-3")))
    option.set("jacobian", rng.choice(("dense", "sparse", "auto")))


@feature
def contact_options(robot, rng):
    option = found(robot, "option")
    option.set("impratio", numbers(rng.uniform(0.5, 10)))
    if rng.random() < 0.2:
        option.set(*rng.choice((("cone", "elliptic"), ("noslip_iterations", "3"))))


@feature
def flags(robot, rng):
    flag = section(found(robot, "option"), "flag")
    names = ("constraint", "frictionloss", "limit", "contact", "spring", "damper", "gravity", "clampctrl", "warmstart")
    names += (
        "filterparent",
        "actuation",
        "refsafe",
        "midphase",
        "eulerdamp",
        "nativeccd",
        "equality",
        "island",
        "autoreset",
    )
    for name in rng.sample(names, rng.randint(1, 3)):
        flag.set(name, "disable")
    if rng.random() < 0.3:
        flag.set(rng.choice(("override", "energy", "fwdinv", "sleep", "multiccd", "invdiscrete")), "enable")
        found(robot, "option").set("o_margin", "0.02")


# Other sections.


@feature
def degrees(robot, rng):
    """Angles in degrees, which is MJCF's default: the numbers of the file mean other angles."""
    compiler = found(robot, "compiler")
    compiler.set("angle", "degree")
    compiler.set("eulerseq", rng.choice(("xyz", "zyx", "XYZ", "yxz")))
    for joint in robot.iter("joint"):
        if "range" in joint.attrib and joint.get("type") == "hinge":
            joint.set("range", " ".join(numbers(57.3 * float(x)) for x in joint.get("range", "").split()))


@feature
def compiler_settings(robot, rng):
    settings = {
        "inertiafromgeom": ("true", "auto"),
        "boundmass": ("1",),
        "boundinertia": ("0.01",),
        "settotalmass": ("10",),
        "fusestatic": ("true",),
        "discardvisual": ("true",),
        "autolimits": ("false", "true"),
        "alignfree": ("true",),
        "balanceinertia": ("true",),
    }
    for name in rng.sample(sorted(settings), 2):
        found(robot, "compiler").set(name, rng.choice(settings[name]))


@feature
def defaults(robot, rng):
    section_ = ET.Element("default")
    robot.insert(1, section_)
    ET.SubElement(section_, "joint", damping="0.7", armature="0.05", solreflimit="0.03 1")
    ET.SubElement(section_, "geom", friction="0.7 0.1 0.1", margin="0.002", solimp="0.8 0.9 0.01", density="800")
    ET.SubElement(section_, "motor", ctrlrange="-1.5 1.5", gear="7")
    own = ET.SubElement(section_, "default", **{"class": "own"})
    ET.SubElement(
        own,
        "joint",
        stiffness="3",
        **rng.choice(({}, {"frictionloss": "0.1"}, {"limited": "true", "range": "-0.5 0.5"})),
    )
    ET.SubElement(own, "geom", contype="1", conaffinity=rng.choice("01"))
    for body in some(rng, list(robot.iter("body"))):
        body.set("childclass", "own")
    for actuator in some(rng, actuators(robot)):
        actuator.attrib.pop("ctrlrange", None)


@feature
def sensors(robot, rng):
    sensor = section(robot, "sensor")
    ET.SubElement(sensor, "jointpos", joint=limbs(robot)[0].get("name", ""), noise="0.1", cutoff="0.5")
    ET.SubElement(sensor, "subtreecom", body="torso")


@feature
def keyframes(robot, rng):
    ET.SubElement(section(robot, "keyframe"), "key", name="home", time="1")


@feature
def statistics(robot, rng):
    ET.SubElement(
        robot, "statistic", **{rng.choice(("meaninertia", "meanmass", "extent")): numbers(rng.uniform(0.1, 100))}
    )


@feature
def custom_numbers(robot, rng):
    custom = section(robot, "custom")
    ET.SubElement(custom, "numeric", name=rng.choice(("max_contact_points", "max_geom_pairs", "init_qpos")), data="1")


@feature
def contact_pairs(robot, rng):
    contact = section(robot, "contact")
    geoms = [geom.get("name", "") for geom in torso(robot).iter("geom") if geom.get("name")]
    if rng.random() < 0.5:
        ET.SubElement(contact, "exclude", body1="torso", body2=rng.choice(["world", "limb00"]))
    else:
        ET.SubElement(contact, "pair", geom1="floor", geom2=rng.choice(geoms), margin="0.01")


@feature
def memory(robot, rng):
    size = section(robot, "size")
    size.set("memory", rng.choice(("100K", "1M", "10K")))
    size.set("nuserdata", "5")


@feature
def tendon_or_equality(robot, rng):
    rng.choice(list(LINKS.values()))(robot, rng)


# What is simulated by mjx.


@mjx_feature
def dry_friction(robot, rng):
    for joint in some(rng, joints(robot)):
        joint.set("frictionloss", numbers(rng.uniform(0.01, 2)))


def tendon(robot, rng):
    fixed = ET.SubElement(section(robot, "tendon"), "fixed", name="tendon", range="-0.2 0.3")
    for joint in limbs(robot)[:2]:
        ET.SubElement(fixed, "joint", joint=joint.get("name", ""), coef=numbers(rng.uniform(-1, 1)))
    name, value = rng.choice(
        (("stiffness", "5"), ("damping", "1"), ("frictionloss", "0.5"), ("margin", "0.01"), ("armature", "0.1"))
    )
    fixed.set(name, value)
    if rng.random() < 0.4:
        ET.SubElement(found(robot, "actuator"), "motor", tendon="tendon", ctrlrange="-1 1")


def tendon_in_space(robot, rng):
    ET.SubElement(torso(robot), "site", name="from", pos="0.1 0 0.1")
    ET.SubElement(found(robot, ".//body[@name='limb00']"), "site", name="to", pos="0 0 -0.1")
    spatial = ET.SubElement(section(robot, "tendon"), "spatial", stiffness="20", springlength="0.1")
    for name in ("from", "to"):
        ET.SubElement(spatial, "site", site=name)


def equality_of_joints(robot, rng):
    pair = [joint.get("name", "") for joint in limbs(robot)[:2]]
    part = ET.SubElement(section(robot, "equality"), "joint", joint1=pair[0], polycoef=numbers(0.1, 0.5, 0, 0, 0))
    if len(pair) == 2:
        part.set("joint2", pair[1])
    part.set("active", rng.choice(("true", "true", "false")))


def equality_of_places(robot, rng):
    tag = rng.choice(("connect", "weld"))
    part = ET.SubElement(section(robot, "equality"), tag, body1="torso", body2="limb00")
    if tag == "connect":
        part.set("anchor", "0.05 0 -0.1")


LINKS = {f.__name__: f for f in (tendon, tendon_in_space, equality_of_joints, equality_of_places)}
MJX_FEATURES.update(LINKS)


@mjx_feature
def boxes_and_more(robot, rng):
    for geom in some(rng, list(torso(robot).iter("geom"))):
        other_shape(geom, rng)


for shared in (
    "obstacles_of_other_shapes",
    "mocap_body",
    "another_body_after_the_robot",
    "geoms_with_stiffness_of_contact",
):
    MJX_FEATURES[shared] = FEATURES[shared]
for shared in (
    "joint_with_steep_damping",
    "bodies_with_gravity_of_their_own",
    "fluid",
    "fluid_around_geoms",
    "integrator",
):
    MJX_FEATURES[shared] = FEATURES[shared]
for shared in (
    "actuator_at_a_site",
    "contact_pairs",
    "actuator_with_its_own_dynamics",
    "geoms_with_margins",
    "geoms_beside_the_plane",
):
    MJX_FEATURES[shared] = FEATURES[shared]

for shared in (
    "another_body_before_the_robot",
    "another_body_after_the_robot",
    "joints_with_passive_forces",
    "joints_with_limits",
    "joints_with_references",
    "joints_with_force_ranges",
    "joint_extra",
    "joint_with_steep_damping",
    "actuators_of_other_kinds",
    "actuators_with_ranges",
    "actuators_with_gears",
    "actuators_in_any_order",
    "actuator_on_the_root",
    "actuator_at_a_site",
    "geoms_with_contact_parameters",
    "geoms_with_margins",
    "geoms_with_stiffness_of_contact",
    "geoms_that_touch_some",
    "geoms_of_other_shapes",
    "geoms_with_masses",
    "bodies_with_inertias",
    "bodies_with_gravity_of_their_own",
    "bodies_turned",
    "floor_tilted",
    "floor_missing",
    "floors",
    "obstacles",
    "scenery",
    "mocap_body",
    "robot_inside_a_body",
    "world_in_the_body_of_the_robot",
    "gravity",
    "fluid",
    "integrator",
    "solver",
    "contact_options",
    "flags",
    "compiler_settings",
    "sensors",
    "keyframes",
    "statistics",
    "contact_pairs",
):
    SPATIAL_FEATURES[shared] = FEATURES[shared]
