"""The view's web server, and the loop that steps the simulation in real time."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import socket
import threading
import time
from pathlib import Path
from typing import Any

from mjxppo.errors import UserError
from mjxppo.run.directory import BEST
from mjxppo.run.load import TrainedPolicy
from mjxppo.view.simulation import Simulation
from mjxppo.view.source import Source

_FRAME_S, _PLOT_S, _LOOK_S = 1 / 60, 0.2, 2.0
_MOST_OWED_S = 0.1
_AFTER_A_FALL_S = 1.0


def check_place(host: str, port: int) -> None:
    """Raises UserError where viser is not installed, or ``host`` and ``port`` cannot be listened at."""
    if not _viser_is_there():
        raise UserError("view: viser is not installed; pip install 'mjxppo[view]'")
    if not 1 <= port <= 65535:
        raise UserError(f"port: must be from 1 to 65535, not {port}")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as attempt:
            # As the server itself does: a port that was closed a moment ago is free.
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attempt.bind(address)
            attempt.listen()
    except socket.gaierror as error:
        raise UserError(f"host: {host!r} is no address of this machine; leave it out for 127.0.0.1") from error
    except PermissionError as error:
        raise UserError(f"port: {port} needs rights that you do not have; take one from 1024 on") from error
    except OSError as error:
        raise UserError(f"port: cannot listen at {host}:{port} ({error.strerror}); try --port {port + 1}") from error


def _viser_is_there() -> bool:
    return importlib.util.find_spec("viser") is not None


class View:
    """A page at which a policy can be seen and disturbed."""

    def __init__(self, path: Path, of_best_evaluation: bool, host: str, port: int, seed: int):
        """Opens the page; ``run`` makes it live.

        Raises:
            UserError: as ``check_place``, ``Source.read`` and ``Simulation``; nothing is left open.
        """
        check_place(host, port)
        self._source = Source(path, of_best_evaluation)
        self._found = self._source.read()
        self.simulation = Simulation(self._found.policy, self._found.config, seed)
        import viser  # an optional package

        from mjxppo.view.panel import Panel  # imports viser
        from mjxppo.view.plots import Plots  # with them
        from mjxppo.view.scene import Scene  # with them

        with contextlib.redirect_stdout(io.StringIO()):  # it prints its addresses in a box
            self._server: Any = viser.ViserServer(host, port, label=self._found.config.env, verbose=False)
        if self._server.get_port() != port:  # taken since a moment ago; viser then takes the next one
            self._server.stop()
            raise UserError(f"port: {port} is in use; try --port {port + 1}")
        self.scene = Scene(self._server, self.simulation)
        self.panel = Panel(self._server, self.simulation, of_best_evaluation, self._source.changes)
        self._plots = Plots(self._server, self.simulation)
        self._problem = ""
        self._newer: TrainedPolicy | None = None
        self._owed_s = 0.0
        """Simulated time that is still to be stepped."""
        self._fallen_at: float | None = None

    def run(self, stop: threading.Event) -> None:
        """Steps and shows the simulation until ``stop`` is set."""
        looking = threading.Thread(target=self._look_for_newer, args=(stop,), daemon=True)
        looking.start()
        before = frame = plot = time.monotonic()
        try:
            while not stop.is_set():
                now = time.monotonic()
                self._advance(now - before)
                before = now
                if now >= frame:
                    frame = now + _FRAME_S
                    self._show()
                if now >= plot:
                    plot = now + _PLOT_S
                    self._plots.draw()
                    self.panel.say(self._status())
                time.sleep(max(0.001, min(self.simulation.dt / 4, _FRAME_S / 2)))
        finally:
            stop.set()
            looking.join()
            self.close()

    def close(self) -> None:
        """Closes the page and the simulation."""
        with contextlib.redirect_stdout(io.StringIO()):  # it says that it has stopped
            self._server.stop()
        self.simulation.close()

    def _advance(self, elapsed_s: float) -> None:
        """Does what the controls say, and the steps that are due after ``elapsed_s`` more seconds."""
        simulation, settings = self.simulation, self.panel.settings
        newer, self._newer = self._newer, None
        if newer is not None:
            self._found = newer
            simulation.use(newer.policy)
        simulation.change(settings.changes)
        simulation.delay = settings.delay
        simulation.command(settings.command)
        for name in self.panel.take_pressed():
            if name == "push":
                simulation.push(*self.panel.push)
            elif name == "reset":
                self._begin_again()
            elif name == "step" and settings.paused:
                self._owed_s += simulation.dt
        if not settings.paused:
            # A machine that is too slow shows slow motion, and does not run after a debt.
            most = max(_MOST_OWED_S * settings.speed, simulation.dt)
            self._owed_s = min(self._owed_s + elapsed_s * settings.speed, most)
        while self._owed_s >= simulation.dt:
            self._owed_s -= simulation.dt
            simulation.pull = self.scene.pull_in_world()
            simulation.step()
            self._plots.note()
        self._end_episode(settings.begin_again)

    def _end_episode(self, after_a_fall: bool) -> None:
        """Begins a new episode at the time limit, and a second after a fall, so that one sees it."""
        if self.simulation.truncated:
            self._begin_again()
        elif not (self.simulation.terminated and after_a_fall):
            self._fallen_at = None
        elif self._fallen_at is None:
            self._fallen_at = self._simulated_s
        elif self._simulated_s - self._fallen_at >= _AFTER_A_FALL_S:
            self._begin_again()

    @property
    def _simulated_s(self) -> float:
        return self.simulation.steps * self.simulation.dt

    def _begin_again(self) -> None:
        self._fallen_at, self._owed_s = None, 0.0
        self.simulation.reset()
        self._plots.note()

    def _show(self) -> None:
        """Moves what is on the page, all at once."""
        with self._server.atomic():
            self.scene.show(self.simulation.pose_between(min(self._owed_s / self.simulation.dt, 1.0)))

    def _status(self) -> str:
        """What is seen, in Markdown."""
        simulation = self.simulation
        limit = f" of {simulation.step_limit * simulation.dt:.0f}" if simulation.step_limit else ""
        lines = [
            self._name(),
            f"time {self._simulated_s:.1f}{limit} s, **return {simulation.episode_return:.1f}**"
            + (", fallen" if simulation.terminated else ""),
        ]
        return "\n\n".join([*lines, *([f"**{self._problem}**"] if self._problem else [])])

    def _name(self) -> str:
        """The policy's name, short enough for the panel."""
        found = self._found
        if not self._source.changes and found.source.suffix:
            return found.source.name
        kind = "best policy, update" if found.source.parent.name == BEST else "checkpoint"
        return f"{found.run_dir.name}, {kind} {found.source.name}"

    def _look_for_newer(self, stop: threading.Event) -> None:
        """Reads newer policies of the run, and others where the panel asks for them."""
        while not stop.wait(_LOOK_S):
            best = self.panel.settings.best
            if best == self._source.of_best_evaluation:
                newer = self._source.read_if_new()
            else:
                self._source = Source(self._source.path, best)
                try:
                    newer, self._problem = self._source.read(), ""
                except UserError as error:
                    newer, self._problem = None, str(error)
            if newer is not None:
                self._newer, self._problem = newer, ""
