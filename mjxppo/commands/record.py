"""``mjxppo record``: demonstrations of a policy or of any other controller, for ``mjxppo clone``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from mjxppo.commands.options import POSITIONAL
from mjxppo.commands.parsing import parse
from mjxppo.config.schema import Count
from mjxppo.console import print_json, say, score, waiting
from mjxppo.errors import UserError
from mjxppo.policy.engine import Engine


@dataclass(frozen=True)
class RecordArguments:
    """Records episodes of a controller as demonstrations."""

    controller: Annotated[str, POSITIONAL]
    """A run, an exported .npz, or a function of an observation and a step: module:function, file.py:function."""
    env: str | None = None
    """Task, such as half_cheetah or gymnasium:ID; default: that of the run or the .npz."""
    env_options: dict[str, Any] = field(default_factory=dict)
    """Options of the task under Gymnasium's names, such as ctrl_cost_weight."""
    episodes: Count = 16
    """Episodes to record."""
    seed: int = 0
    """Seed of the first episode; the others follow on."""
    engine: Engine | None = None
    """As of evaluate; default: gymnasium where Gymnasium has the task, else own."""
    out: Path = Path("demonstrations.npz")
    """File to write, .npz; one that exists is not replaced."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    parsed = parse(RecordArguments, arguments, "mjxppo record")
    _check_out(parsed.out)
    from mjxppo.config.layers import resolve
    from mjxppo.envs.build import prepare
    from mjxppo.envs.registry import canonical_name
    from mjxppo.policy import demonstrations
    from mjxppo.policy.npz import is_exported
    from mjxppo.policy.record import record
    from mjxppo.run.cloning import controller_of
    from mjxppo.run.load import find_policy

    own: dict[str, Any] = {}
    place = Path(parsed.controller)
    if (place.is_dir() or is_exported(place)) and parsed.env is None:
        config = find_policy(place).config
        own = {"env": config.env, "env_options": config.env_options}
    name = parsed.env or own.get("env")
    if name is None:
        raise UserError("env: say in which task the controller acts, such as --env half_cheetah")
    name = canonical_name(name)
    options = parsed.env_options or own.get("env_options", {})
    config = resolve(name, {"env_options": options})
    prepare({"env": name, "env_options": options, "physics": {"backend": parsed.engine or "auto"}})
    controller = controller_of(parsed.controller)
    with waiting(f"recording {parsed.episodes} episodes"):
        data, returns = record(controller, config, parsed.episodes, parsed.seed, parsed.engine)
    demonstrations.write(parsed.out, data)
    say(f"{data.num_episodes} episodes, {len(data.obs)} steps, return {score(returns.mean())}: {parsed.out}")
    facts = {"episodes": data.num_episodes, "steps": len(data.obs), "return_mean": float(returns.mean())}
    print_json({"path": str(parsed.out), "env": name, **facts})
    return 0


def _check_out(out: Path) -> None:
    if out.suffix.lower() != ".npz":
        raise UserError(f"out: {out} must end in .npz")
    if out.exists():
        raise UserError(f"out: {out} exists; choose another file, or delete it")
    if not out.absolute().parent.is_dir():
        raise UserError(f"out: there is no directory {out.parent}")
