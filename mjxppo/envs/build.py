"""Building environments: from a name, from an object, or from a configuration."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import jax

from mjxppo import physics
from mjxppo.config.schema import BackendName, Config
from mjxppo.config.values import options_of_type
from mjxppo.envs.derivatives import check_derivatives
from mjxppo.envs.environment import Environment
from mjxppo.envs.host import HostEnvironment, HostTask
from mjxppo.envs.observed import ObservedTask
from mjxppo.envs.randomize.task import RandomizedTask
from mjxppo.envs.registry import GYMNASIUM, TASKS, Registered, canonical_name, is_foreign, registered_task
from mjxppo.envs.robot import robot_model
from mjxppo.envs.task import NO_LIMIT, Task
from mjxppo.errors import UserError, hint
from mjxppo.physics.compiler import allow_mjx, is_affected
from mjxppo.xla import backend_is_up


def make(
    env: str | Task | Environment | Any,
    *,
    backend: BackendName = "auto",
    platform: str | None = None,
    **options: Any,
) -> Environment:
    """Builds a batched environment.

    Args:
        env: a task of this package (``registry.TASKS``), such as "hopper", or a registered name; "brax:NAME" or
            "playground:NAME" for an environment of Brax or MuJoCo Playground; "gymnasium:ID" for one of Gymnasium,
            simulated on the host; or an object: a ``Task``, an ``Environment``, which is returned as it is, or any
            object with Brax's interface.
        backend: the physics backend, see ``physics.make``; only for the tasks of this package.
        platform: what the program is built for, "cpu" or "gpu"; None: what this process computes on.
        options: the task's options under Gymnasium's names, such as ``ctrl_cost_weight``; see its ``Options``.

    Raises:
        UserError: unknown task or option, or an object that is no environment.
    """
    if isinstance(env, Environment):
        return env
    own = registered_task(canonical_name(env)) if isinstance(env, str) else None
    if own is not None:
        return make(_made(str(env), own, options), platform=platform)
    task = env if isinstance(env, Task) else _task(env, backend, platform, options)
    return HostEnvironment(task) if isinstance(task, HostTask) else Environment(task, platform)


def _task(env: str | Any, backend: BackendName, platform: str | None, options: dict[str, Any]) -> Task:
    if not isinstance(env, str):
        from mjxppo.envs.foreign.brax import BraxTask  # Brax takes seconds to import, and is optional

        return BraxTask(env, **options)
    name = canonical_name(env)
    if not is_foreign(name):
        return _own_task(name, backend, platform, options)
    task = _foreign_task(name, options)
    task.made_with = options
    return task


def _foreign_task(name: str, options: dict[str, Any]) -> Task:
    library, _, foreign_name = name.partition(":")
    # Imported here: each library takes seconds to import, and Brax and Playground are optional.
    if library == GYMNASIUM:
        from mjxppo.envs.foreign.gymnasium import GymnasiumTask  # see above

        return GymnasiumTask(foreign_name, **options)
    from mjxppo.envs.foreign import brax  # see above

    from_library = {"brax": brax.from_brax, "playground": brax.from_playground}[library]
    return from_library(foreign_name, **options)


def _made(name: str, registered: Registered, options: dict[str, Any]) -> Any:
    """A user's task; raises UserError where it does not take the options."""
    try:
        inspect.signature(registered.make).bind(**options)
    except TypeError as error:
        raise UserError(f"env_options: {name} does not take them: {error}") from error
    except ValueError:  # it has no signature that can be read
        pass
    return registered.make(**options)


def _own_task(name: str, backend: BackendName, platform: str | None, options: dict[str, Any]) -> Task:
    entry = TASKS[name]
    task: Any = entry.task
    known = [field.name for field in fields(task.Options)]
    for option in options:
        if option not in known:
            raise UserError(f"env_options.{option}: {name} has no such option; {hint(option, known)}")
    checked = options_of_type(task.Options, options, "env_options")
    if entry.is_robot:
        made: Task = task(checked, backend, platform)
        return made
    if backend != "auto":
        raise UserError(f"physics.backend: {name} has no MuJoCo model that {backend} could simulate; leave it out")
    made = task(checked)
    return made


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
    if config.algorithm in ("reinforce", "es"):
        _check_episodes(made, config)
    if config.algorithm == "shac":
        check_derivatives(made)
    if isinstance(made, HostEnvironment):
        _check_host(made, config, privileged)
        return made
    task = made.task
    if config.randomize.on:
        task = RandomizedTask(task, config.randomize)
    if history > 1 or privileged:
        task = ObservedTask(task, history, privileged)
    return made if task is made.task else Environment(task, platform)


def _check_episodes(env: Environment, config: Config) -> None:
    """Raises UserError where the episodes of ``env`` cannot be collected whole."""
    limit, length, on_host = env.max_episode_steps, config.ppo.rollout_length, isinstance(env, HostEnvironment)
    if config.algorithm == "es":  # takes the rewards of a part of the episode where that is all there is time for
        if on_host:
            raise UserError(f"algorithm: es needs thousands of worlds, and {env.name} is on the host; choose reinforce")
        return
    if limit >= NO_LIMIT:
        remedy = "set env_options.max_episode_steps, or choose vpg" if on_host else "choose vpg"
        raise UserError(f"algorithm: reinforce needs episodes that end, and {env.name} has no time limit; {remedy}")
    if length < limit:
        raise UserError(
            f"ppo.rollout_length: must be at least the time limit of {env.name}, {limit}, for reinforce, whose "
            f"episodes are whole; is {length}"
        )


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


def prepare(values: Mapping[str, Any]) -> None:
    """Leaves out the setting of XLA that MJX and Brax cannot be compiled with, where a run is going to need them.

    ``values`` are the run's configuration in plain values, which need not be checked yet. Call this before anything
    starts JAX's backend; afterwards it has no effect, and ``make`` refuses what cannot be compiled.
    """
    if is_affected() and not backend_is_up() and _needs_mjx(values):
        allow_mjx()


def _needs_mjx(values: Mapping[str, Any]) -> bool:
    name, given, options = values.get("env"), values.get("physics"), values.get("env_options")
    backend = given.get("backend", "auto") if isinstance(given, Mapping) else "auto"
    if isinstance(name, str) and name.partition(":")[0] in ("brax", "playground"):
        return True
    file = options.get("xml_file") if isinstance(options, Mapping) else None
    if backend == "auto" and isinstance(file, str | os.PathLike):
        with contextlib.suppress(UserError):  # `make` refuses it, and policies do without
            return physics.needs_mjx(robot_model(file))
    return bool(backend == "mjx")


def as_brax(env: str | Task | Environment | Any, **options: Any) -> Any:
    """A task as a ``brax.envs.Env``: ``as_brax("hopper")``. Takes the arguments of ``make``."""
    from mjxppo.envs.foreign.to_brax import ToBrax  # Brax takes seconds to import

    return ToBrax(on_device(make(env, **options)).task)


def on_device(env: Environment) -> Environment:
    """The environment; raises UserError where its worlds are simulated on the host, and not by a device program."""
    if isinstance(env, HostEnvironment):
        raise UserError(f"env: {env.name} is simulated on the host; take it from Gymnasium itself")
    return env
