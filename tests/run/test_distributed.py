"""Several processes train as one: the same numbers, files written once, one end for all, and exact resume."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import hosts
import numpy as np
import pytest
import yaml
from kill import TIMES

from mjxppo import cli
from mjxppo.config.check import make_config
from mjxppo.config.values import merge, read_named
from mjxppo.errors import UserError
from mjxppo.ppo import placement
from mjxppo.run import checkpoint, distributed
from mjxppo.run.metrics import read_rows

TINY = [
    *("--env", "brax:fast", "--ppo.num-envs", "64", "--ppo.block-size", "16", "--ppo.rollout-length", "16"),
    *("--ppo.num-minibatches", "4", "--eval.episodes", "0", "--eval.no-video", "--log.no-tensorboard"),
]
EVERY_UPDATE = ["--log.every-updates", "1", "--checkpoint.every-updates", "1", "--checkpoint.keep-latest", "9"]
LOST_WITHIN_S = 60


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def start(run: str, *arguments: str, **options) -> list:
    return hosts.start("-m", "mjxppo.cli", "train", *TINY, "--run-dir", run, *arguments, **options)


def alone(run: str, *arguments: str) -> int:
    return cli.main(["train", *TINY, "--run-dir", run, *arguments])


def state(run: str, step: int) -> dict[str, np.ndarray]:
    checkpoint.verify(Path(run) / "ckpt" / str(step))
    return checkpoint.read(Path(run) / "ckpt" / str(step))[0]


def logged(run: str) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in TIMES} for row in read_rows(Path(run))]


def assert_worlds_equal_and_learners_close(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name in one:
        if name.startswith("learner"):
            np.testing.assert_allclose(one[name], other[name], rtol=2e-3, atol=2e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def cut(run: str, copy: str, last: int) -> None:
    """What a kill after checkpoint ``last`` would have left of a run."""
    shutil.copytree(run, copy)
    for step in checkpoint.steps(Path(copy) / "ckpt"):
        if step > last:
            shutil.rmtree(Path(copy) / "ckpt" / str(step))


@pytest.mark.exhaustive
@pytest.mark.slow
def test_two_processes_train_as_one_and_either_resumes_what_the_other_began():
    steps = ["--total-env-steps", str(4 * 1024), *EVERY_UPDATE]
    (code, out, err), (other_code, other_out, other_err) = hosts.finish(start("together", *steps, how="slurm"))
    assert (code, other_code) == (0, 0), err + other_err
    assert json.loads(out)["env_steps"] == 4 * 1024 and "trained 4.1k steps" in err
    assert (other_out, other_err) == ("", ""), "one process speaks"
    assert [row["update"] for row in logged("together")] == [1, 2, 3, 4]
    assert len(json.loads(Path("together/machine.json").read_text())) == 1

    assert alone("alone", *steps, "--num-devices", "2") == 0
    assert_worlds_equal_and_learners_close(state("together", 1), state("alone", 1))

    cut("together", "alone-again", last=2)
    assert alone("alone-again", *steps, "--num-devices", "4", "--resume") == 0
    assert_worlds_equal_and_learners_close(state("together", 3), state("alone-again", 3))

    cut("alone", "together-again", last=2)
    ended = hosts.finish(start("together-again", *steps, "--num-devices", "0", "--resume"))
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert_worlds_equal_and_learners_close(state("alone", 3), state("together-again", 3))
    assert [row["update"] for row in logged("together-again")] == [1, 2, 3, 4]


def wait_for_updates(run: str, processes: list, more: int = 5) -> None:
    """Until both train, some updates after their start."""
    path = Path(run) / "metrics.jsonl"
    before = path.stat().st_ino if path.exists() else 0
    deadline, first = time.monotonic() + 600, None
    while time.monotonic() < deadline and all(process.poll() is None for process in processes):
        if path.exists() and path.stat().st_ino != before:
            rows = len(read_rows(Path(run)))
            first = rows if first is None else first
            if rows >= first + more:
                return
        time.sleep(0.01)
    raise AssertionError([process.communicate() for process in processes if process.poll() is not None])


def ended_over_a_lost_process(code: int, err: str) -> bool:
    """With one line, where a collective failed; or by an abort of JAX's runtime, with its own message."""
    if code == 1:
        return "another process" in err.splitlines()[-1]
    return code == -signal.SIGABRT and "JAX distributed service detected fatal errors" in err


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.timeout(1800)  # ten processes, two at a time: minutes on a busy machine
def test_a_signal_stops_all_a_kill_ends_all_and_the_run_resumes_to_the_bit():
    options = ["--total-env-steps", str(150 * 1024), "--log.every-updates", "2", "--checkpoint.every-updates", "6"]
    assert [code for code, _, _ in hosts.finish(start("whole", *options))] == [0, 0]

    processes = start("broken", *options)
    wait_for_updates("broken", processes)
    processes[1].send_signal(signal.SIGTERM)
    (code, _, err), (other_code, _, _) = hosts.finish(processes)
    assert (code, other_code) == (143, 143)
    assert err.splitlines()[-1].startswith("stopped at") and "--resume" in err
    assert checkpoint.newest_whole_step(Path("broken/ckpt")).name == str(len(read_rows(Path("broken"))))

    for victim in (1, 0):
        processes = start("broken", *options, "--resume")
        wait_for_updates("broken", processes)
        processes[victim].kill()
        killed = time.monotonic()
        ended = hosts.finish(processes)
        assert time.monotonic() - killed < LOST_WITHIN_S
        code, _, err = ended[1 - victim]
        assert ended_over_a_lost_process(code, err), err

    assert [code for code, _, _ in hosts.finish(start("broken", *options, "--resume"))] == [0, 0]
    whole, broken = state("whole", 150), state("broken", 150)
    assert not [name for name in whole if whole[name].tobytes() != broken[name].tobytes()]
    assert logged("whole") == logged("broken")


@pytest.mark.usefixtures("compiled_quickly")
def test_one_that_fails_ends_the_others():
    Path("run").mkdir()
    Path("run/something").touch()
    (code, _, err), (other_code, _, other_err) = hosts.finish(start("run"))
    assert code == 2
    assert err == "mjxppo: run_dir: run is not empty; continue it with --resume, or give another --run-dir\n"
    assert ended_over_a_lost_process(other_code, other_err), other_err


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"MJXPPO_COORDINATOR": "host:1", "MJXPPO_NUM_PROCESSES": "2"}, "MJXPPO_PROCESS_ID: must be a number"),
        ({"MJXPPO_COORDINATOR": "host", "MJXPPO_NUM_PROCESSES": "2", "MJXPPO_PROCESS_ID": "0"}, "must be host:port"),
        ({"MJXPPO_COORDINATOR": "h:1", "MJXPPO_NUM_PROCESSES": "2", "MJXPPO_PROCESS_ID": "2"}, "is not below"),
    ],
)
def test_an_incomplete_place_is_one_line(environment, message):
    with pytest.raises(UserError, match=message):
        distributed._initialize_arguments(environment)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8", "SLURM_PROCID": "3", "SLURM_STEP_NODELIST": "n[1-8]"},
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "1"},
        {"MJXPPO_COORDINATOR": "h:1", "MJXPPO_NUM_PROCESSES": "1", "MJXPPO_PROCESS_ID": "0"},
    ],
)
def test_a_process_that_was_not_asked_to_join_is_alone(environment):
    assert distributed._initialize_arguments(environment) is None


def test_processes_with_different_configurations_are_refused(monkeypatch):
    distributed.check_same("config", "a")
    monkeypatch.setattr(distributed, "from_first_process", lambda value: "another digest")
    with pytest.raises(UserError, match="config: the processes were given different ones"):
        distributed.check_same("config", "a")


LAUNCH = hosts.ROOT / "docs" / "launch"


def test_the_example_jobs_are_valid_and_so_is_what_they_train():
    assert subprocess.run(["bash", "-n", LAUNCH / "slurm.sh"]).returncode == 0
    service, claim, job = yaml.safe_load_all((LAUNCH / "kubernetes.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    places = {variable["name"]: variable.get("value", "0") for variable in container["env"]}
    asked = distributed._initialize_arguments(places)
    assert asked["num_processes"] == job["spec"]["completions"] == job["spec"]["parallelism"]
    host, _, port = asked["coordinator_address"].partition(":")
    assert host == f"{job['metadata']['name']}-0.{service['metadata']['name']}" and pod["subdomain"] == "mjxppo"
    assert int(port) == container["ports"][0]["containerPort"]
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    for text in ((LAUNCH / "slurm.sh").read_text(), container["args"][0]):
        words = text.split("--config ")[1].replace("\\\n", " ").split("--run-dir")[0].split()
        sizes = ["--ppo.num-envs", "262144", "--ppo.num-minibatches", "64", "--total-env-steps", "800000000"]
        assert words == ["half_cheetah_gpu_throughput", *sizes]
    changes = {"ppo": {"num_envs": 262_144, "num_minibatches": 64}}
    config = make_config(merge(read_named("half_cheetah_gpu_throughput"), changes))
    assert placement.choose_num_devices(config, 32, 4) == placement.choose_num_devices(config, 32, 32) == 32


@pytest.mark.parametrize(
    ("num_devices", "processes", "message"),
    [(3, 2, "num_devices: 3 is no multiple of the number of processes, 2"), (0, 7, "which 7 processes cannot share")],
)
def test_devices_that_processes_cannot_share_evenly_are_refused(num_devices, processes, message):
    values = {"env": "hopper", "num_devices": num_devices, "ppo": {"num_envs": 384, "block_size": 128}}
    with pytest.raises(UserError, match=message):
        placement.choose_num_devices(make_config(values), 8, processes)


@pytest.mark.parametrize(
    ("error", "gone"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc] Gloo all-reduce failed: Connection closed by peer"), True),
        (ValueError("ncclSystemError: NCCL operation failed"), True),
        (RuntimeError("out of memory"), False),
        (KeyError("Gloo"), False),
    ],
)
def test_a_failed_collective_is_told_from_other_errors(error, gone):
    assert distributed._is_failed_collective(error) is gone
