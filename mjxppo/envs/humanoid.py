"""Gymnasium's Humanoid-v5 and HumanoidStandup-v5."""

from __future__ import annotations

from dataclasses import dataclass, replace

import flax.struct
import jax
import jax.numpy as jnp

from mjxppo.envs import robot
from mjxppo.envs.healthy import Range, check_start, inside
from mjxppo.envs.registry import TASKS
from mjxppo.envs.robot_task import NoisyRobotOptions
from mjxppo.envs.task import Array
from mjxppo.envs.xy_task import XYTask, XYWorlds
from mjxppo.physics import BackendName, PhysicsState
from mjxppo.physics.mjx.bodies import Bodies, BodyQuantities
from mjxppo.physics.parameters import Parameters


@flax.struct.dataclass
class HumanoidWorlds(XYWorlds):
    """The state of N worlds, and what Gymnasium's environments read from ``mjData`` after a step.

    Those numbers are of the last evaluation of the dynamics (``physics.base.Evaluation``). The velocity is that of the
    centre of mass.
    """

    bodies: Bodies = flax.struct.field(kw_only=True)
    """Quantities of the bodies; the centre of mass is relative to qpos along x and y."""
    contact_forces: Array = flax.struct.field(kw_only=True)
    """``cfrc_ext`` of all bodies but the world, [N, nbody - 1, 6]."""


@dataclass(frozen=True, kw_only=True)
class HumanoidTaskOptions(NoisyRobotOptions):
    """The options of both tasks, under Gymnasium's names; the defaults are Gymnasium's."""

    frame_skip: int = 5
    ctrl_cost_weight: float = 0.1
    """Weight of the squared control."""
    reset_noise_scale: float = 1e-2
    include_cinert_in_observation: bool = True
    """Whether the bodies' inertias are observed."""
    include_cvel_in_observation: bool = True
    """Whether the bodies' velocities are observed."""
    include_qfrc_actuator_in_observation: bool = True
    """Whether the actuators' forces on the joints are observed."""
    include_cfrc_ext_in_observation: bool = True
    """Whether the contact forces are observed."""


class HumanoidTask(XYTask):
    """A robot with a free root, of which much of ``mjData`` is observed.

    Observation: qpos without x and y, qvel, then of each body its inertia (10 numbers) and velocity (6), the actuators'
    forces on all joints but the root's, and the contact force on each body (6).
    """

    options: HumanoidTaskOptions
    root = ("free",)

    def __init__(self, options: HumanoidTaskOptions, backend: BackendName = "auto", platform: str | None = None):
        super().__init__(options, backend, platform)
        robot.check_ground(self.model)
        with self._naming_the_cause(backend):
            self.physics.check_contact_forces()
            self._bodies = BodyQuantities(self.model, platform)
        seen = jax.eval_shape(lambda key: self.observe(self.initial(key[None])), jax.random.key(0))
        self.obs_size = seen.shape[1]

    def initial(self, keys: Array) -> HumanoidWorlds:
        start = super().initial(keys)
        return HumanoidWorlds(
            start.qpos,
            start.qvel,
            start.qacc_warmstart,
            velocity=jnp.zeros_like(start.qpos[:, :2]),
            bodies=self._bodies_at_start(start),
            # As Gymnasium's, which computes them after steps only.
            contact_forces=jnp.zeros((len(start.qpos), self.model.nbody - 1, 6), start.qpos.dtype),
        )

    def at_start(self, worlds: PhysicsState, parameters: Parameters | None) -> PhysicsState:
        own = PhysicsState(worlds.qpos, worlds.qvel, worlds.qacc_warmstart, parameters)
        return worlds.replace(bodies=self._bodies_at_start(own))  # type: ignore[attr-defined]

    def _bodies_at_start(self, start: PhysicsState) -> Bodies:
        no_ctrl = jnp.zeros((len(start.qpos), self.model.nu), start.qpos.dtype)
        return _relative_to(start.qpos, self._bodies(start, no_ctrl))

    def observe(self, worlds: HumanoidWorlds) -> Array:
        options, bodies = self.options, worlds.bodies
        parts = [
            (True, worlds.qpos[:, 2:]),
            (True, worlds.qvel),
            (options.include_cinert_in_observation, bodies.cinert[:, 1:]),
            (options.include_cvel_in_observation, bodies.cvel[:, 1:]),
            (options.include_qfrc_actuator_in_observation, bodies.qfrc_actuator[:, 6:]),
            (options.include_cfrc_ext_in_observation, worlds.contact_forces),
        ]
        return jnp.concatenate([x.reshape(len(x), -1) for is_seen, x in parts if is_seen], axis=-1)

    def advance(self, worlds: HumanoidWorlds, action: Array) -> tuple[HumanoidWorlds, dict[str, Array], Array]:
        ctrl, start = self.controls(action), self._start_of_step(worlds)
        moved, last = self.physics.step_with_contact_forces(start, ctrl)
        bodies = self._bodies(replace(moved, qpos=last.qpos, qvel=last.qvel), ctrl)
        lag, before = bodies.mass_center[:, :2], worlds.bodies.mass_center[:, :2] + start.qpos[:, :2]
        after = HumanoidWorlds(
            qpos=self._end_of_step(worlds, start, moved),
            qvel=moved.qvel,
            qacc_warmstart=moved.qacc_warmstart,
            parameters=moved.parameters,
            velocity=(lag - before) / self.step_duration,
            bodies=_relative_to(moved.qpos, bodies),
            contact_forces=last.cfrc_ext[:, 1:],
        )
        return after, *self._reward_and_end(after, ctrl)

    def _reward_and_end(self, worlds: HumanoidWorlds, ctrl: Array) -> tuple[dict[str, Array], Array]:
        """The reward's terms of a step that led to ``worlds``, and whether the episode terminates, each [N]."""
        raise NotImplementedError

    def _ctrl_cost(self, ctrl: Array) -> Array:
        return self.options.ctrl_cost_weight * jnp.square(ctrl).sum(-1)

    def reward_term_names(self, worlds: HumanoidWorlds, action: Array) -> list[str]:
        return list(jax.eval_shape(self._reward_and_end, worlds, action)[0])

    def reset_info(self, worlds: PhysicsState) -> dict[str, Array]:
        assert isinstance(worlds, HumanoidWorlds)
        bodies = worlds.bodies
        tendons = {"tendon_length": bodies.ten_length, "tendon_velocity": bodies.ten_velocity}
        return super().reset_info(worlds) | tendons


def _relative_to(qpos: Array, bodies: Bodies) -> Bodies:
    """``Bodies`` whose centre of mass is relative to the root, [N, nq], along x and y: precise far from the origin."""
    return replace(bodies, mass_center=bodies.mass_center.at[:, :2].add(-qpos[:, :2]))


def _squared(forces: Array) -> Array:
    """The sum of the squares of each world's numbers, [N]."""
    return jnp.square(forces).sum((1, 2))


@dataclass(frozen=True, kw_only=True)
class HumanoidOptions(HumanoidTaskOptions):
    """Gymnasium's options and defaults for Humanoid-v5."""

    xml_file: str = "humanoid.xml"
    forward_reward_weight: float = 1.25
    """Weight of the forward velocity (m/s)."""
    contact_cost_weight: float = 5e-7
    """Weight of the squared contact forces."""
    contact_cost_range: Range = (-float("inf"), 10.0)
    """The weighted squared contact forces are clipped to this range."""
    healthy_reward: float = 5.0
    """Reward for each healthy step."""
    terminate_when_unhealthy: bool = True
    """Whether an unhealthy step ends the episode."""
    healthy_z_range: Range = (1.0, 2.0)
    """Height of the torso (m); the bounds are exclusive."""


class Humanoid(HumanoidTask):
    """A robot with two legs and two arms that runs along x.

    Observation [348], see ``HumanoidTask``. Action [17]: motor controls, of which -1 and 1 are +-0.4. Reward: 1.25
    times the forward velocity of the centre of mass plus 5 while healthy minus 0.1 times the squared control minus
    5e-7 times the squared contact forces, at most 10. Terminates when z is outside (1, 2). Truncated after 1000 steps.
    """

    name = "humanoid"
    gym_id = TASKS[name].gym_id
    Options = HumanoidOptions
    options: HumanoidOptions

    def __init__(self, options: HumanoidOptions, backend: BackendName = "auto", platform: str | None = None):
        super().__init__(options, backend, platform)
        if options.terminate_when_unhealthy:
            start = float(self.model.qpos0[2])
            check_start("z", start, options.reset_noise_scale, options.healthy_z_range, "the height of its first body")

    def _reward_and_end(self, worlds: HumanoidWorlds, ctrl: Array) -> tuple[dict[str, Array], Array]:
        options, height = self.options, worlds.qpos[:, 2]
        healthy = inside(height, options.healthy_z_range)
        contact_cost = jnp.clip(
            options.contact_cost_weight * _squared(worlds.contact_forces), *options.contact_cost_range
        )
        terms = {
            "reward_survive": options.healthy_reward * healthy.astype(height.dtype),
            "reward_forward": options.forward_reward_weight * worlds.velocity[:, 0],
            "reward_ctrl": -self._ctrl_cost(ctrl),
            "reward_contact": -contact_cost,
        }
        return terms, ~healthy & options.terminate_when_unhealthy


@dataclass(frozen=True, kw_only=True)
class HumanoidStandupOptions(HumanoidTaskOptions):
    """Gymnasium's options and defaults for HumanoidStandup-v5."""

    xml_file: str = "humanoidstandup.xml"
    impact_cost_weight: float = 0.5e-6
    """Weight of the squared contact forces."""
    impact_cost_range: Range = (-float("inf"), 10.0)
    """The weighted squared contact forces are clipped to this range."""


class HumanoidStandup(HumanoidTask):
    """The same robot, which lies on its back and has to stand up.

    Observation and action are those of ``Humanoid``. Reward: the torso's height divided by the physics' time step
    (0.003 s) plus 1 minus 0.1 times the squared control minus 5e-7 times the squared contact forces, at most 10. Never
    terminates; truncated after 1000 steps.
    """

    name = "humanoid_standup"
    gym_id = TASKS[name].gym_id
    Options = HumanoidStandupOptions
    options: HumanoidStandupOptions

    def _reward_and_end(self, worlds: HumanoidWorlds, ctrl: Array) -> tuple[dict[str, Array], Array]:
        options, height = self.options, worlds.qpos[:, 2]
        impact_cost = jnp.clip(options.impact_cost_weight * _squared(worlds.contact_forces), *options.impact_cost_range)
        terms = {
            "reward_linup": height / self.model.opt.timestep,
            "reward_quadctrl": -self._ctrl_cost(ctrl),
            "reward_impact": -impact_cost,
            _CONSTANT: jnp.ones_like(height),
        }
        return terms, jnp.zeros(len(ctrl), bool)

    def reset_info(self, worlds: PhysicsState) -> dict[str, Array]:
        info = super().reset_info(worlds)
        del info["distance_from_origin"]
        return info | {"z_distance_from_origin": worlds.qpos[:, 2] - self.model.qpos0[2]}

    def step_info(self, worlds: XYWorlds, reward_terms: dict[str, Array]) -> dict[str, Array]:
        named = {name: term for name, term in reward_terms.items() if name != _CONSTANT}
        return self.reset_info(worlds) | named


_CONSTANT = "reward_constant"
"""The term of 1 in each step, which Gymnasium's ``info`` does not name."""
