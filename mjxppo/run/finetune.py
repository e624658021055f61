"""Fine-tuning of a pretrained policy (the source): what a run takes from its configuration and checkpoint.

The source is read only when a run begins. A resumed run has what was carried over, and the anchor, in its own
checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mjxppo.config.schema import Config, fits_critic_apart
from mjxppo.config.sweep import trains_several
from mjxppo.config.values import to_dict
from mjxppo.console import say
from mjxppo.errors import UserError
from mjxppo.ppo.program import TrainingProgram
from mjxppo.ppo.state import TrainState
from mjxppo.run import load
from mjxppo.run.load import Loaded

_CARRIED = {
    "policy": ("params/params/actor/",),
    "critic": ("params/params/critic/", "return_moments/"),
    "normalizer": ("obs_moments/",),
    "optimizer": ("opt_state/", "critic_opt_state/"),
}
"""The arrays of a ``Learner`` that each choice of ``init.carry`` stands for, by the beginnings of their names."""
_NETWORK = ("hidden_sizes", "critic_hidden_sizes", "activation", "std", "history", "privileged")
"""Fields of ``PolicyConfig`` that the parameters depend on."""
_OF_STD = ("init_log_std", "min_log_std")
"""Fields that say what std a state-dependent one's parameters stand for, see ``networks.Actor``."""
_INHERITED = ("gamma", "normalize_obs")
"""Fields of ``PpoConfig`` that critic and policy depend on."""


def load_source(values: Mapping[str, Any]) -> Loaded | None:
    """The checkpoint that ``init.path`` in plain values names, or None; raises UserError where it does not exist."""
    init = values.get("init")
    path = init.get("path") if isinstance(init, Mapping) else None
    if path is None or not isinstance(init, Mapping):
        return None
    return load.load_for("init.path", str(path), init.get("best") is True)


def source_name(source: Loaded) -> str:
    """A path that leads to the same policy: the step's folder, or a policy's directory in a run with several."""
    return str(source.step if source.run_dir == source.step.parent.parent else source.run_dir)


def inherited_fields(source: Loaded) -> dict[str, Any]:
    """The fields that a run takes over from its source by default: those that its arrays depend on."""
    values = to_dict(source.config)
    # The discount of es, which has no critic, is none that one could learn with.
    names = [name for name in _INHERITED if name != "gamma" or source.config.algorithm != "es"]
    return {"policy": values["policy"], "ppo": {name: values["ppo"][name] for name in names}}


def carry_over(program: TrainingProgram, state: TrainState, source: Loaded | None = None) -> TrainState:
    """The freshly initialised ``state`` with the arrays of ``init.carry``, and the anchor, from the source.

    All members begin with the same policy. Without ``source`` it is read from ``init.path``, if that names one. Raises
    UserError where there is no such checkpoint, or it does not fit the run.
    """
    config = program.config
    source = source or load_source(to_dict(config))
    if source is None:
        return state
    check_source(program, source)
    parts = [*config.init.carry, *(["anchor"] if config.init.anchor_coef > 0 else [])]
    say(f"starting from {source_name(source)}: {', '.join(parts) or 'nothing of it'}")
    several = trains_several(config)

    def carried(path: Any, ours: jax.Array) -> jax.Array:
        name = _origin(jax.tree_util.keystr(path, simple=True, separator="/"), config)
        if name is None:
            return ours
        array, wanted = source.arrays.get(f"learner/{name}"), ours.shape[several:]
        if array is not None and name.startswith("obs_moments/"):
            array = array[: wanted[0]] if wanted else array  # privileged observations, not used here, come last
        if array is None or array.shape != wanted:
            has = "no such array" if array is None else str(list(array.shape))
            raise UserError(f"init.path: learner/{name} must be {list(wanted)}, and is {has} in {source_name(source)}")
        return jnp.array(np.broadcast_to(array, ours.shape), ours.dtype)

    learner = jax.tree_util.tree_map_with_path(carried, state.learner)
    return replace(state, learner=program.replicate(learner))


def _origin(name: str, config: Config) -> str | None:
    """Name of the source's array that one of the run's arrays starts as; None for one that is not carried over."""
    if name.startswith("anchor/"):
        return name.removeprefix("anchor/")
    if name.startswith("target_critic/"):  # the critic, from which it starts
        name = name.replace("target_critic/", "params/params/critic/", 1)
    wanted = [beginning for part in config.init.carry for beginning in _CARRIED[part]]
    return name if name.startswith(tuple(wanted)) else None


def check_source(program: TrainingProgram, source: Loaded) -> None:
    """Raises UserError, which names the field that differs and its right value, where a source does not fit a run."""
    config, env = program.config, program.env
    carried = [part for part in ("policy", "critic") if part in config.init.carry]
    if carried and config.ppo.normalize_obs and "normalizer" not in config.init.carry:
        raise UserError(f"init.carry: {carried[0]} goes with normalizer, in whose units its inputs are; add normalizer")
    described = (config.algorithm, fits_critic_apart(config))
    if "optimizer" in config.init.carry and described != (source.config.algorithm, fits_critic_apart(source.config)):
        raise UserError(
            f"init.carry: the optimizer of {source_name(source)} is that of other steps (algorithm "
            f"{source.config.algorithm}, reinforce.baseline {source.config.reinforce.baseline}); leave optimizer out"
        )
    theirs = source.policy
    if (ours := program.network.actor_inputs or env.obs_size) != theirs.inputs:
        raise UserError(
            f"init.path: {source_name(source)} was trained on {source.config.env} with {theirs.inputs} observations, "
            f"and {config.env} has {ours}"
        )
    if env.actions.parts != theirs.actions.parts:
        raise UserError(
            f"init.path: {source_name(source)} was trained on {source.config.env} with actions of {theirs.actions}, "
            f"and {config.env} has {env.actions}"
        )
    uses_actor = "policy" in config.init.carry or config.init.anchor_coef > 0
    uses_critic = "critic" in config.init.carry
    for name, ours, their in _meanings(config, source.config, uses_actor, uses_critic):
        if ours != their:
            shown = list(their) if isinstance(their, tuple) else their
            raise UserError(
                f"{name}: must be {shown}, as in {source_name(source)}, for what init.carry and init.anchor_coef take "
                f"from it; leave it out to take it over"
            )


def _meanings(ours: Config, theirs: Config, uses_actor: bool, uses_critic: bool) -> list[tuple[str, Any, Any]]:
    """Fields that must agree, with both values: of the networks taken over, and of their observations."""
    pairs = []
    for name in _NETWORK:
        only_critic, only_actor = name in ("critic_hidden_sizes", "privileged"), name in ("hidden_sizes", "std")
        if (uses_critic and not only_actor) or (uses_actor and not only_critic):
            pairs.append((f"policy.{name}", _of_policy(ours, name), _of_policy(theirs, name)))
    if uses_actor and theirs.policy.std == "state_dependent":
        pairs += [(f"policy.{name}", getattr(ours.policy, name), getattr(theirs.policy, name)) for name in _OF_STD]
    if uses_actor or uses_critic:
        pairs.append(("ppo.normalize_obs", ours.ppo.normalize_obs, theirs.ppo.normalize_obs))
    return pairs


def _of_policy(config: Config, name: str) -> Any:
    policy = config.policy
    return policy.critic_hidden_sizes or policy.hidden_sizes if name == "critic_hidden_sizes" else getattr(policy, name)
