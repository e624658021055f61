"""Rollouts: the policy acts in B worlds for T steps, as one scan."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jax import lax

from mjxppo.config.schema import PpoConfig
from mjxppo.envs import Environment, EnvState
from mjxppo.envs.batch import is_sound
from mjxppo.ppo import packing
from mjxppo.ppo.episodes import EpisodeSteps
from mjxppo.ppo.heads import Outputs
from mjxppo.ppo.networks import ActorCritic, Params, apply_policy, apply_value
from mjxppo.ppo.normalize import RunningMoments, bound, network_obs, standardize
from mjxppo.ppo.reference import ReferenceFunction
from mjxppo.ppo.shac.horizon import HorizonDerivative

Array = jax.Array


@flax.struct.dataclass
class Batch:
    """The experience of T steps in B worlds; every array leads with [T, B]."""

    obs: Array
    """Observations acted on, as the networks see them, [T, B, obs_size]."""
    u: Array
    """Actions before squashing, and indices of chosen categories, [T, B, action_size]."""
    log_prob: Array
    """Log-density of ``u`` when it was drawn."""
    reward: Array
    terminated: Array
    truncated: Array
    final_value: Array
    """Value of the true last observation where ``truncated``, in the critic's (normalised) units."""
    valid: Array
    """False where the world had become non-finite, or no step was taken: the step budget was spent, or it waited for
    others (``rollout``'s ``one_episode``)."""
    episode: EpisodeSteps
    """The episodes that the steps belong to."""
    reference: Outputs | None = None
    """Outputs of a reference policy for the same observations, each [T, B, any]."""
    mask: Array | None = None
    """Whether each category could be chosen, [T, B, sum of categories] bool; None: all could."""
    derivative: HorizonDerivative | None = None
    """Derivative of SHAC's objective; None for other algorithms."""


@flax.struct.dataclass
class RolloutStats:
    """Sums over a rollout, to be added up over all worlds and devices."""

    obs_sum: Array
    """Sum of standardised observations, of which outliers are bounded, [obs_size]."""
    obs_sum_of_squares: Array
    steps: Array
    """Environment steps taken, [] int32."""
    nonfinite: Array
    """Steps that left a world broken, see ``EnvState.nonfinite``, [] int32."""
    outliers: Array
    """Steps whose observation was an outlier, see ``normalize.OUTLIER``, [] int32."""

    def metrics(self) -> dict[str, Array]:
        """The counts that every update logs, each []."""
        return {
            "env_steps_this_update": self.steps,
            "nonfinite_steps": self.nonfinite,
            "obs_outliers": self.outliers,
        }


class BehaviorPolicy(NamedTuple):
    """The policy that acts in a rollout."""

    network: ActorCritic
    params: Params
    obs_moments: RunningMoments
    teacher_share: Array | None = None
    """Share of the steps at which the teacher acts in its place, []; None: it acts at all steps."""


class Decision(NamedTuple):
    """Actions drawn in B worlds at one time step; arrays as in ``Batch``, without the time."""

    u: Array
    log_prob: Array
    reference: Outputs | None
    mask: Array | None = None


class Noise(NamedTuple):
    """Random numbers for the actions of one time step in B worlds."""

    own: Array
    """Those of the policy's head, see ``Head.noise``, [B, any]."""
    taught: Array | None = None
    """Whether the teacher acts, [B] bool; None where the policy acts at all steps."""


class Record(NamedTuple):
    """One time step in B worlds, of which the batch and the statistics are made."""

    raw_obs: Array
    """Observations before the step, not normalised, [B, obs_size]."""
    decision: Decision
    reward: Array
    terminated: Array
    truncated: Array
    final_obs: Array
    """Observations that the actions led to, not normalised, [B, obs_size]."""
    active: Array
    """Whether the step budget allowed the step, [B] bool."""
    nonfinite: Array
    episode: EpisodeSteps


def choose_actions(
    policy: BehaviorPolicy,
    state: EnvState,
    noise: Noise,
    config: PpoConfig,
    reference: ReferenceFunction | None = None,
    mask: Array | None = None,
) -> Decision:
    """Draws the actions of one time step in B worlds; arguments as in ``rollout``, and this step's random numbers.

    ``mask`` is ``Environment.action_mask`` of the state.
    """
    obs = network_obs(policy.obs_moments, state.obs, config.normalize_obs)
    of_reference = reference(state) if reference else None
    u, log_prob = draw_action(policy, obs, noise, of_reference, mask)
    return Decision(u, log_prob, of_reference, mask)


def draw_noise(policy: BehaviorPolicy, step_key: Array, indices: Array) -> Noise:
    """The random numbers of one time step in B worlds with global indices [B], from the step's key []."""
    keys = jax.vmap(partial(jax.random.fold_in, step_key))(indices)
    own = jax.vmap(policy.network.head.noise)(keys)
    if (share := policy.teacher_share) is None:
        return Noise(own)
    return Noise(own, jax.vmap(lambda key: jax.random.bernoulli(jax.random.fold_in(key, 1), share))(keys))


def draw_action(
    policy: BehaviorPolicy, obs: Array, noise: Noise, teacher: Outputs | None = None, mask: Array | None = None
) -> tuple[Array, Array]:
    """Samples an action in B worlds, from the policy or, where ``noise.taught``, the teacher.

    ``obs`` [B, obs_size] are as the networks see them, ``teacher`` the teacher's outputs, ``mask`` [B, sum of
    categories] the categories that may be chosen. Returns the actions before squashing [B, action_size], and their
    log-density under the policy, also of those that the teacher has drawn, [B].
    """
    head, outputs = policy.network.head, apply_policy(policy.network, policy.params, obs, mask)
    acting = outputs
    if (taught := noise.taught) is not None:
        assert teacher is not None
        acting = jax.tree.map(lambda theirs, ours: jnp.where(taught[:, None], theirs, ours), teacher, acting)
    u = head.sample(acting, noise.own)
    return u, head.log_prob(u, outputs)


def rollout(
    env: Environment,
    policy: BehaviorPolicy,
    state: EnvState,
    indices: Array,
    key: Array,
    budget: Array,
    *,
    config: PpoConfig,
    reference: ReferenceFunction | None = None,
    one_episode: bool = False,
) -> tuple[EnvState, Batch, Array, RolloutStats]:
    """Acts ``config.rollout_length`` = T steps in B worlds, which are simulated together.

    Random numbers are drawn by time and global world index, so that they do not depend on how worlds are shared
    among devices, or on how many are simulated together.

    ``key`` is the update's, and ``indices`` [B] are the worlds' global indices. All ``config.num_envs`` worlds of all
    devices together take at most ``budget`` environment steps, [] int32: step t of world i is taken if ``t * num_envs +
    i < budget``, and a world not stepped stays as it is. ``reference`` is evaluated in all worlds before each step, and
    its results are part of the batch; with ``policy.teacher_share`` it is the teacher. With ``one_episode`` a world
    stops when its episode ends, and waits for the others. Without
    ``env.branches`` the random numbers are drawn for all steps before the first, and the batch and the sums are made of
    all after the last.

    Returns:
        The worlds after T steps, the batch, the last observations as the networks see them [B, obs_size], and sums
        for the statistics.
    """
    experience_of = partial(experience, policy, config=config, branch=env.branches)

    def noise_of(t: Array) -> Noise:
        return draw_noise(policy, jax.random.fold_in(key, t), indices)

    def active_at(state: EnvState, t: Array) -> Array:
        active = t * config.num_envs + indices < budget
        return active & ((t == 0) | ~state.done) if one_episode else active

    def act(state: EnvState, t: Array, noise: Noise) -> tuple[EnvState, Any]:
        decision = choose_actions(policy, state, noise, config, reference, env.action_mask(state))
        active = active_at(state, t)
        stepped = env.step_active(state, policy.network.head.action(decision.u), active)
        record = record_step(state, decision, stepped, active)
        if not env.branches:
            return env.wait(state, stepped, active), record
        state = lax.cond(active.all(), lambda: stepped, lambda: env.wait(state, stepped, active))
        return state, experience_of(record)

    state, times = env.prepare(env.begin(state) if one_episode else state), jnp.arange(config.rollout_length)
    if env.branches:
        one_step = lambda state, t: act(state, t, noise_of(t))  # noqa: E731
        if one_episode:  # the last episode may end long before the rollout does
            one_step = where_any(active_at, one_step)
        state, (batch, stats) = lax.scan(one_step, state, times)
    else:
        steps = times, jax.vmap(noise_of)(times)
        state, records = packing.scan(lambda state, step: act(state, *step), state, steps, lead=1)
        batch, stats = experience_of(records)
    last_obs = network_obs(policy.obs_moments, state.obs, config.normalize_obs)
    return state, batch, last_obs, jax.tree.map(lambda x: x.sum(0), stats)


def where_any(active_at: Callable[[Any, Array], Array], step: Callable[..., Any]) -> Callable[..., Any]:
    """``step`` of a scan over time where any world is active, [B] bool of what the scan carries and the time.

    Elsewhere what it carries stays, and the outputs are 0.
    """

    def maybe(carry: Any, t: Array) -> tuple[Any, Any]:
        none = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(step, carry, t)[1])
        result: tuple[Any, Any] = lax.cond(active_at(carry, t).any(), step, lambda carry, t: (carry, none), carry, t)
        return result

    return maybe


def record_step(state: EnvState, decision: Decision, stepped: EnvState, active: Array) -> Record:
    """What is kept of one time step in B worlds, which are ``state`` before and ``stepped`` after it."""
    # An episode that began with its clock ahead was cut short: its return and length do not describe the policy.
    whole = stepped.clock_offset == 0
    episode = EpisodeSteps(stepped.episode_length, whole, stepped.episode_return)
    return Record(
        raw_obs=state.obs,
        decision=decision,
        reward=stepped.reward,
        terminated=stepped.terminated,
        truncated=stepped.truncated,
        final_obs=stepped.final_obs,
        active=active,
        nonfinite=stepped.nonfinite,
        episode=episode,
    )


def experience(policy: BehaviorPolicy, record: Record, config: PpoConfig, branch: bool) -> tuple[Batch, RolloutStats]:
    """The batch, arrays [..., B, ...], and sums over worlds for the statistics, of one time step [B] or of [T, B]."""
    u, log_prob, reference, mask = record.decision
    obs = network_obs(policy.obs_moments, record.raw_obs, config.normalize_obs)
    valid = record.active & ~record.nonfinite & is_sound(record.raw_obs).all(-1) & jnp.isfinite(log_prob)
    truncated = record.truncated & valid

    def value_of_final_obs() -> Array:
        final_obs = network_obs(policy.obs_moments, record.final_obs, config.normalize_obs)
        return apply_value(policy.network, policy.params, final_obs)

    # Truncations are rare: a branch saves the pass through the critic.
    none = jnp.zeros_like(record.reward)
    final_value = lax.cond(truncated.any(), value_of_final_obs, lambda: none) if branch else value_of_final_obs()
    batch = Batch(
        obs=obs,
        u=jnp.where(valid[..., None], u, 0),
        log_prob=jnp.where(valid, log_prob, 0),
        reward=record.reward,
        terminated=record.terminated & valid,
        truncated=truncated,
        final_value=jnp.where(truncated, final_value, 0),
        valid=valid,
        episode=record.episode,
        reference=reference,
        mask=mask,
    )
    deviation = jnp.where(valid[..., None], standardize(policy.obs_moments, record.raw_obs), 0)
    bounded = bound(policy.obs_moments, deviation)
    return batch, RolloutStats(
        obs_sum=bounded.sum(-2),
        obs_sum_of_squares=jnp.square(bounded).sum(-2),
        steps=record.active.sum(-1),
        nonfinite=(record.active & ~valid).sum(-1),
        outliers=(bounded != deviation).any(-1).sum(-1),
    )
