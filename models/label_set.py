"""The classes of a model or a data set: names, colours, and which of them is background."""

from __future__ import annotations

from dataclasses import asdict, dataclass

IGNORE_INDEX = 255  # a mask's value for "nobody says what this pixel is"; never trained on, never counted

# Okabe-Ito first (told apart by colour-blind people), then Kelly's colours of maximum contrast.
_COLORS = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
    (243, 195, 0), (135, 86, 146), (190, 0, 50), (194, 178, 128), (0, 136, 86), (230, 143, 172), (0, 103, 165),
    (249, 147, 121), (96, 78, 151), (246, 166, 0), (179, 68, 108), (220, 211, 0), (136, 45, 23), (141, 182, 0),
    (101, 69, 34), (226, 88, 34), (43, 61, 38), (161, 202, 241), (132, 132, 130),
)  # fmt: skip
_BACKGROUND_COLOR = (0, 0, 0)


class InvalidLabelSet(ValueError):
    """A label set that no mask could use."""


@dataclass(frozen=True)
class Label:
    """One class: its index in masks, its name, its id in the source's annotations, its RGB colour (0 to 255)."""

    index: int
    name: str
    id: int
    color: tuple[int, int, int]


@dataclass(frozen=True)
class LabelSet:
    """The classes in the order of their index; `background` is an index, or None where no class is background."""

    labels: tuple[Label, ...]
    background: int | None = None

    def __post_init__(self) -> None:
        _check(self)

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def from_names(cls, names: list[str], *, ids: list[int] | None = None, background: str | None = "background") -> LabelSet:
        """A label set with default colours; `background` names the background class, if `names` holds it.

        `ids` are the source's own category ids, the index by default.
        """
        ids = list(range(len(names))) if ids is None else ids
        labels, num_colored = [], 0
        for index, (name, id_) in enumerate(zip(names, ids, strict=True)):
            is_background = name == background
            color = _BACKGROUND_COLOR if is_background else _COLORS[num_colored % len(_COLORS)]
            num_colored += not is_background
            labels.append(Label(index, name, id_, color))
        return cls(tuple(labels), names.index(background) if background in names else None)

    @classmethod
    def from_dict(cls, data: dict) -> LabelSet:
        """The label set that `to_dict` wrote."""
        labels = tuple(Label(label["index"], label["name"], label["id"], tuple(label["color"])) for label in data["labels"])
        return cls(labels, data["background"])

    def to_dict(self) -> dict:
        """A form that JSON can hold; `from_dict` reads it back."""
        return {"labels": [asdict(label) | {"color": list(label.color)} for label in self.labels], "background": self.background}

    @property
    def names(self) -> list[str]:
        return [label.name for label in self.labels]

    @property
    def foreground(self) -> list[int]:
        """The indices of all classes but background."""
        return [label.index for label in self.labels if label.index != self.background]


def _check(label_set: LabelSet) -> None:
    names = label_set.names
    if not 2 <= len(names) <= IGNORE_INDEX:
        raise InvalidLabelSet(f"{len(names)} classes; a mask of bytes holds 2 to {IGNORE_INDEX} ({IGNORE_INDEX} means ignore)")
    if [label.index for label in label_set.labels] != list(range(len(names))):
        raise InvalidLabelSet("the indices of the labels are not 0, 1, 2, ...; list them in the order of their index")
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise InvalidLabelSet(f"class names stand twice: {', '.join(doubles)}; give each class a name of its own")
    if label_set.background is not None and not 0 <= label_set.background < len(names):
        raise InvalidLabelSet(f"background is index {label_set.background}, but the indices end at {len(names) - 1}")
