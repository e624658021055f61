"""The policy that a view shows, by its path; a run that still trains gives newer ones."""

from __future__ import annotations

from pathlib import Path

from mjxppo.errors import UserError
from mjxppo.policy.npz import is_exported
from mjxppo.run import best, checkpoint
from mjxppo.run.directory import CHECKSUMS, CKPT, run_of_member
from mjxppo.run.load import TrainedPolicy, find_policy


class Source:
    """A path to a policy, as ``find_policy`` takes it, and which of its policies was read last."""

    def __init__(self, path: Path, of_best_evaluation: bool):
        """Names the policy; nothing is read yet."""
        self.path, self.of_best_evaluation = path, of_best_evaluation
        self.changes = not is_exported(path) and not path.resolve().name.isdigit()
        """Whether there can be another policy later: not of a file, nor of one step's folder."""
        self._read: list[Path] = []

    def read(self) -> TrainedPolicy:
        """The newest or best policy; raises UserError as ``find_policy``."""
        present = self._present() if self.changes else []
        found = find_policy(self.path, self.of_best_evaluation)
        found.policy.check_can_act_alone()
        self._read = present
        return found

    def read_if_new(self) -> TrainedPolicy | None:
        """The policy, if there is another one than was read last; None also where it cannot be read at the moment."""
        try:
            return self.read() if self.changes and self._present() != self._read else None
        except (UserError, OSError):  # the run may be deleting or writing it
            return None

    def _present(self) -> list[Path]:
        """The whole steps that are there, without reading them."""
        run = run_of_member(self.path) or self.path
        directories = best.find_best(run) if self.of_best_evaluation else [run / CKPT, run]
        steps = [directory / str(number) for directory in directories for number in checkpoint.steps(directory)]
        return sorted(step for step in steps if (step / CHECKSUMS).is_file())
