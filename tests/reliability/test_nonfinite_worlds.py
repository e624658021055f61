"""On the real tasks: a world driven to NaN or infinity is reset and flagged, and no other world's bits change."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from mjxppo import envs
from mjxppo.run.arrays import named_arrays

N, BAD = 8, 5
PLACES = ("qpos", "qvel", "qacc_warmstart", "action")


def bits(state) -> dict[str, np.ndarray]:
    return named_arrays(state)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["half_cheetah", "hopper", pytest.param("walker2d", marks=pytest.mark.exhaustive)])
def test_one_broken_world_is_reset_and_the_others_keep_their_bits(name):
    env = envs.make(name)
    step = jax.jit(env.step)
    clean = env.reset(jax.random.split(jax.random.key(0), N))
    action = jax.random.uniform(jax.random.key(1), (N, env.action_size), minval=-1.0, maxval=1.0)
    for _ in range(5):  # onto the ground
        clean = step(clean, action)
    expected = bits(step(clean, action))
    others = np.arange(N) != BAD
    for place in PLACES:
        for poison in (np.nan, np.inf, -np.inf, 1e30):
            state, poisoned_action = clean, action
            if place == "action":
                poisoned_action = action.at[BAD, 0].set(poison)
            else:
                array = getattr(clean.worlds, place)
                state = clean.replace(worlds=clean.worlds.replace(**{place: array.at[BAD, -1].set(poison)}))
            after = step(state, poisoned_action)
            found = bits(after)
            case = f"{place} = {poison}"
            for part, array in found.items():
                np.testing.assert_array_equal(array[others], expected[part][others], err_msg=f"{case}: {part}")
                if array.dtype == np.float32:
                    assert np.isfinite(array).all(), f"{case}: {part}"
            if not np.isfinite(poison):
                assert bool(after.nonfinite[BAD]) and bool(after.truncated[BAD]), case
                assert float(after.reward[BAD]) == 0, case
                assert not np.asarray(after.nonfinite)[others].any(), case
