"""What training does to an example so that few photos go a long way. A seed determines all of it.

OpenCV on NumPy arrays: one warp and one colour matrix take a fifth of the time that torchvision's transforms need for the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from models.fit import PAD_COLOR
from models.label_set import IGNORE_INDEX

_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # how bright the eye sees red, green, blue


@dataclass(frozen=True)
class AugmentationConfig:
    """How strongly. Each is a range or a likelihood; 0 or an empty range turns that part off."""

    scale: tuple[float, float] = (0.5, 2.0)
    """How much smaller or larger things may become; what no longer fits is cropped."""
    turn_degrees: float = 15.0
    """How far things are turned at most, both ways."""
    flip: bool = True
    """Mirror half of the photos. Not for things whose left and right differ in meaning."""
    color: float = 0.4
    """How far brightness, contrast and saturation may go, as a part of what they are; hue goes a fifth as far."""
    copy_paste: float = 0.5
    """How likely objects of another photo are laid into this one, where objects are told apart."""

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale is {self.scale[0]} to {self.scale[1]}; both must be above 0, the smaller first")
        for name, highest in (("turn_degrees", 180), ("color", 1), ("copy_paste", 1)):
            if not 0 <= getattr(self, name) <= highest:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to {highest}")


@dataclass(frozen=True)
class Pixels:
    """An example at the model's input size. Shapes: image (H, W, 3) uint8; mask (H, W) uint8; instance_map (H, W) int16, 0 where
    no object is."""

    image: np.ndarray
    mask: np.ndarray
    instance_map: np.ndarray


def augment(pixels: Pixels, config: AugmentationConfig, random: np.random.Generator) -> Pixels:
    """Moved, scaled, turned, mirrored and coloured: new arrays of the same shapes."""
    matrix = random_placement(pixels.mask.shape, config, random)
    return change_colors(place(pixels, matrix), config, random)


def random_placement(size: tuple[int, int], config: AugmentationConfig, random: np.random.Generator) -> np.ndarray:
    """An affine matrix (2, 3) from the pixels of an example of `size` (height, width) to those of what becomes of it.

    Where it grows, what is seen lies evenly anywhere in it; where it shrinks, it lies anywhere in what is seen.
    """
    low, high = np.log(config.scale)
    scale = np.exp(random.uniform(low, high))
    angle = np.deg2rad(random.uniform(-config.turn_degrees, config.turn_degrees))
    stretch = np.exp(random.uniform(-0.1, 0.1))
    mirror = -1 if config.flip and random.random() < 0.5 else 1
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.diag([scale * stretch * mirror, scale / stretch])
    height, width = size
    middle = np.array([width - 1, height - 1]) / 2
    play = np.abs(scale - 1) * np.array([width, height]) / 2
    shift = middle + random.uniform(-1, 1, 2) * play - linear @ middle
    return np.concatenate([linear, shift[:, None]], axis=1)


def place(pixels: Pixels, matrix: np.ndarray) -> Pixels:
    """The example as `matrix` (2, 3) moves it; what comes in from outside is padding: of the mean colour, of no class, no object."""
    height, width = pixels.mask.shape
    size = (width, height)
    image = cv2.warpAffine(pixels.image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=PAD_COLOR)
    maps = cv2.merge([pixels.mask.astype(np.int16), pixels.instance_map])  # as one, so that both take the same pixels
    padding = (IGNORE_INDEX, 0)
    maps = cv2.warpAffine(maps, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=padding)
    mask, instance_map = cv2.split(maps)
    return Pixels(image, mask.astype(np.uint8), instance_map)


def change_colors(pixels: Pixels, config: AugmentationConfig, random: np.random.Generator) -> Pixels:
    """Brighter or darker, with more or less contrast and colour, turned in hue: one matrix for all."""
    if not config.color:
        return pixels
    contrast, brightness, saturation = 1 + config.color * random.uniform(-1, 1, 3)
    hue = np.pi * config.color / 5 * random.uniform(-1, 1)
    grey = np.tile(_GREY, (3, 1))
    linear = grey + saturation * (_turn_hue(hue) - grey)
    mean = float(_GREY @ cv2.mean(pixels.image)[:3])  # what contrast turns about
    matrix = np.concatenate([contrast * brightness * linear, np.full((3, 1), (1 - contrast) * mean * brightness)], axis=1)
    return Pixels(cv2.transform(pixels.image, matrix.astype(np.float32)), pixels.mask, pixels.instance_map)


def paste_objects(pixels: Pixels, donor: Pixels, random: np.random.Generator) -> Pixels:
    """`pixels` with some of the donor's objects over it, at least one where it has any.

    Source: Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", 2021.
    """
    numbers = np.flatnonzero(np.bincount(donor.instance_map.ravel())[1:]) + 1
    if not len(numbers):
        return pixels
    chosen = numbers[random.random(len(numbers)) < 0.5]
    if not len(chosen):
        chosen = random.choice(numbers, 1)
    lookup = np.zeros(int(numbers[-1]) + 1, np.uint8)
    lookup[chosen] = 255
    pasted = lookup[donor.instance_map]
    numbered_on = donor.instance_map + pixels.instance_map.max()
    pairs = (donor.image, pixels.image), (donor.mask, pixels.mask), (numbered_on, pixels.instance_map)
    return Pixels(*(cv2.copyTo(source, pasted, target.copy()) for source, target in pairs))


def _turn_hue(angle: float) -> np.ndarray:
    """The rotation (3, 3) of RGB about the grey axis."""
    axis = np.full((3, 1), 3**-0.5)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) * 3**-0.5
    return np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (axis @ axis.T)
