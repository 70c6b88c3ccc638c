"""Makes a registered version the champion, if the gate finds it no worse than the present one; or takes that back.

python -m pipelines.promote shelf 5
python -m pipelines.promote shelf --rollback
"""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import tyro

from models.home import resolve_tracking_uri
from models.spec import InvalidBundle
from pipelines.data.records import InvalidData
from pipelines.gate import Limits
from pipelines.registry import Registry, RegistryError

if TYPE_CHECKING:
    from pipelines.gate_report import Report


class PromotionRefused(ValueError):
    """A version that does not become champion, or a rollback that has nowhere to go."""


REFUSALS = (PromotionRefused, RegistryError, InvalidBundle, InvalidData, OSError)


@dataclass(frozen=True)
class PromoteConfig:
    """Make a version of a registered model the champion, if it is no worse than the present one; or go back to the one before.

    Exit status: 0 done, 1 refused, 2 a command that makes no sense. Whatever goes wrong, the champion stays.
    """

    name: tyro.conf.Positional[str]
    """The registered model."""
    version: tyro.conf.Positional[int | None] = None
    """The number of the version that is to become champion."""
    rollback: tyro.conf.FlagCreatePairsOff[bool] = False
    """Put the champion before the present one back, at once and without measuring; again, and it goes further back."""
    data: str | None = None
    """KIND:PATH of the pictures to compare on. Default: the data that the version was trained on."""
    split: str = "val"
    limits: tyro.conf.OmitArgPrefixes[Limits] = field(default_factory=Limits)
    accept_labels: tyro.conf.FlagCreatePairsOff[bool] = False
    """Promote a version whose classes are not the champion's; the two are not compared then."""
    force: str | None = None
    """Promote in spite of the gate, for this reason, which is recorded. A version that cannot be used is refused all the same."""
    tracking_uri: str | None = None
    """MLflow's address. Default: MLFLOW_TRACKING_URI, else a file under ~/.maskworks (or MASKWORKS_HOME)."""

    def __post_init__(self) -> None:
        if self.rollback == (self.version is not None):
            raise ValueError("give either a version to promote or --rollback")
        if self.force is not None and (self.rollback or not self.force.strip()):
            raise ValueError("--force takes the reason to promote a version in spite of the gate; a rollback needs none")


def main(config: PromoteConfig) -> None:
    """Moves the champion and says so, or raises one of `REFUSALS`."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for library in ("mlflow", "alembic"):
        logging.getLogger(library).setLevel(logging.WARNING)
    registry = Registry(resolve_tracking_uri(config.tracking_uri), config.name)
    print(roll_back(registry) if config.rollback else promote(registry, config))


def promote(registry: Registry, config: PromoteConfig) -> str:
    """Makes the version champion, with a report on the terminal and in MLflow; a sentence that says so."""
    from pipelines.challenge import challenge  # brings torch, for which a rollback has no time

    version, champion = str(config.version), registry.champion()
    run_id = registry.run_of(version)
    if version == champion:
        raise PromotionRefused(f"version {version} is the champion of {registry.name} already; nothing is to be done")
    report = challenge(registry, champion, config)
    print(report.to_markdown())
    record(registry, report, run_id)
    if report.verdict == "refused":
        raise PromotionRefused(f"{registry.name} version {version} is refused, version {champion} stays: {'; '.join(report.reasons)}")
    why = report.title + (f", {report.forced}" if report.verdict == "forced" else "")
    registry.move_champion(version, expected=champion, history=[*registry.history(), version], why=why)
    return f"version {version} is the champion of {registry.name}; the way back: python -m pipelines.promote {registry.name} --rollback"


def record(registry: Registry, report: Report, run_id: str | None) -> None:
    """Keeps the report on the version's run, and on the version what leads there. The run may be gone; the tags say it all then."""
    tags = {
        "gate.verdict": report.verdict,
        "gate.compared_with": report.champion or "none",
        "gate.at": report.at,
        "gate.reasons": "; ".join(report.reasons) or "none",
        "gate.data": report.data or "none",
        "gate.data_digest": report.data_digest or "none",
        "data.source": report.trained_on or "unknown",
        "data.digest": report.trained_on_digest or "unknown",
    } | ({"gate.forced": report.forced} if report.verdict == "forced" else {})
    if run_id:
        folder = f"gate/{report.at.replace(':', '')}"  # of each examination its own
        registry.log_text(run_id, json.dumps(report.to_dict(), indent=2), f"{folder}/report.json")
        tags["gate.report"] = registry.log_text(run_id, report.to_markdown(), f"{folder}/report.md")
    registry.tag_version(report.version, tags)


def roll_back(registry: Registry) -> str:
    """Makes the champion before the present one champion again; a sentence that says so.

    Versions that were deleted meanwhile are passed over. Raises one of `REFUSALS`.
    """
    champion, earlier = registry.champion(), registry.history()
    if champion is not None:
        earlier.pop()
    while earlier and not registry.has(earlier[-1]):
        print(f"version {earlier.pop()} of {registry.name} was deleted; going further back")
    if not earlier:
        raise PromotionRefused(f"{registry.name} had no champion before version {champion} that is still there; promote another version")
    registry.card(earlier[-1])  # it is there and can be read
    registry.move_champion(earlier[-1], expected=champion, history=earlier, why=f"rolled back from version {champion}")
    return f"version {earlier[-1]} is the champion of {registry.name} again, version {champion} no longer is"


if __name__ == "__main__":
    config = tyro.cli(PromoteConfig, description=__doc__)
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # a service on this machine goes first, though Ray makes it nice
    try:
        main(config)
    except REFUSALS as error:
        sys.exit(f"error: {error}")
