"""The package as others get it: import, wheel, scripts, Makefile."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import mjxppo

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ("train", "render", "evaluate", "export", "benchmark", "plot")


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=600, **options)


def test_import_is_light():
    """A bare import sets the XLA flags and does not even load JAX, let alone start it."""
    code = "import sys, mjxppo; print([m for m in ('jax', 'mujoco', 'brax', 'gymnasium') if m in sys.modules])"
    done = run(sys.executable, "-c", code)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_import_of_rendering_starts_no_jax_backend():
    code = "import mjxppo.render, mjxppo.xla as r; print(r.backend_is_up())"
    done = run(sys.executable, "-c", code)
    assert (done.stdout.strip(), done.stderr) == ("False", "")


def test_version_is_that_of_the_distribution():
    assert importlib.metadata.version("mjxppo") == mjxppo.__version__


def test_mujoco_and_mjx_are_the_same_release():
    assert importlib.metadata.version("mujoco") == importlib.metadata.version("mujoco-mjx")


def test_compilation_cache_works(tmp_path):
    """JAX leaves its cache off, with a warning, when something is missing to keep it within its size."""
    code = "import mjxppo.xla as r, jax; print(r.enable_compilation_cache());"
    code += "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0);"
    code += "jax.block_until_ready(jax.jit(lambda x: x + 1)(1.0))"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    for _ in range(2):
        done = run(sys.executable, "-c", code, env={**environment, "XDG_CACHE_HOME": str(tmp_path)})
        assert (done.returncode, done.stderr) == (0, "")
    assert list(Path(done.stdout.strip()).iterdir())


def test_tests_have_several_devices():
    import jax

    assert jax.device_count("cpu") >= 2


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The names in the source distribution, and in the wheel that is built from it."""
    out = tmp_path_factory.mktemp("dist")
    done = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT))
    assert done.returncode == 0, done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower()
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    return names, set(zipfile.ZipFile(wheel).namelist())


@pytest.fixture(scope="module")
def wheel_names(built):
    return built[1]


def test_source_distribution_holds_what_is_needed_to_work_on_it(built):
    tracked = {"Makefile", "mkdocs.yml", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "requirements/lock.txt"}
    folders = ("mjxppo", "configs", "tests", "docs", "scripts")
    files = {str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*.[pmy][yd]")}
    assert tracked | files <= built[0]


class TestWheel:
    def test_holds_every_config(self, wheel_names):
        configs = {path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.yaml")}
        assert configs
        assert {f"mjxppo/{path}" for path in configs} <= wheel_names

    def test_holds_the_types_marker_and_the_player(self, wheel_names):
        assert {"mjxppo/py.typed", "mjxppo/render/player.html", "mjxppo/analysis/report/page.html"} <= wheel_names

    def test_holds_every_module_and_nothing_else(self, wheel_names):
        modules = {str(path.relative_to(ROOT)) for path in (ROOT / "mjxppo").rglob("*.py")}
        assert modules <= wheel_names
        assert not [name for name in wheel_names if name.startswith(("tests/", "scripts/")) or "__pycache__" in name]


class TestLock:
    lines = (ROOT / "requirements" / "lock.txt").read_text().splitlines()
    extras = (ROOT / "requirements" / "extras.txt").read_text().splitlines()

    def test_pins_every_requirement(self):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
        names = {re.match(r"[\w.-]+", line).group().lower() for line in wanted}
        pinned = {line.split("==")[0] for line in self.lines if "==" in line}
        assert {name.replace("_", "-") for name in names} <= pinned

    def test_names_no_index_and_no_path(self):
        for line in self.lines + self.extras:
            assert re.fullmatch(r"(#.*|[a-z0-9.-]+==[\w.+]+( ; [^/]*)?)?", line), line

    def test_of_the_extras_agrees_with_that_of_the_base(self):
        # Versions, not markers: an extra may need everywhere what the base needs on some systems only.
        pins, more = ({line.split(" ;")[0] for line in lines if "==" in line} for lines in (self.lines, self.extras))
        assert pins <= more


class TestScripts:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_exist_for_every_command(self, command):
        assert f'run("{command}")' in (ROOT / "scripts" / f"{command}.py").read_text()

    def test_run_from_a_python_without_packages(self, tmp_path):
        """They start themselves again with the checkout's .venv, passing arguments and status on."""
        checkout = self.checkout(tmp_path)
        python = checkout / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text('#!/bin/sh\necho "venv: $@"\nexit 7\n')
        python.chmod(0o755)
        script = str(checkout / "scripts" / "render.py")
        done = run(sys.executable, "-E", "-S", script, "a b", "--out", "x.mp4")
        assert (done.returncode, done.stdout.strip()) == (7, f"venv: {script} a b --out x.mp4")

    def test_say_what_to_do_where_nothing_is_installed(self, tmp_path):
        checkout = self.checkout(tmp_path)
        done = run(sys.executable, "-E", "-S", str(checkout / "scripts" / "render.py"))
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
        assert "make setup" in done.stderr

    def checkout(self, tmp_path):
        scripts = tmp_path / "scripts"
        scripts.mkdir()
        for name in ("_bootstrap.py", "render.py"):
            (scripts / name).write_text((ROOT / "scripts" / name).read_text())
        return tmp_path


class TestMakefile:
    def environment(self):
        """Without what a `make test` around these tests passes down."""
        return {
            key: value for key, value in os.environ.items() if key != "ENV" and not key.startswith(("MAKE", "MFLAGS"))
        }

    def test_help_lists_every_target(self):
        done = run("make", "help", cwd=ROOT, env=self.environment())
        targets = set(re.findall(r"^\.PHONY: ([a-z-]+)$", (ROOT / "Makefile").read_text(), re.M))
        listed = set(re.findall(r"^  ([a-z-]+) +\w", done.stdout, re.M))
        assert listed == targets
        assert {"setup", "train", "render", "evaluate", "test", "lint", "types", "check"} <= targets

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["train"], "name the task: make train ENV=halfcheetah"),
            (
                ["setup", "EXTRAS=cuda11"],
                "EXTRAS=cuda11 is unknown; choose from cuda12 cuda13 warp onnx wandb minari view playground docs",
            ),
            (["setup", "EXTRAS=cuda12,cuda13"], "cuda12 and cuda13 exclude each other"),
        ],
    )
    def test_refuses_bad_arguments_before_doing_anything(self, arguments, message):
        done = run("make", "-n", *arguments, cwd=ROOT, env=self.environment())
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stdout == ""


class TestVenv:
    """requirements/venv.sh, with interpreters that only pretend."""

    def checkout(self, tmp_path, **interpreters):
        """A folder to make .venv in, and a PATH with interpreters of the given names and answers."""
        path = tmp_path / "bin"
        path.mkdir()
        for name, version in interpreters.items():
            fake = path / name.replace("_", ".")
            if version is None:  # a version manager's shim for an interpreter that is not installed
                fake.write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
            else:
                fake.write_text(
                    f'#!/bin/sh\ncase "$1$2" in *platform*) echo "{version}" ;; -c*) echo "hello<{version}>" ;;\n'
                    f'  -mvenv) mkdir -p .venv/bin; echo "{version}" > .venv/made ;; esac\n'
                )
            fake.chmod(0o755)
        for tool in ("sh", "cat", "mkdir", "rm"):
            (path / tool).symlink_to(f"/bin/{tool}")
        return path

    def make(self, tmp_path, path, *arguments):
        command = ["/bin/sh", str(ROOT / "requirements" / "venv.sh"), ".venv", *arguments]
        return run(*command, cwd=tmp_path, env={"PATH": str(path), "HOME": str(tmp_path)})

    @pytest.mark.parametrize(
        ("interpreters", "version"),
        [
            ({"python3_12": "3.12", "python3_11": "3.11"}, "3.12"),
            ({"python3_12": None, "python3_11": "3.11", "python3": "3.11"}, "3.11"),
            ({"python3": "3.12", "python3_11": "3.11"}, "3.12"),
            ({"python3": "3.13", "python3_11": "3.11"}, "3.13"),
            ({"python3": "3.14", "python3_11": "3.11"}, "3.11"),
            ({"python3": "3.10", "python3_13": "3.13"}, "3.13"),
            ({"python": "3.11"}, "3.11"),
        ],
    )
    def test_is_made_with_the_newest_that_works(self, interpreters, version, tmp_path):
        path = self.checkout(tmp_path, **interpreters)
        if any(Path(folder, f"python{v}").exists() for folder in ("/usr/bin", "/usr/local/bin") for v in ("3.12",)):
            pytest.skip("this machine has a Python 3.12 where the script looks beyond PATH")
        done = self.make(tmp_path, path)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / ".venv" / "made").read_text().strip() == version

    @pytest.mark.parametrize(
        ("asked", "found"),
        [("python3.10", "Python 3.10"), ("python3", "Python 3.14"), ("gone", "not a working Python with venv")],
    )
    def test_is_refused_for_an_unfit_interpreter(self, asked, found, tmp_path):
        path = self.checkout(tmp_path, python3_10="3.10", python3_12="3.12", python3="3.14", gone=None)
        done = self.make(tmp_path, path, asked)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"setup: PYTHON={asked} is {found}; Python 3.11, 3.12 or 3.13 is needed\n"
        assert not (tmp_path / ".venv").exists()
