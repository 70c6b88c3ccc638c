"""What a look at one annotation gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pipelines.data.findings import Finding
from pipelines.data.records import Annotation

NO_PATH = Path()  # `examine` puts the photo's in


@dataclass(frozen=True)
class Verdict:
    """Findings (their path is still open), the annotation with its safe remedies, and the pixels of each class."""

    findings: list[Finding] = field(default_factory=list)
    repaired: Annotation | None = None
    num_pixels: tuple[int, ...] = ()


def finding(name: str, what: str, *, marks: tuple[int, ...] = (), leaves_out: bool = False, repaired: bool = False) -> Finding:
    """A finding about the annotation in hand."""
    return Finding(name, NO_PATH, what, marks=marks, leaves_out=leaves_out, repaired=repaired)
