"""Live plots of the return, the actions and the observations."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from mjxppo.view.simulation import Simulation

_SHOWN_S = 6.0
_LINES = 6  # more lines in one plot could not be told apart
_COLORS = ("#c2622d", "#2f6fa8", "#4d8a3d", "#8a4fa0", "#b08a1e", "#c43d5f")


class Plots:
    """A window of its own with the last seconds of an episode."""

    def __init__(self, server: Any, simulation: Simulation):
        """Adds the plots to the page of a ``viser.ViserServer``."""
        self._simulation = simulation
        self._rows: deque[tuple[float, float, np.ndarray, np.ndarray]] = deque(
            maxlen=max(2, round(_SHOWN_S / simulation.dt))
        )
        panel = server.gui.add_panel()
        with panel.add_tab("Plots"):
            self._return = _Plot(server, "return", 1)
            self._action = _Plot(server, "action", simulation.action.size)
            self._obs = _Plot(server, "observation", simulation.obs.size)
        panel.dock_left()
        server.gui.main_panel.dock_right()

    def note(self) -> None:
        """Remembers the simulation's present step; a new episode begins with empty plots."""
        simulation = self._simulation
        if simulation.steps == 0:
            self._rows.clear()
        time = simulation.steps * simulation.dt
        self._rows.append((time, simulation.episode_return, simulation.action, np.asarray(simulation.obs)))

    def draw(self) -> None:
        """Shows what is remembered."""
        if len(self._rows) < 2:
            return
        times, returns, actions, observations = (np.array(column, float) for column in zip(*self._rows, strict=True))
        self._return.draw(times, returns[:, None])
        self._action.draw(times, actions)
        self._obs.draw(times, observations)


class _Plot:
    """One plot of some columns of an array, with a choice of columns where they are too many for one."""

    def __init__(self, server: Any, name: str, size: int):
        self._server, self._name, self._size = server, name, size
        groups = [f"{name} {i} to {min(i + _LINES, size) - 1}" for i in range(0, size, _LINES)]
        self._first = dict(zip(groups, range(0, size, _LINES), strict=True))
        self._group = server.gui.add_dropdown("Show", groups, visible=len(groups) > 1)
        self._drawn = groups[0]
        zero = np.array([0.0, 1.0])
        series = self._series(0)
        self._plot = server.gui.add_uplot(
            (zero, *[0 * zero] * (len(series) - 1)), series, title=name, scales={"x": {"time": False}}, height=190
        )

    def draw(self, times: np.ndarray, values: np.ndarray) -> None:
        """Shows the chosen columns of ``values`` [T, size] over ``times`` [T], seconds."""
        first = self._first[self._group.value]
        shown = values[:, first : first + _LINES]
        with self._server.atomic():
            if self._group.value != self._drawn:
                self._drawn = self._group.value
                self._plot.series = self._series(first)
            self._plot.data = (times, *(np.ascontiguousarray(column) for column in shown.T))

    def _series(self, first: int) -> tuple[dict[str, Any], ...]:
        columns = range(first, min(first + _LINES, self._size))
        labels = [self._name if self._size == 1 else str(column) for column in columns]
        lines = [{"label": label, "stroke": color, "width": 1.5} for label, color in zip(labels, _COLORS, strict=False)]
        return ({"label": "s"}, *lines)
