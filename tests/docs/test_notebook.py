"""The quickstart notebook runs from the first cell to the last."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "notebooks" / "quickstart.ipynb"


@pytest.mark.slow
def test_the_notebook_runs_with_a_small_budget(tmp_path, monkeypatch):
    monkeypatch.setenv("MJXPPO_NOTEBOOK_STEPS", "100000")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    said = "".join(output.text for output in outputs if output.get("name") == "stderr").splitlines()
    assert [line.split()[0] for line in said] == ["hopper:", "training", "trained"], (
        "the run's own lines, and no warning"
    )
    assert any("image/png" in output.get("data", {}) for output in outputs), "the learning curve was drawn"
    assert (tmp_path / "hopper.npz").is_file()


def test_a_notebook_shows_progress_in_the_cell(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    code = """from mjxppo.console import ProgressLine, waiting
with waiting("compiling"):
    pass
with ProgressLine("hopper", 1, 1000, 0) as line:
    line.update(250, 10.0, 20.0)
    line.update(500, 10.0, 30.0)"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    waited, trained = notebook.cells[0].outputs
    assert waited["data"]["text/plain"] == ""
    text = trained["data"]["text/plain"]
    assert text.startswith("hopper  ━") and "500/1.0k steps" in text and "return 30" in text


def test_it_is_checked_in_without_outputs():
    notebook = json.loads(NOTEBOOK.read_text())
    assert not [cell for cell in notebook["cells"] if cell.get("outputs") or cell.get("execution_count")]
