"""The doctor's report: for a terminal, as JSON, and what of it stops a training."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from pipelines.data.findings import KINDS, SEVERITIES, Finding
from pipelines.data.records import InvalidData, LabelledData

_INDENT = " " * 11


def report_text(data: LabelledData, *, num_examples: int = 3) -> str:
    """The report for a terminal: worst first, for each kind its number, why it matters, what to do and the first files."""
    photos = ", ".join(f"{len(records)} {split}" for split, records in data.splits.items())
    lines = [f"{data.source}: {photos} photos to train on; {len(data.label_set)} classes"]
    by_name = _by_name(data.findings)
    for name, findings in by_name.items():
        lines += ["", *_block(name, findings, _root(data), num_examples)]
    return "\n".join([*lines, "", _summary(data.findings)])


def report_dict(data: LabelledData) -> dict:
    """The report in a form that JSON can hold: the photos that are left, and each finding with all that the text says."""
    root = _root(data)
    return {
        "source": data.source,
        "photos": {split: len(records) for split, records in data.splits.items()},
        "classes": data.label_set.names,
        "counts": {name: len(findings) for name, findings in _by_name(data.findings).items()},
        "findings": [_finding_dict(finding, root) for found in _by_name(data.findings).values() for finding in found],
    }


def stopping_names(findings: list[Finding], accepted: tuple[str, ...] = ()) -> list[str]:
    """The names of the errors that are neither repaired nor accepted. Raises `InvalidData` for a name that no finding has."""
    names = {name for each in accepted for name in each.split(",") if name}
    unknown = sorted(names - set(KINDS))
    if unknown:
        raise InvalidData(f"--accept {unknown[0]} names no finding; choose among {', '.join(KINDS)}")
    stopping = {each.name for each in findings if each.severity == "error" and not each.repaired} - names
    return [name for name in KINDS if name in stopping]


def check_accepted(data: LabelledData, accepted: tuple[str, ...]) -> None:
    """Raises `InvalidData` where errors were found that are neither repaired nor accepted by name."""
    names = stopping_names(data.findings, accepted)
    if names:
        repairable = any(each.name in names and each.kind.repair for each in data.findings)
        remedy = "mend the files" + (", add --repair" if repairable else "")
        raise InvalidData(f"the data has errors; {remedy}, or train without the files in question: --accept {','.join(names)}")


def relative(path: Path, root: Path) -> str:
    """The path as seen from the data's folder, where it lies in it."""
    return os.fspath(path.relative_to(root)) if path.is_relative_to(root) and path != root else os.fspath(path)


def _root(data: LabelledData) -> Path:
    root = Path(data.source.partition(":")[2])
    return root.parent if root.is_file() else root


def _by_name(findings: list[Finding]) -> dict[str, list[Finding]]:
    """Findings by their name: the worst severity first, the most frequent first among equals."""
    counts = Counter(finding.name for finding in findings)
    order = sorted(counts, key=lambda name: (SEVERITIES.index(KINDS[name].severity), -counts[name], name))
    return {name: one_per_file_first([finding for finding in findings if finding.name == name]) for name in order}


def one_per_file_first(findings: list[Finding]) -> list[Finding]:
    """The findings in an order in which examples show many files: the first of each file, then the second of each."""
    seen: Counter[Path] = Counter()
    turns = []
    for finding in findings:
        turns.append(seen[finding.path])
        seen[finding.path] += 1
    return [finding for _, finding in sorted(zip(turns, findings), key=lambda entry: entry[0])]


def _block(name: str, findings: list[Finding], root: Path, num_examples: int) -> list[str]:
    kind = KINDS[name]
    num_repaired, num_files = sum(finding.repaired for finding in findings), len({finding.path for finding in findings})
    state = f", {num_repaired} repaired while reading" if num_repaired else ""
    lines = [
        f"{kind.severity:<9}  {name}: {len(findings)} in {num_files} file{'s' * (num_files != 1)}{state}",
        f"{_INDENT}{kind.why}",
        f"{_INDENT}to do: {kind.remedy}",
    ]
    if kind.repair:
        lines.append(f"{_INDENT}--repair: {kind.repair}")
    lines += [f"{_INDENT}  {relative(each.path, root)}: {each.what}" for each in findings[:num_examples]]
    if len(findings) > num_examples:
        lines.append(f"{_INDENT}  and {len(findings) - num_examples} more")
    return lines


def _summary(findings: list[Finding]) -> str:
    if not findings:
        return "nothing is wrong"
    counts = Counter(finding.severity for finding in findings)
    return ", ".join(f"{counts[severity]} {severity}{'s' * (counts[severity] != 1)}" for severity in SEVERITIES if counts[severity])


def _finding_dict(finding: Finding, root: Path) -> dict:
    kind = finding.kind
    return {
        "name": finding.name,
        "severity": kind.severity,
        "file": relative(finding.path, root),
        "other_file": relative(finding.other, root) if finding.other else None,
        "split": finding.split,
        "what": finding.what,
        "why": kind.why,
        "remedy": kind.remedy,
        "repair": kind.repair,
        "repaired": finding.repaired,
        "left_out": finding.leaves_out and not finding.repaired,
    }
