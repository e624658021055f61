"""The controls beside the scene."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import viser

from mjxppo.view.simulation import MAX_DELAY, Simulation

SPEEDS = {"0.1x": 0.1, "0.25x": 0.25, "0.5x": 0.5, "1x (real time)": 1.0, "2x": 2.0, "4x": 4.0}
_NORMAL = "1x (real time)"
_SLIDERS = {"friction": (0.1, 3.0, 0.05), "mass": (0.3, 3.0, 0.05), "gravity": (0.1, 3.0, 0.05)}
_TEXTS = {
    "friction": "Factor on the sliding friction.",
    "mass": "Factor on the masses and rotational inertias.",
    "gravity": "Factor on gravity.",
}


class Settings(NamedTuple):
    """What the controls say."""

    paused: bool
    speed: float
    """Simulated seconds in a second."""
    changes: dict[str, float]
    delay: int
    begin_again: bool
    """Whether an episode that terminated is followed by a new one."""
    best: bool
    command: list[float] | None
    """In the order of ``Simulation.command_ranges``; None: the task draws its own."""


class Panel:
    """The controls; presses of buttons wait in lists of names until they are taken."""

    def __init__(self, server: viser.ViserServer, simulation: Simulation, best: bool, follows: bool):
        """Adds everything to the server's page; ``follows`` says whether there are newest and best policies."""
        gui = server.gui
        gui.configure_theme(show_share_button=False, show_logo=False, control_width="medium")
        self._pressed: deque[str] = deque()
        self._gui = gui
        self._status = gui.add_markdown("")
        self._paused = False
        names = ("newest", "best")
        self._policy = gui.add_dropdown(
            "Policy", names, initial_value=names[best], visible=follows, hint="Of the run, also while it trains."
        )
        with gui.add_folder("Time"):
            self._play = gui.add_button("Pause")
            self._play.on_click(lambda _: self._set_paused(not self._paused))
            self._button("One step", "step")
            self._button("Reset", "reset")
            self._speed = gui.add_dropdown("Speed", tuple(SPEEDS), initial_value=_NORMAL)
            self._again = gui.add_checkbox("Begin again after a fall", True)
        self._by_hand: Any = None
        self._commands: list[Any] = []
        if simulation.command_ranges:
            self._add_commands(simulation)
        with gui.add_folder("Push"):
            self._direction = gui.add_dropdown("Direction", tuple(simulation.directions))
            self._strength = gui.add_slider(
                "Strength", 0.1, 5.0, 0.1, 1.0, hint="Speed that the whole robot would gain, m/s. The push lasts 0.1 s."
            )
            self._button("Push", "push")
            gui.add_markdown("Or drag a part of the robot with the mouse.")
        with gui.add_folder("Robot and world"):
            self._factors = {
                name: gui.add_slider(name.capitalize(), low, high, step, 1.0, hint=_TEXTS[name])
                for name, (low, high, step) in _SLIDERS.items()
            }
            self._slope = gui.add_slider("Slope", -30.0, 30.0, 0.5, 0.0, hint="Degrees; uphill is positive.")
            self._delay = gui.add_slider("Action delay", 0, MAX_DELAY, 1, 0, hint="Steps by which actions come late.")
            gui.add_button("As modelled").on_click(lambda _: self._as_modelled())

    @property
    def settings(self) -> Settings:
        """What the controls say now."""
        changes = {name: float(slider.value) for name, slider in self._factors.items()}
        return Settings(
            self._paused,
            SPEEDS[self._speed.value],
            changes | {"slope": float(self._slope.value)},
            int(self._delay.value),
            self._again.value,
            self._policy.value == "best",
            [float(slider.value) for slider in self._commands] if self._by_hand and self._by_hand.value else None,
        )

    @property
    def push(self) -> tuple[str, float]:
        """Direction and strength (m/s) of a push."""
        return self._direction.value, float(self._strength.value)

    def take_pressed(self) -> list[str]:
        """Names of the buttons pressed since the last call: step, reset, push."""
        return [self._pressed.popleft() for _ in range(len(self._pressed))]

    @property
    def status(self) -> str:
        """The line above the controls, in Markdown."""
        return self._status.content

    def say(self, text: str) -> None:
        """Shows a line (Markdown) above the controls."""
        if text != self._status.content:
            self._status.content = text

    def _add_commands(self, simulation: Simulation) -> None:
        """Adds what the robot can be commanded to do."""
        with self._gui.add_folder("Command"):
            self._by_hand = self._gui.add_checkbox("By hand", False, hint="Otherwise the task draws commands.")
            for name, (low, high) in simulation.command_ranges.items():
                start = min(max(0.0, low), high)
                self._commands.append(self._gui.add_slider(name, low, high, (high - low) / 40 or 0.01, start))

    def _button(self, label: str, name: str) -> None:
        self._gui.add_button(label).on_click(lambda _: self._pressed.append(name))

    def _set_paused(self, paused: bool) -> None:
        self._paused = paused
        self._play.label = "Play" if paused else "Pause"

    def _as_modelled(self) -> None:
        # Any: viser's property has its setter further down, and mypy takes it for read-only.
        sliders: dict[Any, float] = dict.fromkeys(self._factors.values(), 1.0)
        for slider, value in {**sliders, self._slope: 0.0, self._delay: 0}.items():
            slider.value = value
