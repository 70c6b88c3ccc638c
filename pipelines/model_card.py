"""What people should know of a model before they use it, as Markdown.

Source of the headings: Mitchell et al., Model Cards for Model Reporting, FAT* 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.metrics import RULES
from models.spec import SegmenterSpec
from pipelines.bootstrap import CONFIDENCE, Interval
from pipelines.data.records import LabelledData
from pipelines.report import Report

_FEW_IMAGES = 10  # with less, an interval says little
_WEAK_IOU = 0.5
_MEANS = ("miou", "mean_dice", "pixel_accuracy", "foreground_iou", "boundary_iou", "calibration_error")


@dataclass(frozen=True)
class ModelCard:
    """A registered model's name and version, what it is, what it learnt from, and what was measured on `split`.

    `provenance` is the bundle's: run id, data, data digest, code version and versions of packages.
    """

    name: str
    version: str
    spec: SegmenterSpec
    data: LabelledData
    split: str
    report: Report
    provenance: dict

    def markdown(self) -> str:
        """The card."""
        sections = {
            "What it is": self._what(),
            "How well it does": self._metrics(),
            "Limits": self._limits(),
            "How to use it": self._use(),
            "Where it came from": self._origin(),
            "Licence": ["Not stated. The licence of the photos may bind the model too: fill this in before you hand it on."],
        }
        blocks = [f"# {self.name}, version {self.version}"]
        for title, lines in sections.items():
            blocks.append(f"## {title}\n\n" + "\n".join(lines))
        return "\n\n".join(blocks) + "\n"

    def _what(self) -> list[str]:
        architecture, (height, width) = self.spec.architecture, self.spec.input_size
        network = "the U-Net of 2015" if architecture.network == "unet2015" else f"a U-Net on {architecture.encoder}"
        return [
            f"It gives each pixel of a photo one of {len(self.spec.label_set)} classes: {', '.join(self.spec.label_set.names)}.",
            f"The network is {network}; a photo of any size is fitted into {height} x {width} pixels ({self.spec.fit_rule}), and the masks are at the photo's own size.",
        ]

    def _metrics(self) -> list[str]:
        found = self.report.intervals
        lines = [
            f"On the {len(self.report.records)} photos of `{self.split}`; the interval holds {CONFIDENCE:.0%} of bootstrap resamples of these photos.",
            "",
            "| metric | value | interval |",
            "|---|---|---|",
            *(f"| {name} | {_value(found, name)} | {_interval(found, name)} |" for name in _MEANS if name in found),
            "",
            "| class | photos | IoU | interval | boundary IoU | interval |",
            "|---|---|---|---|---|---|",
        ]
        for name, num_images in zip(self.spec.label_set.names, self.report.num_images_of_class):
            iou, edge = f"iou/{name}", f"boundary_iou/{name}"
            values = [_value(found, iou), _interval(found, iou), _value(found, edge), _interval(found, edge)]
            lines.append(f"| {_plain(name)} | {num_images} | {' | '.join(values)} |")
        return [*lines, "", *(f"- {subject}: {rule}" for subject, rule in RULES.items())]

    def _limits(self) -> list[str]:
        names, found = self.spec.label_set.names, self.report.intervals
        rare = [name for name, count in zip(names, self.report.num_images_of_class) if count < _FEW_IMAGES]
        weak = [name for name in names if f"iou/{name}" in found and found[f"iou/{name}"].value < _WEAK_IOU]
        lines = ["- Nothing is known about photos unlike those it was trained on: other cameras, light, places or things."]
        if self.split == "val":
            lines.append(
                "- `val` chose the best of the checkpoints, so the metrics above are a little too good; measure on photos of your own."
            )
        if rare:
            lines.append(f"- In fewer than {_FEW_IMAGES} photos of `{self.split}`, so hardly measured: {', '.join(rare)}.")
        if weak:
            lines.append(f"- IoU under {_WEAK_IOU}, so to be relied on with care: {', '.join(weak)}.")
        if "calibration_error" in found:
            lines.append(f"- Confidence and accuracy of pixels differ by {found['calibration_error'].value:.1%} on average.")
        return [*lines, "- What is thinner than a pixel once the photo is fitted into the input size cannot be seen."]

    def _use(self) -> list[str]:
        uri = f"models:/{self.name}/{self.version}"
        return [
            "```bash",
            f"serve run deployments.app:build_app model_uri={uri}",
            "curl --data-binary @photo.jpg 'http://127.0.0.1:8000/v1/segment?format=png' --output mask.png",
            f"python -m pipelines.evaluate --data KIND:PATH --split test --model {uri}",
            "```",
        ]

    def _origin(self) -> list[str]:
        sizes = ", ".join(f"{len(records)} {split}" for split, records in self.data.splits.items())
        start = self.provenance.get("start_from")
        return [
            f"- data: {self.provenance['data']} ({sizes}), digest `{self.provenance['data_digest']}`",
            f"- run: `{self.provenance['run_id']}`, whose parameters are the whole configuration",
            *([f"- began with what {start} had learnt"] if start else []),
            f"- code: {self.provenance['code_version']}; {', '.join(f'{name} {number}' for name, number in self.provenance['versions'].items())}",
        ]


def _value(found: dict[str, Interval], name: str) -> str:
    return f"{found[name].value:.4f}" if name in found else ""


def _interval(found: dict[str, Interval], name: str) -> str:
    return f"{found[name].low:.4f} to {found[name].high:.4f}" if name in found else ""


def _plain(name: str) -> str:
    """A class's name as it may stand in a table."""
    return name.replace("|", "\\|")
