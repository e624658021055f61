"""XLA settings are chosen by the package, and the user's own are respected."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mjxppo import xla

FUSION = "xla_cpu_use_multi_output_fusion"
OURS = FUSION + "=true,xla_cpu_disable_loop_unrolling=true"


@pytest.mark.parametrize(
    "user, expected",
    [
        ("", "--xla_force_host_platform_device_count=4 --xla_backend_extra_options=" + OURS),
        (
            "--xla_force_host_platform_device_count=2",
            "--xla_force_host_platform_device_count=2 --xla_backend_extra_options=" + OURS,
        ),
        (
            "--xla_dump_to=x --xla_backend_extra_options=foo=1",
            f"--xla_dump_to=x --xla_backend_extra_options=foo=1,{OURS} --xla_force_host_platform_device_count=4",
        ),
        (
            "--xla_backend_extra_options=" + FUSION + "=false",
            f"--xla_backend_extra_options={FUSION}=false,xla_cpu_disable_loop_unrolling=true "
            "--xla_force_host_platform_device_count=4",
        ),
    ],
)
def test_flags_are_merged_and_the_users_own_win(user, expected):
    merged = xla.merge_xla_flags(user, 4, avx512=False)
    assert merged == expected
    assert xla.merge_xla_flags(merged, 4, avx512=False) == merged, "merging twice changes nothing"


@pytest.mark.parametrize("width", ["", "--xla_cpu_prefer_vector_width=256"])
def test_with_avx512_its_whole_width_is_used_unless_the_user_says_otherwise(width):
    merged = xla.merge_xla_flags(width, 4, avx512=True)
    assert (width or "--xla_cpu_prefer_vector_width=512") in merged.split()
    assert merged.count("vector_width") == 1 and "loop_unrolling" not in merged
    assert xla.merge_xla_flags(merged, 4, avx512=True) == merged, "merging twice changes nothing"


@pytest.mark.parametrize(
    "flags, expected",
    [
        ("--a=1 --xla_backend_extra_options=" + FUSION + "=true", "--a=1"),
        ("--xla_backend_extra_options=x=1," + FUSION + "=false,y --b", "--xla_backend_extra_options=x=1,y --b"),
    ],
)
def test_multi_output_fusion_can_be_taken_out_again(flags, expected):
    assert xla.without_multi_output_fusion(flags) == expected


@pytest.mark.exhaustive
def test_mjx_works_in_a_fresh_process_on_every_supported_jax():
    done = python(
        "import numpy as np; from mjxppo import physics; from mjxppo.envs.robot import robot_model as load\n"
        "sim = physics.make(load('hopper.xml'), backend='mjx', frame_skip=1)\n"
        "state = sim.init(np.tile(sim.model.qpos0, (2, 1)).astype('f'), np.zeros((2, 6), 'f'))\n"
        "print(bool(np.isfinite(sim.step(state, np.zeros((2, 3))).qvel).all()))"
    )
    assert done.stdout.strip() == "True", done.stderr


def python(code: str, **environment: str) -> subprocess.CompletedProcess:
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | environment
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=600)


def test_importing_the_package_gives_one_device_per_core_and_at_least_two():
    done = python("import mjxppo, jax, mjxppo.xla as r; print(jax.device_count() == max(2, r.usable_cores()))")
    assert done.stdout.strip() == "True", done.stderr


def test_importing_too_late_warns_once_and_still_simulates():
    done = python(
        "import jax; jax.devices(); import mjxppo, mujoco, numpy as np; from mjxppo import physics, xla\n"
        'pendulum = \'<body><joint axis="0 1 0"/><geom size=".1" pos=".5 0 0"/></body>\'\n'
        "xml = f'<mujoco><worldbody>{pendulum}</worldbody></mujoco>'\n"
        "sim = physics.make(mujoco.MjModel.from_xml_string(xml), backend='planar')\n"
        "state = sim.step(sim.init(np.zeros((9, 1)), np.zeros((9, 1))), np.zeros((9, 0)))\n"
        "print(bool((abs(state.qvel) > 0.01).all()))"
    )
    assert done.stdout.strip() == "True", done.stderr
    assert done.stderr.count("import mjxppo before the first JAX computation") == 1


def test_the_users_compilation_cache_is_respected(tmp_path):
    code = "import mjxppo.xla as r; print(r.enable_compilation_cache())"
    assert python(code, JAX_COMPILATION_CACHE_DIR=str(tmp_path)).stdout.strip() == str(tmp_path)
    assert python(code, XDG_CACHE_HOME=str(tmp_path), JAX_COMPILATION_CACHE_DIR="").stdout.strip() == str(
        tmp_path / "mjxppo" / "xla"
    )


READINGS = {"back": "x[::-1]", "roll": "jnp.concatenate([x[1:], x[:1]])", "rows": "x[jnp.array([3, 0, 2, 1])]"}
UPDATES = {"column": "x.at[:, 1].set(7.0)", "row": "x.at[1].set(7.0)"}


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("update", UPDATES)
def test_a_program_whose_fusion_reads_what_it_overwrites_is_compiled_without_it(reading, update):
    done = python(
        "import mjxppo.xla as r, jax, jax.numpy as jnp, numpy as np\n"
        "x = np.arange(12.0, dtype=np.float32).reshape(4, 3)\n"
        f"program = lambda x: ({READINGS[reading]}, {UPDATES[update]})\n"
        "right = program(jnp.asarray(x))\n"
        "lowered = jax.jit(program).lower(x)\n"
        "plain = lowered.compile()\n"
        "same = lambda other: all(map(np.array_equal, right, other))\n"
        "print(r.reads_what_it_overwrites(plain.as_text()), same(r.compile_checked(lowered)(x)), same(plain(x)))"
    )
    flagged, checked, plain = done.stdout.split()
    assert flagged == checked == "True", done.stderr
    if (reading, update) == ("back", "column"):
        assert plain == "False", "XLA no longer needs compile_checked"
