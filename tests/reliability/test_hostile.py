"""Checkpoints, configurations and dumps from strangers: nothing in them is executed, followed, or half-believed."""

from __future__ import annotations

import ast
import json
import random
import shutil
from pathlib import Path

import jax.numpy as jnp
import pytest

import mjxppo
from mjxppo import cli
from mjxppo.config.schema import Config
from mjxppo.config.values import from_dict, read_yaml
from mjxppo.errors import UserError
from mjxppo.run import checkpoint
from mjxppo.run.checkpoint import CHECKSUMS, DamagedCheckpoint

SOURCES = sorted(Path(mjxppo.__file__).parent.rglob("*.py"))
EXECUTING_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
EXECUTING_CALLS = {"eval", "exec", "compile", "__import__", "system", "popen", "unsafe_load", "full_load"}


def calls_and_imports(source: str):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (("import", alias.name.split(".")[0], node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "import", (node.module or "").split(".")[0], node
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield "call", node.func.id, node
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield "method", node.func.attr, node


def complaints(source: str) -> list[str]:
    """Everything in a module that could execute what it reads."""
    found = []
    for kind, name, node in calls_and_imports(source):
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in getattr(node, "keywords", ())}
        arguments = len(getattr(node, "args", ()))
        if kind == "import" and name in EXECUTING_MODULES:
            found.append(f"imports {name}")
        if (kind == "call" and name in EXECUTING_CALLS) or (kind == "method" and name in EXECUTING_CALLS - {"compile"}):
            found.append(f"calls {name}")
        if keywords.get("allow_pickle", "False") != "False" or keywords.get("shell", "False") != "False":
            found.append(f"passes {keywords}")
        if (
            name in ("load", "load_all")
            and ast.unparse(node.func).startswith("yaml.")
            and keywords.get("Loader") != "_Loader"
        ):
            found.append("loads YAML unsafely")
        if ast.unparse(node).startswith("np.load(") and arguments > 1:
            found.append("np.load with positional options")
    return found


def test_no_module_reads_anything_that_could_execute():
    package = Path(mjxppo.__file__).parent
    rooms = {path.relative_to(package).parts[0] for path in SOURCES}
    assert len(SOURCES) > 50 and {"commands", "config", "policy", "run"} <= rooms
    assert not {str(path): found for path in SOURCES if (found := complaints(path.read_text(encoding="utf-8")))}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "eval('1')",
        "os.system('x')",
        "np.load(p, allow_pickle=True)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "subprocess.run(x, shell=True)",
    ],
)
def test_that_test_would_notice(source):
    assert complaints(source)


BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
)


@pytest.mark.parametrize(
    "text",
    [
        "env: !!python/object/apply:os.system ['touch owned']",
        "env: !!python/object/new:subprocess.Popen [['touch', 'owned']]",
        "env: !!python/module:os",
        '!!python/object/apply:builtins.exec [\'open("owned", "w")\']',
        BOMB,
        "env_options: &x {again: *x}",
        f"seed: {'9' * 5000}",
        "seed: 2001-13-45",
    ],
    ids=["apply", "new", "module", "exec", "bomb", "endless", "digits", "date"],
)
def test_yaml_executes_nothing_and_stays_small(tmp_path, monkeypatch, capsys, text):
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(text)
    assert cli.main(["train", "--config", "config.yaml"]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "not valid YAML" in error and len(error) < 500
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("run") / "ckpt"
    writer = checkpoint.CheckpointWriter(directory, Config(env="hopper"))
    writer.save(1, {"weights": jnp.ones((3, 4)), "count": jnp.int32(7)}, 1.0)
    writer.close()
    return directory


@pytest.fixture
def step(original, tmp_path) -> Path:
    shutil.copytree(original, tmp_path / "ckpt")
    return tmp_path / "ckpt" / "1"


def change_manifest(step: Path, sums: dict) -> None:
    (step / CHECKSUMS).write_text(json.dumps({"format": 1, "sha256": sums}))


def test_a_manifest_cannot_name_files_outside_its_step(step, tmp_path):
    outside = tmp_path / "secret"
    outside.write_text("secret")
    good = json.loads((step / CHECKSUMS).read_text())["sha256"]
    for name in ("../../secret", str(outside), "state/../../../secret"):
        change_manifest(step, good | {name: checkpoint._sha256(outside)})
        with pytest.raises(DamagedCheckpoint, match="outside the step"):
            checkpoint.verify(step)


@pytest.mark.parametrize("what", ["file", "directory", "manifest"])
def test_links_inside_a_step_are_refused(step, tmp_path, what):
    victim = {"file": step / "config" / "metadata", "directory": step / "state", "manifest": step / CHECKSUMS}[what]
    moved = tmp_path / "moved"
    victim.rename(moved)
    victim.symlink_to(moved)
    with pytest.raises(DamagedCheckpoint, match="a link"):
        checkpoint.verify(step)
    assert checkpoint.newest_whole_step(step.parent) is None


@pytest.mark.parametrize("name", ["²", "١", "-1", "01", "1.orbax-checkpoint-tmp", "9" * 30, "1e3"])
def test_folders_with_odd_names_are_no_steps(step, name):
    (step.parent / name).mkdir()
    assert checkpoint.steps(step.parent) == [1]


@pytest.mark.parametrize(
    "text", ["[]", "3", '"x"', "{}", '{"sha256": []}', '{"sha256": {}}', "[" * 100_000, "\0", "\ud800"]
)
def test_a_strange_manifest_is_a_damaged_step(step, text):
    (step / CHECKSUMS).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DamagedCheckpoint):
        checkpoint.verify(step)


@pytest.mark.parametrize(
    "content",
    [[], {}, {"format": 1}, {"format": 1, "config": []}, {"format": 1, "config": {"env": 3}}, {"format": "1"}],
    ids=str,
)
def test_a_strange_configuration_is_refused_with_one_line(step, content):
    (step / "config" / "metadata").write_text(json.dumps(content))
    checkpoint.write_checksums(step)
    with pytest.raises(UserError) as error:
        checkpoint.read(step)
    assert "\n" not in str(error.value)


def test_checkpoints_with_valid_checksums_and_any_contents_are_read_or_refused(original, tmp_path):
    """Bytes are changed at random, as by somebody who also writes new checksums."""
    moments = random.Random(0)
    files = [path.relative_to(original) for path in (original / "1").rglob("*") if path.is_file()]
    refused = 0
    for number in range(60):
        directory = tmp_path / str(number)
        shutil.copytree(original, directory)
        path = directory / moments.choice([file for file in files if file.name != CHECKSUMS])
        data = bytearray(path.read_bytes())
        for _ in range(moments.choice((1, 3, 30))):
            if data:
                data[moments.randrange(len(data))] = moments.randrange(256)
        path.write_bytes(bytes(data[: moments.choice((len(data), len(data) // 2))]))
        checkpoint.write_checksums(directory / "1")
        try:
            checkpoint.read(directory / "1")
        except UserError as error:
            refused += 1
            assert "\n" not in str(error)
        shutil.rmtree(directory)
    assert refused >= 10


def test_reading_does_not_need_what_a_configuration_names(tmp_path):
    """Reading a configuration neither opens nor imports what its values name."""
    path = tmp_path / "config.yaml"
    path.write_text("env: hopper\nenv_options: {xml_file: /no/such/file.xml}\n")
    assert from_dict(read_yaml(path)).env_options == {"xml_file": "/no/such/file.xml"}
