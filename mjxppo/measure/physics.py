"""Physics throughput: environment steps per second of this package's backends, of stock MJX and of C MuJoCo.

Every engine starts from the same visited states and gets uniformly random controls. All of them are compiled first.
Then they take turns, round after round, so that a change of the machine's load affects all of them, and results are
medians over rounds. On a shared machine the ratios are reliable, the absolute numbers are not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from mujoco import rollout

from mjxppo import physics, xla
from mjxppo.envs.randomize import quantities
from mjxppo.envs.robot import robot_model
from mjxppo.errors import UserError
from mjxppo.measure.arguments import check_known
from mjxppo.measure.visited_states import FRAME_SKIP, ONLY_MJX, SPATIAL, XML_FILE, States, random_states
from mjxppo.physics import PhysicsState
from mjxppo.physics.compiler import check_compiler, compiler_aborts
from mjxppo.physics.messages import import_mjx
from mjxppo.physics.pallas_backend import KERNELS
from mjxppo.physics.parameters import nominal
from mjxppo.run import machine

Array = jax.Array
Stepper = Callable[[PhysicsState, Array], PhysicsState]

VARIED = "-varied"
BACKENDS = (
    *("c", "mjx-stock", "planar", "spatial", *KERNELS, "mjx", "mjx-warp"),
    *(f"{name}{VARIED}" for name in ("planar", "spatial", "mjx")),
)
"""Engines that can be measured: C MuJoCo on all cores, stock MJX (with its default 100 iterations and 50 line-search
steps), this package's backends, and three of these with different physical parameters in every world.
``planar-pallas:WORLDS:WARPS`` sets the size of the kernel's programs; so with ``spatial-pallas``."""

_MJX = ("mjx", "mjx-stock")
STOCK_WORLDS, STOCK_STEPS = 256, 4
"""Numbers of worlds and steps for stock MJX: few, because it is slow and larger batches can hang XLA:CPU (batched
LAPACK)."""


def measure_physics(
    tasks: Sequence[str] = ("half_cheetah", "hopper"),
    backends: Sequence[str] = (),
    num_envs: int = 4096,
    num_steps: int = 20,
    repeats: int = 5,
    seed: int = 0,
) -> dict[str, Any]:
    """Measures backends on tasks.

    Args:
        tasks: keys of ``FRAME_SKIP``.
        backends: elements of ``BACKENDS``; empty: the task's default. ``ratio_to_c`` needs "c" among them.
        num_envs: number of worlds stepped together, a multiple of the number of devices.
        num_steps: environment steps of each world in a round.
        repeats: number of rounds; results are medians.
        seed: seed of the initial states and controls.

    Returns:
        ``{"hardware": ..., "versions": ..., "results": [...], "fastest": {task: backend}}``, for each task and backend
        ``compile_s``, ``env_steps_per_s`` (median), its extremes, ``physics_steps_per_s`` and the ratios to "c" and
        "mjx-stock". The fastest is the fastest of those that ``physics.make`` takes.

    Raises:
        UserError: a task or backend is unknown or cannot run here, or ``num_envs`` does not fit the devices.
    """
    check_known("tasks", tasks, FRAME_SKIP)
    kinds = [backend.split(":")[0] for task in tasks for backend in backends or default_backends(task)]
    check_known("backends", kinds, BACKENDS)
    _check_compiler(kinds)
    kernel = next((kind for kind in kinds if kind in KERNELS), None)
    if kernel and xla.platform() != "gpu":
        raise UserError(f"backends: {kernel} is a GPU kernel; without a GPU it is the same as {KERNELS[kernel].kind}")
    if num_envs % jax.local_device_count():
        raise UserError(f"num_envs: {num_envs} is no multiple of the {jax.local_device_count()} local devices")
    results = []
    for task in tasks:
        results += _run_task(task, backends or default_backends(task), num_envs, num_steps, repeats, seed)
    return {**machine.describe(), "results": results, "fastest": _fastest(results)}


def default_backends(task: str = "half_cheetah") -> tuple[str, ...]:
    """The backends that are measured by default on this machine: the Pallas kernel on a GPU only."""
    kind = "spatial" if task in SPATIAL else "planar"
    kernel = (f"{kind}-pallas",) if xla.platform() == "gpu" else ()
    own = () if task in ONLY_MJX else (kind, *kernel)
    return ("c", *own, *(() if compiler_aborts() else _MJX))


def _check_compiler(kinds: Sequence[str]) -> None:
    """Chooses XLA's settings, before the backend starts, for MJX where that is measured, and planar is not.

    Raises UserError where the installed JAX needs different ones for the two.
    """
    mjx = [kind for kind in kinds if kind.removesuffix(VARIED) in _MJX]
    if mjx and not any(kind.startswith(("planar", "spatial")) for kind in kinds):
        check_compiler(mjx[0], "backends")
    elif mjx and compiler_aborts():
        raise UserError(f"backends: this JAX compiles planar and {mjx[0]} with different settings; measure them apart")


def _fastest(results: list[dict[str, Any]]) -> dict[str, str]:
    """The fastest of this package's backends, by task."""
    ours = [r for r in results if r["backend"] not in ("c", "mjx-stock") and not r["backend"].endswith(VARIED)]
    ascending = sorted(ours, key=lambda result: result["env_steps_per_s"])
    return {result["env"]: result["backend"] for result in ascending}


def _run_task(
    task: str, backends: Sequence[str], num_envs: int, num_steps: int, repeats: int, seed: int
) -> list[dict[str, Any]]:
    model = robot_model(XML_FILE[task])
    visited = random_states(model, task, min(num_envs, 1024), seed)
    results: list[dict[str, Any]] = []
    rounds = []
    for backend in backends:
        worlds, steps = (STOCK_WORLDS, STOCK_STEPS) if backend == "mjx-stock" else (num_envs, num_steps)
        start = time.perf_counter()
        states = States(*(x[np.arange(worlds) % len(x)] for x in visited))
        rounds.append(_prepare(backend, model, task, states, steps, seed))
        results.append(
            {
                "env": task,
                "backend": backend,
                "num_envs": worlds,
                "num_steps": steps,
                "num_devices": xla.usable_cores() if backend == "c" else jax.local_device_count(),
                "compile_s": round(time.perf_counter() - start, 2),
            }
        )
    seconds = [[_timed(one_round) for one_round in rounds] for _ in range(repeats)]  # [repeats][backends]
    rates = {}
    for i, result in enumerate(results):
        env_steps = result["num_envs"] * result["num_steps"]
        speeds = sorted(env_steps / row[i] for row in seconds)
        rates[result["backend"]] = float(np.median(speeds))
        result["env_steps_per_s"] = float(np.median(speeds))
        result["env_steps_per_s_min"], result["env_steps_per_s_max"] = speeds[0], speeds[-1]
        result["physics_steps_per_s"] = float(np.median(speeds)) * FRAME_SKIP[task]
    for result in results:
        for key, reference in (("ratio_to_c", "c"), ("ratio_to_stock", "mjx-stock")):
            result[key] = result["env_steps_per_s"] / rates[reference] if reference in rates else None
    return results


def _timed(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _prepare(
    backend: str, model: mujoco.MjModel, task: str, states: States, num_steps: int, seed: int
) -> Callable[[], None]:
    """A function that runs one round of a backend; it has been compiled and run once."""
    if backend == "c":
        return _c_round(model, task, states, num_steps, seed)
    if backend == "mjx-stock":
        return _jax_round(_stock_step(model, FRAME_SKIP[task]), model, states, num_steps, seed)
    simulator = _simulator(backend.removesuffix(VARIED), model, FRAME_SKIP[task])
    parameters = _varied_parameters(model, len(states.qpos), seed) if backend.endswith(VARIED) else None
    return _jax_round(simulator.step, model, states, num_steps, seed, parameters)


def _varied_parameters(model: mujoco.MjModel, num_envs: int, seed: int) -> physics.Parameters:
    """Values of all parameters that domain randomisation varies, within 20 % of the model's, for each world."""
    rng = np.random.default_rng(seed)

    def varied(name: str) -> Array:
        value = nominal(model, name)
        return jnp.asarray(value * rng.uniform(0.8, 1.2, (num_envs, *value.shape)), jnp.float32)

    names = sorted({name for quantity, own in quantities.FIELDS.items() if quantity != "size" for name in own})
    return physics.set_const(model, {name: varied(name) for name in names})


def _simulator(backend: str, model: mujoco.MjModel, frame_skip: int) -> physics.Physics:
    kind, *sizes = backend.split(":")
    if not sizes:
        return physics.make(model, backend, frame_skip)  # type: ignore[arg-type]
    try:
        worlds, warps = (int(size) for size in sizes)
        kernel = KERNELS[kind]
    except (KeyError, ValueError):
        known = " or ".join(f"{name}:WORLDS:WARPS" for name in KERNELS)
        raise UserError(f"backends: {backend!r}: with sizes it must be {known}, two numbers") from None
    return kernel(model, frame_skip, worlds, warps)


def _c_round(model: mujoco.MjModel, task: str, states: States, num_steps: int, seed: int) -> Callable[[], None]:
    """A round of ``mujoco.rollout`` with a thread for every core."""
    frame_skip, count = FRAME_SKIP[task], states.qpos.shape[0]
    spec = mujoco.mjtState.mjSTATE_FULLPHYSICS
    size = mujoco.mj_stateSize(model, spec)
    data = [mujoco.MjData(model) for _ in range(xla.usable_cores())]
    initial = np.zeros((count, size))
    for row, qpos, qvel in zip(initial, states.qpos, states.qvel, strict=True):
        data[0].qpos[:], data[0].qvel[:] = qpos, qvel
        mujoco.mj_getState(model, data[0], row, spec)
    low, high = model.actuator_ctrlrange.T
    ctrl = np.random.default_rng(seed).uniform(low, high, (count, num_steps, model.nu))
    ctrl = np.repeat(ctrl, frame_skip, axis=1)
    trajectory = np.zeros((count, num_steps * frame_skip, size))
    pool = rollout.Rollout(nthread=len(data))

    def one_round() -> None:
        pool.rollout(model, data, initial, ctrl, initial_warmstart=states.qacc_warmstart, state=trajectory)

    one_round()
    return one_round


def _stock_step(model: mujoco.MjModel, frame_skip: int) -> Stepper:
    """A step as in MJX's documentation: ``mjx.step`` on whole ``mjx.Data``, with the model's own solver settings."""
    import_mjx()
    from mujoco import mjx  # prints warnings unless import_mjx was called before

    mjx_model = jax.tree.map(np.asarray, mjx.put_model(model, impl="jax"))
    mjx_data = jax.tree.map(np.asarray, mjx.make_data(model, impl="jax"))

    def step(state: PhysicsState, ctrl: Array) -> PhysicsState:
        m, template = jax.tree.map(jnp.asarray, (mjx_model, mjx_data))

        def one_world(state: PhysicsState, ctrl: Array) -> PhysicsState:
            data = template.replace(qpos=state.qpos, qvel=state.qvel, qacc_warmstart=state.qacc_warmstart, ctrl=ctrl)
            data = jax.lax.fori_loop(0, frame_skip, lambda _, d: mjx.step(m, d), data)
            return PhysicsState(data.qpos, data.qvel, data.qacc_warmstart)

        return jax.vmap(one_world)(state, ctrl)

    return step


def _jax_round(
    step: Stepper,
    model: mujoco.MjModel,
    states: States,
    num_steps: int,
    seed: int,
    parameters: physics.Parameters | None = None,
) -> Callable[[], None]:
    """A round of ``num_steps`` environment steps as one program over all local devices."""
    devices = jax.local_devices()
    keys = jax.random.split(jax.random.key(seed), len(devices))
    qpos, qvel, warmstart = (jnp.asarray(x, jnp.float32) for x in states[:3])
    start = PhysicsState(qpos, qvel, warmstart, parameters)
    low, high = jnp.asarray(model.actuator_ctrlrange.T, jnp.float32)

    def per_device(state: PhysicsState, keys: Array) -> PhysicsState:
        def one(state: PhysicsState, key: Array) -> tuple[PhysicsState, None]:
            ctrl = jax.random.uniform(key, (state.qpos.shape[0], model.nu), minval=low, maxval=high)
            return step(state, ctrl), None

        return jax.lax.scan(one, state, jax.random.split(keys[0], num_steps))[0]

    axis = PartitionSpec("worlds")
    sharded = jax.shard_map(
        per_device, mesh=Mesh(np.array(devices), "worlds"), in_specs=(axis, axis), out_specs=axis, check_vma=False
    )
    program = jax.jit(sharded).lower(start, keys).compile()

    def one_round() -> None:
        jax.block_until_ready(program(start, keys))

    one_round()
    return one_round
