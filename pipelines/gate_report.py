"""The gate's report: a table for people, on the terminal and in MLflow, and the same as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from models.metrics import RULES
from pipelines.comparison import Comparison
from pipelines.gate import Limits


@dataclass(frozen=True)
class Report:
    """What the gate found of one version. `comparison` is None where the version cannot be loaded or used: nothing can force that.

    `champion` is the version compared with, None for the first one. `forced` is the reason of somebody who promotes it all the same. `data` is what both
    were compared on, `trained_on` what the version says that it was trained on.
    """

    name: str
    version: str
    champion: str | None
    data: str | None
    data_digest: str | None
    split: str
    limits: Limits
    comparison: Comparison | None
    reasons: list[str]
    notes: list[str]
    forced: str | None
    at: str
    trained_on: str | None = None
    trained_on_digest: str | None = None

    @property
    def verdict(self) -> str:
        if not self.reasons:
            return "passed"
        return "forced" if self.forced and self.comparison else "refused"

    @property
    def title(self) -> str:
        against = f"version {self.champion}" if self.champion else "no champion"
        return f"{self.name} version {self.version} against {against}: {self.verdict}"

    def to_dict(self) -> dict:
        """All of it, as JSON can hold it."""
        content = asdict(self) | {"verdict": self.verdict, "rules": RULES}
        if self.comparison:
            content["comparison"]["label_set"] = self.comparison.label_set.names
        return content

    def to_markdown(self) -> str:
        """All of it for people to read."""
        lines = [f"# {self.title}", ""]
        lines += [f"- refused: {reason}" for reason in self.reasons]
        lines += [f"- forced: {self.forced}"] if self.verdict == "forced" else []
        lines += [f"- note: {note}" for note in self.notes]
        if self.comparison:
            lines += ["", *_table(self.comparison), "", f"{self.comparison.num_pictures} pictures of {self.data}, {self.split}."]
            lines += [f"Data digest {self.data_digest}.", "", *(f"- {name}: {rule}" for name, rule in RULES.items())]
            lines.append("- intervals: 95 %, of 2000 resamples of the same pictures for both")
            lines.append("- latency: median for one picture, engine torch on one thread, both in turns")
        return "\n".join([*lines, f"- measured at {self.at}", ""])


def _table(comparison: Comparison) -> list[str]:
    rows = [("metric", "champion", "challenger", "difference", "95 % interval", "pictures")]
    for metric, value in comparison.challenger.items():
        change = comparison.differences.get(metric)
        kind, _, name = metric.partition("/")
        if name and kind != "iou":
            continue  # the JSON has them
        rows.append(
            (
                metric,
                _number(comparison.champion.get(metric)),
                _number(value),
                f"{value - comparison.champion[metric]:+.4f}" if metric in comparison.champion else "",
                f"{change.low:+.4f} to {change.high:+.4f}" if change else "",
                str(comparison.pictures_of[name]) if name else "",
            )
        )
    slowdown = f"x {comparison.slowdown:.2f}" if comparison.slowdown else ""
    rows.append(("latency, ms", _milliseconds(comparison.champion_latency_s), _milliseconds(comparison.latency_s), slowdown, "", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(row, widths)) + " |" for row in rows]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:.1f}"
