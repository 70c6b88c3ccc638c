"""Has a registered version challenge the champion: fetches both and the pictures, compares, and reports."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from models.bundle import load_bundle
from models.segmenter import Segmenter
from models.spec import InvalidBundle, read_card
from pipelines.comparison import UnsoundModel, compare
from pipelines.data.records import InvalidData, Record
from pipelines.data.sources import read_data
from pipelines.gate import judge
from pipelines.gate_report import Report
from pipelines.registry import Registry, now

if TYPE_CHECKING:
    from pipelines.promote import PromoteConfig

_MANY_PICTURES = 20  # from here on intervals are about as wide as they should be


class OtherLabels(ValueError):
    """A version whose classes are not the champion's."""


@dataclass(frozen=True)
class _Version:
    """A version that was loaded, and what its card says of where it came from."""

    number: str
    segmenter: Segmenter
    provenance: dict

    @classmethod
    def load(cls, registry: Registry, number: str) -> _Version:
        folder: Path = registry.bundle(number)
        return cls(number, load_bundle(folder), read_card(folder).get("provenance", {}))

    @property
    def labels(self) -> tuple[list[str], int | None]:
        """The names of the classes and the index of the background: what a mask's values mean."""
        label_set = self.segmenter.spec.label_set
        return label_set.names, label_set.background


def challenge(registry: Registry, champion: str | None, config: PromoteConfig) -> Report:
    """What the gate finds of the configured version. Raises `InvalidData` where there is nothing to measure on."""
    report = Report(
        name=registry.name,
        version=str(config.version),
        champion=champion,
        data=config.data,
        data_digest=None,
        split=config.split,
        limits=config.limits,
        comparison=None,
        reasons=[],
        notes=[],
        forced=config.force,
        at=now(),
    )
    try:
        return _measured(report, registry, config)
    except (InvalidBundle, UnsoundModel, OtherLabels) as error:
        return replace(report, reasons=[str(error)])


def _measured(report: Report, registry: Registry, config: PromoteConfig) -> Report:
    challenger = _Version.load(registry, report.version)
    champion, reasons, notes = None, [], []
    if report.champion:
        try:
            champion = _Version.load(registry, report.champion)
        except InvalidBundle as error:
            reasons.append(f"the champion cannot be loaded to compare with ({error}); roll back, or say --force and why")
    if champion and champion.labels != challenger.labels:
        notes.append(_other_labels(challenger, champion, accepted=config.accept_labels))
    source = config.data or challenger.provenance.get("data", "")
    records, digest = _pictures(source, config.split, challenger)
    is_comparable = champion and champion.labels == challenger.labels
    comparison = compare(challenger.segmenter, champion.segmenter if is_comparable else None, records)
    return replace(
        report,
        data=source,
        data_digest=digest,
        comparison=comparison,
        reasons=reasons + judge(comparison, config.limits),
        notes=notes + _notes(challenger, champion, digest, len(records)),
        trained_on=challenger.provenance.get("data"),
        trained_on_digest=challenger.provenance.get("data_digest"),
    )


def _other_labels(challenger: _Version, champion: _Version, *, accepted: bool) -> str:
    """A note on how the classes differ. Raises `OtherLabels` where that was not accepted."""
    (names, _), (old, _) = challenger.labels, champion.labels
    gone, new = ([name for name in some if name not in others] for some, others in ((old, names), (names, old)))
    change = (
        f"gone {', '.join(gone) or 'none'}; new {', '.join(new) or 'none'}" if gone or new else "in another order, or another background"
    )
    if not accepted:
        raise OtherLabels(
            f"its classes are not those of the champion, version {champion.number} ({change}); if clients can bear that, --accept-labels"
        )
    return f"the classes are not the champion's ({change}), so the two were not compared"


def _pictures(source: str, split: str, challenger: _Version) -> tuple[list[Record], str]:
    """The pictures to measure on, and the digest of all of the data. Raises `InvalidData`."""
    if not source:
        raise InvalidData(f"version {challenger.number} does not say what it was trained on; give --data KIND:PATH")
    data = read_data(source)
    if not data.splits.get(split):
        raise InvalidData(f"{source} has no picture in a split {split!r}; choose one of {', '.join(data.splits)}")
    if data.label_set.names != challenger.labels[0]:
        raise InvalidData(
            f"the classes of {source} are {data.label_set.names}, the version's {challenger.labels[0]}; give --data with the same"
        )
    return data.splits[split], data.digest()


def _notes(challenger: _Version, champion: _Version | None, digest: str, num_pictures: int) -> list[str]:
    notes = []
    if champion is None:
        notes.append("no champion to compare with: only whether it loads and predicts was checked")
    for version in filter(None, (challenger, champion)):
        if version.provenance.get("data_digest", digest) != digest:
            notes.append(f"version {version.number} was trained on other data than this, and may have seen some of these pictures")
    if num_pictures < _MANY_PICTURES:
        notes.append(f"{num_pictures} pictures are few: a difference may be noise where its interval says that it is not")
    return notes
