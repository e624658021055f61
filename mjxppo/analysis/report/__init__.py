"""One web page about one run, with everything inside it: it opens anywhere, without a network, and can be mailed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mjxppo.errors import UserError
from mjxppo.files import write_bytes

FILE, SPLIT = "report.html", "split.json"


def report(run: Path, out: Path | None = None) -> dict[str, Any]:
    """Writes the page.

    Args:
        run: a run directory, its ckpt/, or one step's folder; the run may still be going on.
        out: a file ending in .html; default: report.html in the run's directory.

    Returns:
        What was written, ready for JSON: path, bytes, and the sections that the run had something for.

    Raises:
        UserError: there is no run or it has logged nothing yet, or ``out`` cannot be written.
    """
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"out: {out} must end in .html")
    directory = _directory(run)
    out = out or directory / FILE
    from mjxppo.analysis.report.page import make_page

    page, sections = make_page(directory)
    content = page.encode()
    write_bytes(out, content)
    return {"path": str(out), "run_dir": str(directory), "bytes": len(content), "sections": sections}


def _directory(run: Path) -> Path:
    """The run's directory; where it trains several policies, the one that holds theirs, unless one of them is named."""
    from mjxppo.analysis.plot import find_runs

    return Path(os.path.commonpath(find_runs(run)))


def measure_split(run: Path, repeats: int = 3) -> Path:
    """Times the parts of an update of one policy of a run on this machine, for its report.

    Args:
        run: as ``report`` takes it.
        repeats: rounds; the median counts.

    Returns:
        The file that holds the measurement: split.json in the run's directory.
    """
    from mjxppo.config.check import make_config
    from mjxppo.config.sweep import members_of
    from mjxppo.config.values import read_yaml
    from mjxppo.files import write_json
    from mjxppo.measure import train
    from mjxppo.run.directory import CONFIG

    directory = _directory(run)
    config = make_config(read_yaml(directory / CONFIG))
    write_json(directory / SPLIT, train.run([members_of(config)[0].config], repeats))
    return directory / SPLIT
