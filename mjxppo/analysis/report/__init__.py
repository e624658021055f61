"""Report about one run: a web page that contains its pictures and its video, and needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mjxppo.analysis.report.facts import FILE, run_directory
from mjxppo.analysis.report.page import make_page
from mjxppo.errors import UserError
from mjxppo.files import write_bytes


def report(run: Path, out: Path | None = None, of_best: bool = False) -> dict[str, Any]:
    """Writes the page.

    Args:
        run: a run directory, its ckpt/, or one step's folder; the run may still be training.
        out: a file ending in .html; default: report.html in the run's directory.
        of_best: show evaluation and video of the best policy, which ``conclude.show_best`` has made.

    Returns:
        What was written, ready for JSON: path, run_dir, bytes, and the names of the page's sections.

    Raises:
        UserError: there is no run, it has logged nothing yet, or ``out`` cannot be written.
    """
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"out: {out} must end in .html")
    directory = run_directory(run)
    out = out or directory / FILE
    page, sections = make_page(directory, of_best)
    content = page.encode()
    write_bytes(out, content)
    return {"path": str(out), "run_dir": str(directory), "bytes": len(content), "sections": sections}
