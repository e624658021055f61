"""What mkdocs cannot do by itself: the order of the pages, and tables of options from the source."""

from pathlib import Path
from typing import Any

SECTIONS = {
    "Use": [
        "index",
        "running",
        "python",
        "gymnasium",
        "export",
        "randomization",
        "adaptation",
        "finetuning",
        "scaling",
    ],
    "Understand": ["architecture", "physics", "planar", "reliability", "dependencies"],
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
    from mjxppo.commands.helptext import groups_of
    from mjxppo.commands.train import TrainArguments

    lines = []
    for group in groups_of(TrainArguments):
        lines += ["", f"## {group.name}" if group.name else "## The run", "", group.text, ""]
        lines += ["| option | default, range | meaning |", "|---|---|---|"]
        lines += [f"| `{option.flag}` | {option.facts} | {option.text} |" for option in group.options]
    return "\n".join([*lines, *_randomize()])


def _randomize() -> list[str]:
    """The fields that only a file can set, under their names in it."""
    from mjxppo.commands.helptext import groups_of, texts_of
    from mjxppo.config.randomize import RandomizeConfig

    numbers, *ranges = groups_of(RandomizeConfig)
    texts = texts_of(RandomizeConfig)
    lines = ["", "## randomize", "", "How worlds differ; given in a file, not as options. Ranges:", ""]
    lines += ["| field | meaning |", "|---|---|", *(f"| `{one.name}` | {texts[one.name]} |" for one in ranges)]
    for title, options in (("Each of them has", ranges[0].options), ("Besides:", numbers.options)):
        lines += ["", title, "", "| field | default, range | meaning |", "|---|---|---|"]
        lines += [f"| `{_name(option.flag)}` | {option.facts} | {option.text} |" for option in options]
    return lines


def _name(flag: str) -> str:
    """The field's own name: each of --mass.[no-]each."""
    return flag.split()[0].split(".")[-1].removeprefix("[no-]").removeprefix("--").replace("-", "_")
