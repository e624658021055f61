"""Settings of domain randomisation: what differs between worlds, and by how much."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from mjxppo.errors import UserError

Number = Annotated[float, Ge(-1e6), Le(1e6)]
NonNegative = Annotated[float, Ge(0), Le(1e6)]
Probability = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True)
class Spread:
    """The distribution of one quantity that is drawn for each world."""

    distribution: Literal["none", "uniform", "log_uniform", "normal"] = "none"
    """none (does not vary), uniform, log_uniform, or normal: the mean is the middle of the range, the standard
    deviation a quarter of its width, and values outside of the range are drawn again."""
    low: Number = 1.0
    """Lower end of the range."""
    high: Number = 1.0
    """Upper end of the range."""
    operation: Literal["scale", "add"] = "scale"
    """Whether the number is a factor on the model's own value or is added to it."""
    each: bool = False
    """Draw a number for each body, joint or actuator, instead of one for the whole robot."""

    @property
    def on(self) -> bool:
        """Whether anything varies."""
        return self.distribution != "none"


@dataclass(frozen=True)
class RandomizeConfig:
    """Differences of the worlds from the model; by default there are none."""

    mass: Spread = field(default_factory=Spread)
    """Masses, and with them the rotational inertias, as a change of density would; a factor."""
    inertia: Spread = field(default_factory=Spread)
    """Rotational inertias, beyond what mass does; a factor."""
    size: Spread = field(default_factory=Spread)
    """All lengths of the robot, at the density that it has: masses go with the third power, inertias with the fifth.
    One factor for all: a link's length alone is no number of a MuJoCo model."""
    friction: Spread = field(default_factory=Spread)
    """Sliding friction. Always one number for all geoms: a contact has the larger of its two geoms' friction."""
    strength: Spread = field(default_factory=Spread)
    """Force of the actuators for a control; a factor."""
    damping: Spread = field(default_factory=Spread)
    """Joint damping; what is added is added at the joints that have an actuator."""
    stiffness: Spread = field(default_factory=Spread)
    """Joint stiffness; as damping."""
    armature: Spread = field(default_factory=Spread)
    """Rotor inertia of the joints; as damping."""
    gravity: Spread = field(default_factory=Spread)
    """Gravity's size; a factor."""
    slope: Spread = field(default_factory=Spread)
    """Tilt of the ground (degrees, added; uphill is positive): gravity turns, the floor stays."""
    observation_bias: Spread = field(default_factory=Spread)
    """Error of each observation that lasts for an episode (added); always a number for each."""
    redraw: Literal["episode", "never"] = "episode"
    """When all of the above is drawn: for every episode, or once for each world and never again. The latter is faster
    where episodes are short; the policy still trains on a different robot in each world."""
    curriculum_return: Number | None = None
    """With a number, every world starts as the model itself: an episode with at least this return widens the world's
    ranges (all of the above), any other narrows them. Without, they have their full width from the start."""
    curriculum_step: Annotated[float, Gt(0), Le(1)] = 0.05
    """Share of the full ranges by which an episode widens or narrows them."""
    observation_noise: NonNegative = 0.0
    """Standard deviation of an error of each observation, new at every step."""
    max_action_delay: Annotated[int, Ge(0), Le(100)] = 0
    """Actions take effect late by 0 to this number of environment steps, drawn for each episode."""
    drop_action: Probability = 0.0
    """Probability of a step at which the action gets lost, and the one before stays in effect."""
    push: Probability = 0.0
    """Probability of a step at which the robot is pushed: its root velocities change at once."""
    push_speed: NonNegative = 0.5
    """Largest change of each root velocity by a push (m/s, and rad/s where it turns)."""

    @property
    def physical(self) -> dict[str, Spread]:
        """The quantities of the MuJoCo model that vary, by name."""
        return {name: spread for name, spread in self._spreads.items() if spread.on and name != "observation_bias"}

    @property
    def _spreads(self) -> dict[str, Spread]:
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Spread)}

    @property
    def on(self) -> bool:
        """Whether anything varies."""
        others = (self.observation_noise, self.max_action_delay, self.drop_action, self.push)
        return any(spread.on for spread in self._spreads.values()) or any(others)


_ONLY_SCALE = ("mass", "inertia", "size", "strength", "gravity")
_ONLY_ADD = ("slope", "observation_bias")
_ONLY_ONE = ("size", "friction", "gravity", "slope")
_POSITIVE = ("mass", "inertia", "size")


def check_ranges(config: RandomizeConfig) -> None:
    """Checks what depends on several fields; raises UserError, which names the first wrong field and a right value."""
    if config.curriculum_return is not None and config.redraw == "never":
        raise UserError("randomize.curriculum_return: needs randomize.redraw = episode")
    for name, spread in config._spreads.items():
        if spread.on:
            _check_spread(f"randomize.{name}", name, spread)


def _check_spread(path: str, name: str, spread: Spread) -> None:
    if spread.low > spread.high:
        raise UserError(f"{path}.low: must not be above {path}.high = {spread.high}, is {spread.low}")
    if spread.distribution == "log_uniform" and spread.low <= 0:
        raise UserError(f"{path}.low: must be positive for log_uniform, is {spread.low}")
    if name in _ONLY_SCALE and spread.operation != "scale":
        raise UserError(f"{path}.operation: must be scale, not {spread.operation}")
    if name in _ONLY_ADD and spread.operation != "add":
        raise UserError(f"{path}.operation: must be add, not {spread.operation}")
    if name in _ONLY_ONE and spread.each:
        raise UserError(f"{path}.each: must be false: there is one number for all")
    if spread.operation == "scale" and (spread.low < 0 or (spread.low == 0 and name in _POSITIVE)):
        least = "positive" if name in _POSITIVE else "0 or more"
        raise UserError(f"{path}.low: a factor must be {least}, is {spread.low}")
