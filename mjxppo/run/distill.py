"""Distillation of a trained teacher: what a student's run takes from the teacher's configuration and checkpoint.

The teacher is read when a run begins, and is part of the training state from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mjxppo.config.values import merge, to_dict
from mjxppo.console import say
from mjxppo.envs.build import environment
from mjxppo.errors import UserError
from mjxppo.ppo.program import TrainingProgram
from mjxppo.ppo.state import TrainState
from mjxppo.run.finetune import source_name
from mjxppo.run.load import Loaded, load_for


def load_teacher(path: str) -> Loaded:
    """The teacher that a path names; raises UserError where there is no checkpoint."""
    return load_for("distill.teacher", path)


def load_teacher_of(values: Mapping[str, Any]) -> Loaded | None:
    """The teacher that ``distill.teacher`` in plain values names, or None; raises as ``load_teacher``."""
    distill = values.get("distill")
    path = distill.get("teacher") if isinstance(distill, Mapping) else None
    return None if path is None else load_teacher(str(path))


def student_defaults(teacher: Loaded) -> dict[str, Any]:
    """Default configuration of a student: the teacher's, without its ``init``.

    Only the student's critic gets privileged observations. The step size falls to 0, without an entropy bonus.
    """
    values = to_dict(teacher.config)
    del values["init"]
    if values.pop("algorithm") != "ppo":  # its settings do not suit the student, who learns by PPO's steps
        values["ppo"] = {}
    privileged = "none" if teacher.config.policy.privileged == "none" else "critic"
    changes = {
        "policy": {"privileged": privileged},
        "distill": {
            "teacher": source_name(teacher),
            "policy": values["policy"],
            "normalize_obs": teacher.config.ppo.normalize_obs,
        },
        "ppo": {"learning_rate_schedule": "linear", "entropy_coef": 0.0},
    }
    return merge(values, changes)


def add_teacher(program: TrainingProgram, state: TrainState) -> TrainState:
    """The initial ``state`` of a run with the teacher's policy in it, if the configuration names a teacher.

    Raises UserError where that does not exist or does not fit the student.
    """
    placeholder, teacher = state.learner.teacher, check_teacher(program)
    if placeholder is None or teacher is None:
        return state
    say(f"imitating {source_name(teacher)}")

    def taken(place: Any, ours: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(place, simple=True, separator="/")
        array = teacher.arrays[f"learner/{name}"]
        if name.startswith("obs_moments/") and array.ndim:
            array = array[: ours.shape[-1]]  # privileged observations, which only its critic got, come last
        if array.shape != ours.shape[ours.ndim - array.ndim :]:
            raise UserError(
                f"distill.teacher: {name} in {source_name(teacher)} is {list(array.shape)}, not {list(ours.shape)}; "
                "the teacher's task, its options and what varies must be the student's"
            )
        return jnp.array(np.broadcast_to(array, ours.shape), ours.dtype)

    policy = jax.tree_util.tree_map_with_path(taken, placeholder.policy)
    teaching = replace(placeholder, policy=program.replicate(policy))
    return replace(state, learner=replace(state.learner, teacher=teaching))


def check_teacher(program: TrainingProgram) -> Loaded | None:
    """The student's teacher; None where the configuration names none.

    Raises UserError, which names what differs, where the teacher does not exist, or was trained on another task or with
    other observations.
    """
    path = program.config.distill.teacher
    if path is None:
        return None
    teacher = load_teacher(path)
    config, theirs = program.config, teacher.config
    name = source_name(teacher)
    if config.env != theirs.env:
        raise UserError(f"env: the teacher in {name} was trained on {theirs.env}, not on {config.env}")
    mine, taught = program.env.actions, teacher.policy.actions
    if mine.parts != taught.parts:
        raise UserError(f"env_options: the teacher in {name} has actions of {taught}, and the student's are {mine}")
    if (config.distill.policy, config.distill.normalize_obs) != (theirs.policy, theirs.ppo.normalize_obs):
        raise UserError(f"distill.policy: is not that of {name}; leave it out, mjxppo distill knows it")
    if theirs.policy.privileged == "both":
        task = program.env.task
        ours, known = task.hidden_sizes(), environment(theirs, task.unwrapped).task.hidden_sizes()
        if ours != known:
            differing = min(set(ours.items()) ^ set(known.items()))[0]
            raise UserError(f"randomize: what varies must be what the teacher in {name} sees vary; {differing} differs")
    return teacher
