"""What mkdocs cannot do by itself: the order of the pages, and tables of options from the source."""

from pathlib import Path
from typing import Any

SECTIONS = {
    "Use": [
        "index",
        "running",
        "python",
        "from_other_trainers",
        "gymnasium",
        "own_robot",
        "quadruped",
        "discrete_actions",
        "export",
        "randomization",
        "adaptation",
        "finetuning",
        "cloning",
        "scaling",
    ],
    "Understand": ["architecture", "algorithms", "physics", "planar", "spatial", "gpu", "reliability", "dependencies"],
    "Results": ["results", "benchmarks"],
    "Reference": ["reference/config", "reference/python", "reference/envs", "reference/physics", "reference/ppo"],
    "Project": ["changelog", "contributing"],
}
OPTIONS = "<!-- options -->"
"""Stands in a page for the tables of a training run's options."""


def on_config(config: Any) -> Any:
    """Puts the pages in order; one that is not named above is listed all the same, under More."""
    docs = Path(config["docs_dir"])
    pages = {path.relative_to(docs).with_suffix("").as_posix() for path in docs.rglob("*.md")}
    known = {page for section in SECTIONS.values() for page in section}
    sections = {**SECTIONS, "More": sorted(pages - known)}
    there = {title: [f"{page}.md" for page in names if page in pages] for title, names in sections.items()}
    config["nav"] = [{title: names} for title, names in there.items() if names]
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fills in the tables of options."""
    return markdown.replace(OPTIONS, _options()) if OPTIONS in markdown else markdown


def _options() -> str:
    from mjxppo.commands.helptext import rows_of
    from mjxppo.commands.train import train_options
    from mjxppo.config.schema import sections

    options, lines = train_options(), []
    for name, text in {"": "", **sections()}.items():
        lines += ["", f"## {name}" if name else "## The run", "", text, ""]
        lines += ["| option | default, range | meaning |", "|---|---|---|"]
        lines += [f"| `{flag}` | {facts} | {meaning} |" for flag, meaning, facts in rows_of(options, name)]
        if name == "randomize":
            lines += ["", "Each of the ranges has", "", "| option | default, range | meaning |", "|---|---|---|"]
            rows = rows_of(options, "randomize.mass")
            lines += [f"| `{flag}` | {facts} | {meaning} |" for flag, meaning, facts in rows]
    return "\n".join(lines)
