"""All checks over listed data: what is wrong, and the records that can be trained on, mended where that is asked for."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from pipelines.data.findings import Finding
from pipelines.data.records import LabelledData, Record
from pipelines.diagnosis.balance import check_balance
from pipelines.diagnosis.examine import Checkup, examine
from pipelines.diagnosis.processes import map_in_processes
from pipelines.diagnosis.twins import find_twins

_DIES = "the process that read it died; the file, or the memory it takes, is more than the decoder can bear"


def diagnose(listed: LabelledData, *, repair: bool, input_size: tuple[int, int]) -> LabelledData:
    """The data with all findings, without the records that cannot be trained on.

    `repair` applies every safe remedy to what is read, never to a file: annotations are read otherwise, and photos of train
    that are in val or test too are left out.
    """
    checkups = _examine_all(listed, input_size)
    binary = _reads_as_binary(checkups)
    splits, findings = {}, list(listed.findings)
    for split, records in listed.splits.items():
        judged = [_judge(record, split, checkups[record.image_path], repair, binary) for record in records]
        splits[split] = [record for record, _ in judged if record]
        findings += [finding for _, found in judged for finding in found]
    usable = replace(listed, splits=splits)
    usable, twins = _without_twins(usable, find_twins(usable, checkups), repair)
    return replace(usable, findings=findings + twins + check_balance(usable, checkups))


def _examine_all(listed: LabelledData, input_size: tuple[int, int]) -> dict[Path, Checkup]:
    records = list({record.image_path: record for records in listed.splits.values() for record in records}.values())
    look = partial(examine, label_set=listed.label_set, input_size=input_size)
    checkups = map_in_processes(look, records, crashed=_crashed, what="examining")
    return {record.image_path: checkup for record, checkup in zip(records, checkups)}


def _crashed(record: Record) -> Checkup:
    return Checkup((Finding("unreadable-image", record.image_path, _DIES, leaves_out=True),))


def _reads_as_binary(checkups: dict[Path, Checkup]) -> bool:
    """Whether 255 can only mean class 1: no mask that is right as it is uses 1."""
    as_they_are = [checkup for checkup in checkups.values() if checkup.repaired is None and checkup.num_pixels]
    return not any(checkup.num_pixels[1] for checkup in as_they_are)


def _judge(record: Record, split: str, checkup: Checkup, repair: bool, binary: bool) -> tuple[Record | None, list[Finding]]:
    """The record to train on, or None, and its findings."""
    allowed = binary or not any(finding.name == "binary-mask" for finding in checkup.findings)
    mends = repair and allowed and checkup.repaired is not None
    findings = [replace(finding, split=split, repaired=mends and finding.kind.repair is not None) for finding in checkup.findings]
    left_out = any(finding.leaves_out and not finding.repaired for finding in findings)
    if left_out:
        return None, findings
    return (replace(record, annotation=checkup.repaired) if mends else record), findings


def _without_twins(data: LabelledData, twins: list[Finding], repair: bool) -> tuple[LabelledData, list[Finding]]:
    """The data without the photos that a repair leaves out, and the findings that say so."""
    if not repair:
        return data, twins
    twins = [replace(finding, repaired=finding.kind.repair is not None) for finding in twins]
    dropped = {(finding.split, finding.path) for finding in twins if finding.repaired}
    splits = {split: [each for each in records if (split, each.image_path) not in dropped] for split, records in data.splits.items()}
    return replace(data, splits=splits), twins
