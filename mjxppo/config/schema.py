"""The configuration of a training run: frozen dataclasses, checked once where they enter the program.

The types state each field's range; ``config.values`` checks them, ``config.check`` what depends on several fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

from mjxppo.config.es import EsConfig
from mjxppo.config.randomize import RandomizeConfig
from mjxppo.config.shac import ShacConfig

AlgorithmName = Literal["ppo", "a2c", "vpg", "reinforce", "trpo", "shac", "es"]
BackendName = Literal["auto", "planar", "planar-pallas", "spatial", "spatial-pallas", "mjx", "mjx-warp"]
Activation = Literal["tanh", "relu", "silu", "elu"]
Initialization = Literal["orthogonal", "lecun_normal"]
StdKind = Literal["state_dependent", "state_independent"]
Privileged = Literal["none", "critic", "both"]

Count = Annotated[int, Ge(1), Le(2**24)]
Updates = Annotated[int, Ge(0), Le(2**24)]
Layer = Annotated[int, Ge(1), Le(2**16)]
Share = Annotated[float, Ge(0), Le(1)]
Weight = Annotated[float, Ge(0), Le(1e6)]
Positive = Annotated[float, Gt(0), Le(1e6)]
Decay = Annotated[float, Ge(0), Lt(1)]
LogStd = Annotated[float, Ge(-20), Le(2)]
Return = Annotated[float, Ge(-1e9), Le(1e9)]


@dataclass(frozen=True)
class PhysicsConfig:
    """How worlds are simulated."""

    backend: BackendName = "auto"
    """auto (planar, spatial, mjx: the first that is exact); planar, spatial; planar-pallas, spatial-pallas (one GPU
    kernel); mjx, mjx-warp."""


@dataclass(frozen=True)
class InitConfig:
    """Starting from a policy trained before."""

    path: str | None = None
    """Its run directory, ckpt/, or one step's folder; its networks are taken over as well."""
    best: bool = False
    """Take the policy of its best evaluation instead of the newest."""
    carry: tuple[Literal["policy", "critic", "normalizer", "optimizer"], ...] = ("policy", "critic", "normalizer")
    """Its parts that the run begins with: policy, critic (with the moments of returns), normalizer (moments of the
    observations), optimizer (Adam's moments); the rest starts as in a new run."""
    critic_warmup: Updates = 0
    """First updates in which only the critic learns, and the policy stays as it is."""
    step_size_warmup: Updates = 0
    """Updates over which the step size rises linearly to its full value, after critic_warmup."""
    anchor_coef: Weight = 0.0
    """Weight of KL(pretrained policy || policy) in the loss; 0: none."""
    anchor_half_life: Annotated[float, Ge(0), Le(1e6)] = 0.0
    """Updates after which anchor_coef has halved; 0: it stays."""


@dataclass(frozen=True)
class PolicyConfig:
    """The networks and the action distribution."""

    hidden_sizes: tuple[Layer, ...] = (64, 64)
    """Units of the actor's hidden layers."""
    critic_hidden_sizes: tuple[Layer, ...] = ()
    """Units of the critic's hidden layers; empty: as the actor's."""
    activation: Activation = "tanh"
    """tanh, relu, silu, or elu."""
    initialization: Initialization = "orthogonal"
    """orthogonal (scale sqrt 2; policy head 0.01, value head 1), or lecun_normal everywhere."""
    std: StdKind = "state_dependent"
    """state_dependent (a network output) or state_independent (a parameter)."""
    init_log_std: LogStd = 0.0
    """Log standard deviation before squashing, at the start."""
    min_log_std: LogStd = -2.0
    """Floor of the log standard deviation; below init_log_std."""
    final_min_log_std: LogStd | None = None
    """Floor of a state_independent std at the end; it moves there linearly over the second half of the budget."""
    history: Annotated[int, Ge(1), Le(1000)] = 1
    """Observations that the networks see: the newest, and those before it with the actions between them."""
    privileged: Privileged = "none"
    """Which networks get privileged observations (parameters of randomised worlds, ...): none, critic, or both (the
    policy then only acts in this simulation, and has to be distilled for other uses)."""


@dataclass(frozen=True)
class DistillConfig:
    """Imitating a teacher instead of seeking rewards; see mjxppo distill."""

    teacher: str | None = None
    """Its run directory, ckpt/, or one step's folder; mjxppo distill sets it."""
    share: Share = 1.0
    """Share of the steps at which the teacher acts, at the start; the student learns from all (DAgger)."""
    final_share: Share = 0.0
    """The same at the end. With 1 the teacher always acts (behaviour cloning)."""
    until: Share = 0.5
    """Share of total_env_steps after which final_share is reached; in between it is linear."""
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    """The teacher's networks."""
    normalize_obs: bool = True
    """Whether they see normalised observations."""


@dataclass(frozen=True)
class PpoConfig:
    """The algorithm, PPO or another: rollouts, advantages, losses, steps."""

    num_envs: Count = 1024
    """Worlds simulated side by side."""
    rollout_length: Count = 32
    """Steps per world between two updates."""
    num_minibatches: Count = 16
    """Gradient steps per epoch; divides rollout_length times block_size."""
    minibatch_size: Annotated[int, Ge(0), Le(2**31 - 1)] = 0
    """Samples per gradient step, instead of num_minibatches; 0: off."""
    num_microbatches: Count = 1
    """Parts of each gradient, one after the other, for less memory."""
    num_epochs: Count = 4
    """Passes over each batch; 1 where the algorithm is not ppo."""
    block_size: Count = 128
    """Worlds in a block, which a CPU simulates together; divides num_envs. Sets speed and rounding only."""
    gamma: Share = 0.99
    """Discount per environment step."""
    gae_lambda: Share = 0.95
    """Lambda of generalised advantage estimation, in [0, 1]."""
    loss: Literal["clip", "kl_penalty", "policy_gradient"] = "clip"
    """clip or kl_penalty (PPO's), or policy_gradient (of the other algorithms); not used to distill."""
    clip_eps: Positive = 0.2
    """Half-width of the ratio's clip range."""
    kl_penalty: Weight = 1.0
    """Initial coefficient of the KL penalty; adapted to hold target_kl."""
    value_clip_eps: Weight = 0.0
    """Clip range of value changes, in units of normalised returns; 0: no clipping."""
    value_coef: Weight = 0.5
    """Weight of the value loss."""
    entropy_coef: Weight = 0.0
    """Weight of the entropy bonus (entropy of the squashed distribution)."""
    max_grad_norm: Positive = 0.5
    """Gradients with a larger global norm are scaled down to it."""
    learning_rate: Positive = 3e-4
    """Adam's initial step size."""
    learning_rate_schedule: Literal["constant", "linear", "adaptive_kl", "adaptive_kl_linear"] = "linear"
    """constant; linear to 0 over total_env_steps; adaptive_kl: follows target_kl; adaptive_kl_linear: follows a
    target_kl that falls linearly to 0."""
    target_kl: Positive = 0.02
    """KL divergence per update that adaptive_kl and kl_penalty aim for."""
    max_kl: Weight = 0.0
    """End an update's gradient steps when the KL divergence exceeds this (trpo: its bound); 0: never."""
    kl_stop: Literal["epoch", "step"] = "epoch"
    """When max_kl is looked at: after each epoch (mean over it), or before each step (its minibatch)."""
    adam_b1: Decay = 0.9
    """Adam's decay of the first moment."""
    adam_b2: Decay = 0.999
    """Adam's decay of the second moment."""
    adam_eps: Positive = 1e-5
    """Adam's epsilon."""
    advantage_normalization: Literal["none", "minibatch", "batch"] = "batch"
    """The samples over which advantages get zero mean and unit variance."""
    normalize_obs: bool = True
    """Normalise observations with running moments."""
    normalize_returns: bool = True
    """Train the critic on normalised returns (PopArt)."""
    stagger_resets: bool = True
    """Start the worlds' episode clocks at random times, so that not all reach the time limit together."""
    max_nonfinite_share: Share = 0.01
    """Stop the run when more than this share of a log interval's steps ended in a non-finite world, or of its
    gradient steps had a non-finite gradient."""


@dataclass(frozen=True)
class CriticConfig:
    """The critic's own steps, of vpg, trpo, shac, and reinforce."""

    epochs: Count = 5
    """Passes over each batch, after the policy's step."""
    num_minibatches: Count = 32
    """Gradient steps per epoch; divides ppo.rollout_length times ppo.block_size."""
    learning_rate: Positive = 1e-3
    """Adam's step size, constant."""


@dataclass(frozen=True)
class ReinforceConfig:
    """The returns of reinforce, which are of whole episodes."""

    returns: Literal["whole", "to_go"] = "whole"
    """What weights an action: the discounted rewards of its whole episode, or those from its step on (to_go)."""
    baseline: Literal["none", "constant", "value"] = "none"
    """What is subtracted: none, the batch's mean (constant), or the critic's value."""


@dataclass(frozen=True)
class TrpoConfig:
    """The natural-gradient step of trpo, which ppo.max_kl bounds."""

    cg_steps: Annotated[int, Ge(1), Le(1000)] = 10
    """Steps of conjugate gradients that find its direction."""
    cg_damping: Annotated[float, Ge(0), Le(1e3)] = 0.1
    """Added to the diagonal of the Fisher matrix."""
    backtrack_steps: Annotated[int, Ge(1), Le(100)] = 10
    """Steps of different lengths to try; if none is accepted, the policy stays."""
    backtrack_factor: Annotated[float, Gt(0), Lt(1)] = 0.8
    """Length of each try, in units of the one before."""


@dataclass(frozen=True)
class LogConfig:
    """Metrics that are written while training, and how often."""

    every_updates: Count = 10
    """Updates per device call; metrics come to the host, and signals are seen, this often."""
    tensorboard: bool = True
    """Write TensorBoard files."""
    wandb: bool = False
    """Log to Weights & Biases as well; WANDB_MODE, WANDB_PROJECT and its other variables apply."""


@dataclass(frozen=True)
class CheckpointConfig:
    """When the training state is saved, and which checkpoints are kept."""

    every_updates: Count = 100
    """Updates between checkpoints; rounded up to whole device calls. The last state is always saved."""
    keep_latest: Annotated[int, Ge(2), Le(10**6)] = 2
    """Newest checkpoints to keep, at least 2: one must be whole while the next is written."""
    keep_best: Annotated[int, Ge(0), Le(10**6)] = 1
    """Best checkpoints to keep besides, by the expected return while training."""


@dataclass(frozen=True)
class EvalConfig:
    """Evaluations of the policy, when training ends and while it goes on."""

    episodes: Annotated[int, Ge(0), Le(10**6)] = 100
    """Episodes in Gymnasium's C MuJoCo when training ends; 0: no evaluation."""
    seed: Annotated[int, Ge(0), Le(2**31 - 1)] = 1_000_000
    """Seed of the first episode; the others follow on."""
    video: bool = True
    """Render one episode to video.mp4 when training ends."""
    every_env_steps: Annotated[int, Ge(0), Le(2**63 - 1)] = 0
    """Environment steps between evaluations while training, rounded up to whole device calls; the last state is then
    evaluated as well, and the best policy kept in best/. 0: none."""
    episodes_while_training: Annotated[int, Ge(1), Le(10**6)] = 3
    """Episodes of each of these evaluations."""
    video_every: Annotated[int, Ge(0), Le(10**6)] = 0
    """Film a clip at each of these evaluations (1), at each second one (2), ...; 0: none."""
    stop_at_return: Return | None = None
    """End the run when one of these evaluations has this mean return (of each policy, where there are several)."""
    patience: Annotated[int, Ge(0), Le(10**6)] = 0
    """End the run when the best of these evaluations has not been exceeded by the next ones, this number; 0: never."""


@dataclass(frozen=True)
class Config:
    """A whole training run."""

    env: Annotated[str, MinLen(1)]
    """Task, such as hopper, half_cheetah, or cartpole; brax:NAME, playground:NAME, or gymnasium:ID."""
    algorithm: AlgorithmName = "ppo"
    """ppo, a2c, vpg, reinforce, trpo, shac, or es, with settings of its own."""
    env_options: dict[str, Any] = field(default_factory=dict)
    """Options of the task under Gymnasium's names, such as ctrl_cost_weight."""
    seed: Annotated[int, Ge(0), Le(2**32 - 1)] = 0
    """Seed of everything random, 0 to 2^32 - 1."""
    num_seeds: Annotated[int, Ge(1), Le(4096)] = 1
    """Policies to train side by side, from seed on."""
    grid: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Settings and their values; all combinations are trained side by side, such as ppo.gamma: [0.99, 0.995] in a file;
    the option is given once for each setting."""
    total_env_steps: Annotated[int, Ge(1), Le(2**63 - 1)] = 10_000_000
    """Environment steps to train each policy for; exactly this number is run."""
    num_devices: Annotated[int, Ge(0), Le(2**20)] = 0
    """Devices that share the worlds; 0: the largest available number that divides the number of blocks."""
    on_write_error: Literal["continue", "stop"] = "continue"
    """When a checkpoint or metrics cannot be written (a full disk): continue, and try again with the next ones, or
    stop."""
    physics: PhysicsConfig = field(default_factory=PhysicsConfig)
    randomize: RandomizeConfig = field(default_factory=RandomizeConfig)
    init: InitConfig = field(default_factory=InitConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    ppo: PpoConfig = field(default_factory=PpoConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    reinforce: ReinforceConfig = field(default_factory=ReinforceConfig)
    trpo: TrpoConfig = field(default_factory=TrpoConfig)
    shac: ShacConfig = field(default_factory=ShacConfig)
    es: EsConfig = field(default_factory=EsConfig)
    log: LogConfig = field(default_factory=LogConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)


def sections() -> dict[str, str]:
    """The sections of a configuration by name, and what each is about."""
    found = {item.name: item.default_factory for item in fields(Config) if is_dataclass(item.default_factory)}
    return {name: " ".join((section.__doc__ or "").split()) for name, section in found.items()}


def minibatches_per_epoch(ppo: PpoConfig) -> int:
    """Gradient steps per epoch: ``num_minibatches``, or the minibatches of ``minibatch_size`` samples in a batch."""
    if ppo.minibatch_size:
        return ppo.num_envs * ppo.rollout_length // ppo.minibatch_size
    return ppo.num_minibatches


def fits_critic_apart(config: Config) -> bool:
    """Whether the critic has gradient steps of its own, after those of the policy."""
    with_baseline = config.reinforce.baseline == "value"
    return config.algorithm in ("vpg", "trpo", "shac") or (config.algorithm == "reinforce" and with_baseline)
