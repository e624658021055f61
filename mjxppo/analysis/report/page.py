"""The report's page: the template page.html, filled with the facts about a run."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from mjxppo.analysis.report import figures
from mjxppo.analysis.report.facts import Facts, read_facts
from mjxppo.console import duration, human, score
from mjxppo.policy.engine import physics_of
from mjxppo.run.metrics import RETURN

_PARTS = {
    "physics": ("physics", "#56B4E9", "stepping the worlds, rewards and resets"),
    "policy": ("policy", "#0072B2", "the rest of the rollout: actions, random numbers, bookkeeping"),
    "gae": ("GAE", "#009E73", "values and advantages"),
    "gradient_steps": ("gradient steps", "#D55E00", "all epochs of minibatches"),
    "program": ("device program", "#0072B2", "rollouts and learning"),
    "host": ("host", "#999999", "metrics and checkpoints"),
    "compile": ("compilation", "#E69F00", "at the last start, or reading it from the cache"),
}


def make_page(directory: Path, of_best: bool = False) -> tuple[str, list[str]]:
    """Makes the report of a run directory; returns its HTML and the names of its sections.

    ``of_best``: as ``read_facts`` takes it.

    Raises:
        UserError: the run has no configuration or has logged nothing yet.
    """
    facts = read_facts(directory, of_best)
    pictures = {
        "curve": figures.return_curve(facts.policies),
        "histogram": figures.histogram(facts.evaluation) if facts.evaluation else None,
    }
    values: dict[str, Any] = {
        "facts": facts,
        "cards": _cards(facts),
        "time_bars": _time_bars(facts),
        "video": _data_uri("video/mp4", facts.video) if facts.video else None,
        "films": [
            (human(clip.env_steps), clip.return_mean, _data_uri("video/mp4", clip.content)) for clip in facts.clips
        ],
        "human": human,
        "score": score,
        "physics_of": physics_of,
        "made": time.strftime("%Y-%m-%d %H:%M"),
        "panels": [_data_uri("image/svg+xml", svg.encode()) for svg in figures.learning_panels(facts.rows)],
        **{name: _data_uri("image/svg+xml", svg.encode()) if svg else None for name, svg in pictures.items()},
    }
    parts = {"evaluation": facts.evaluation, "split": facts.split, "machine": facts.machines} | values
    sections = [name for name in ("curve", "films", "video", "evaluation", "split", "panels", "machine") if parts[name]]
    # Autoescape: a run's name and its options may contain HTML.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = resources.files("mjxppo.analysis.report").joinpath("page.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(values), sections


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _cards(facts: Facts) -> list[tuple[str, str, str]]:
    """The main figures of a run: (name, value, explanation)."""
    times, config = facts.times, facts.config
    cards = []
    if facts.evaluation:
        cards.append(_return_card(facts.evaluation, config.env, facts.of_best))
    if facts.best is not None and facts.best[RETURN] is not None:
        where = f"at {human(facts.best['env_steps'])} steps, {facts.best['eval/episodes']} episodes while training"
        cards.append(("best evaluation", score(facts.best[RETURN], ","), where))
    last = next((row for row in reversed(facts.rows) if row.get("episode_return") is not None), None)
    if last is not None:
        cards.append(("training return", score(last["episode_return"], ","), "episodes of the last update"))
    whole = facts.env_steps >= config.total_env_steps
    budget = "the whole budget" if whole else f"of {human(config.total_env_steps)}"
    if facts.complete and not whole:
        budget += f", ended by {facts.ended_by.replace('_', ' ')}"
    count = len(facts.policies)
    each = f"{budget}, each of {count} policies" if count > 1 else budget
    cards.append(("environment steps", human(facts.env_steps), each))
    if times.train_s:
        speed = count * facts.env_steps / times.train_s
        cards.append(("speed", human(speed), "environment steps a second, all included"))
        cards.append(("training", duration(times.train_s), f"{facts.rows[-1]['update']} updates"))
    return cards


def _return_card(result: dict[str, Any], env: str, of_best: bool) -> tuple[str, str, str]:
    where = physics_of(result["engine"], env)
    if "groups" not in result:
        spread = f"± {score(result['std'], ',')} over {result['episodes']} episodes, {where}"
        return "return of the best policy" if of_best else "return", score(result["mean"], ","), spread
    best = max(result["groups"], key=lambda group: group["mean"])
    setting = "".join(f", {name} = {value:g}" for name, value in best["settings"].items())
    return "best return", score(best["mean"], ","), f"mean of {len(best['seeds'])} seeds{setting}; {where}"


def _time_bars(facts: Facts) -> list[dict[str, Any]]:
    """Bars that show the parts of the run's time and, where measured, of an update's."""
    times = facts.times
    whole = [("program", times.device_s), ("host", times.host_s), ("compile", times.compile_s or 0.0)]
    bars = [_bar("the run", whole, duration)]
    if facts.split:
        parts = [(name, facts.split[f"{name}_ms"]) for name in ("physics", "policy", "gae", "gradient_steps")]
        bars.append(_bar("one update, parts measured one by one", parts, lambda ms: f"{ms:.1f} ms"))
    return [bar for bar in bars if bar["parts"]]


def _bar(title: str, parts: list[tuple[str, float]], to_text: Callable[[float], str]) -> dict[str, Any]:
    """A bar of the positive parts, each with its share in percent and its value as text."""
    parts = [(key, value) for key, value in parts if value > 0]
    total = sum(value for _, value in parts)
    shown = []
    for key, value in parts:
        name, colour, text = _PARTS[key]
        percent = 100 * value / total
        shown.append({"name": name, "colour": colour, "text": text, "value": to_text(value), "percent": percent})
    return {"title": title, "parts": shown}
