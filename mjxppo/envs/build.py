"""Building environments: from a name, from an object, or from a configuration."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import jax

from mjxppo.config.schema import BackendName, Config
from mjxppo.envs.environment import Environment
from mjxppo.envs.host import HostEnvironment, HostTask
from mjxppo.envs.observed import ObservedTask
from mjxppo.envs.randomize.task import RandomizedTask
from mjxppo.envs.registry import GYMNASIUM, TASKS, canonical_name, is_foreign
from mjxppo.envs.task import Task
from mjxppo.errors import UserError, hint


def make(
    env: str | Task | Environment | Any,
    *,
    backend: BackendName = "auto",
    platform: str | None = None,
    **options: Any,
) -> Environment:
    """Builds a batched environment.

    Args:
        env: "hopper", "half_cheetah", "walker2d"; "brax:NAME" or "playground:NAME" for an environment of Brax or
            MuJoCo Playground; "gymnasium:ID" for one of Gymnasium, simulated on the host; or an object: a ``Task``,
            an ``Environment``, which is returned as it is, or any object with Brax's interface.
        backend: the physics backend, see ``physics.make``; only for the tasks of this package.
        platform: what the program is built for, "cpu" or "gpu"; None: what this process computes on.
        options: the task's options under Gymnasium's names, such as ``ctrl_cost_weight``; see its ``Options``.

    Raises:
        UserError: unknown task or option, or an object that is no environment.
    """
    if isinstance(env, Environment):
        return env
    task = env if isinstance(env, Task) else _task(env, backend, platform, options)
    return HostEnvironment(task) if isinstance(task, HostTask) else Environment(task, platform)


def _task(env: str | Any, backend: BackendName, platform: str | None, options: dict[str, Any]) -> Task:
    # Imported here: each library takes seconds to import, and Brax and Playground are optional.
    if not isinstance(env, str):
        from mjxppo.envs.foreign.brax import BraxTask  # see above

        return BraxTask(env, **options)
    name = canonical_name(env)
    if not is_foreign(name):
        return _own_task(name, backend, platform, options)
    library, _, foreign_name = name.partition(":")
    if library == GYMNASIUM:
        from mjxppo.envs.foreign.gymnasium import GymnasiumTask  # see above

        return GymnasiumTask(foreign_name, **options)
    from mjxppo.envs.foreign import brax  # see above

    from_library = {"brax": brax.from_brax, "playground": brax.from_playground}[library]
    return from_library(foreign_name, **options)


def _own_task(name: str, backend: BackendName, platform: str | None, options: dict[str, Any]) -> Task:
    task = TASKS[name].task
    known = [field.name for field in fields(task.Options)]
    for option in options:
        if option not in known:
            raise UserError(f"env_options.{option}: {name} has no such option; {hint(option, known)}")
    return task(task.Options(**options), backend, platform)


def environment(config: Config, env: Task | Environment | None = None, platform: str | None = None) -> Environment:
    """The environment that a configuration trains in: its task, randomised, with the observations of its networks.

    ``env`` takes the place of the task that ``config`` names; ``platform`` as in ``make``.

    Raises:
        UserError: the task does not exist, or cannot be varied, observed or simulated as the configuration says.
    """
    own = {"backend": config.physics.backend, **config.env_options}
    made = make(config.env, platform=platform, **own) if env is None else make(env, platform=platform)
    history = config.policy.history
    privileged = config.policy.privileged != "none" or config.distill.policy.privileged == "both"
    if isinstance(made, HostEnvironment):
        _check_host(made, config, privileged)
        return made
    task = made.task
    if config.randomize.on:
        task = RandomizedTask(task, config.randomize)
    if history > 1 or privileged:
        task = ObservedTask(task, history, privileged)
    return made if task is made.task else Environment(task, platform)


def _check_host(env: HostEnvironment, config: Config, privileged: bool) -> None:
    """Raises UserError where the configuration needs what worlds on the host cannot do."""
    if config.randomize.on:
        raise UserError(f"randomize: {env.name} is simulated on the host; change it with env_options.perturb")
    if config.policy.history > 1 or privileged:
        field = "privileged" if privileged else "history"
        raise UserError(f"policy.{field}: {env.name} is simulated on the host, and observed as it is; leave it out")
    if jax.process_count() > 1:
        raise UserError(f"env: {env.name} is simulated on the host, by one process; several cannot share its worlds")
    if config.num_devices > 1:
        raise UserError(f"num_devices: {env.name} is simulated on the host, for one device, not {config.num_devices}")
    rest = config.total_env_steps % config.ppo.num_envs
    if rest:
        raise UserError(
            f"total_env_steps: must be a multiple of ppo.num_envs = {config.ppo.num_envs} for {env.name}, whose worlds "
            f"act together; {config.total_env_steps + config.ppo.num_envs - rest} would do"
        )


def as_brax(env: str | Task | Environment | Any, **options: Any) -> Any:
    """A task as a ``brax.envs.Env``: ``as_brax("hopper")``. Takes the arguments of ``make``."""
    from mjxppo.envs.foreign.to_brax import ToBrax  # Brax takes seconds to import

    return ToBrax(on_device(make(env, **options)).task)


def on_device(env: Environment) -> Environment:
    """The environment; raises UserError where its worlds are simulated on the host, and not by a device program."""
    if isinstance(env, HostEnvironment):
        raise UserError(f"env: {env.name} is simulated on the host; take it from Gymnasium itself")
    return env
