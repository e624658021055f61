"""Orders the pages of the documentation site; a page that is not named here is listed all the same, under More."""

from pathlib import Path
from typing import Any

SECTIONS = {
    "Use": ["index", "running", "python", "gymnasium", "export", "randomization"],
    "Understand": ["architecture", "physics", "planar", "reliability", "dependencies"],
    "Results": ["results", "benchmarks"],
    "Reference": ["reference/config", "reference/python", "reference/envs", "reference/physics", "reference/ppo"],
    "Project": ["changelog", "contributing"],
}


def on_config(config: Any) -> Any:
    """Called by mkdocs once it has read mkdocs.yml."""
    docs = Path(config["docs_dir"])
    pages = {path.relative_to(docs).with_suffix("").as_posix() for path in docs.rglob("*.md")}
    known = {page for section in SECTIONS.values() for page in section}
    sections = {**SECTIONS, "More": sorted(pages - known)}
    there = {title: [f"{page}.md" for page in names if page in pages] for title, names in sections.items()}
    config["nav"] = [{title: names} for title, names in there.items() if names]
    return config
