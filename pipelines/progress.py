"""Lines that tell a person how training goes, when it is done, and what it has reached."""

from __future__ import annotations

import time

_SILENCE_S = 20  # the longest time without a line


class Progress:
    """Prints epochs, losses, metrics and the time left; `silent` prints nothing."""

    def __init__(self, num_epochs: int, steps_per_epoch: int, *, first_epoch: int, silent: bool) -> None:
        self.num_epochs, self.steps_per_epoch, self.first_epoch, self.silent = num_epochs, steps_per_epoch, first_epoch, silent
        self.begin = self.last_line = time.monotonic()
        self.epoch = first_epoch
        if first_epoch:
            self._print(f"going on after epoch {first_epoch} of {num_epochs}")

    def step_done(self, epoch: int, step: int) -> None:
        """A step, counted from 0, is done; prints a line only after a long silence."""
        if time.monotonic() - self.last_line > _SILENCE_S:
            done = epoch - self.first_epoch + (step + 1) / self.steps_per_epoch
            self._print(f"epoch {epoch + 1}/{self.num_epochs}  step {step + 1}/{self.steps_per_epoch}  {self._left(done)}")

    def epoch_done(self, metrics: dict[str, float]) -> None:
        """An epoch is trained."""
        self.epoch += 1
        left = self._left(self.epoch - self.first_epoch)
        self._print(
            f"epoch {self.epoch}/{self.num_epochs}  loss {metrics['train_loss']:.3f}  {metrics['samples_per_s']:.1f} images/s  {left}"
        )

    def validated(self, metrics: dict[str, float]) -> None:
        """Validation is done."""
        names = [name for name in ("miou", "foreground_iou", "pixel_accuracy") if name in metrics]
        self._print(f"epoch {self.epoch}/{self.num_epochs}  validation  " + "  ".join(f"{name} {metrics[name]:.4f}" for name in names))

    def _left(self, epochs_done: float) -> str:
        seconds = (time.monotonic() - self.begin) / epochs_done * (self.num_epochs - self.first_epoch - epochs_done)
        return f"{int(seconds // 60)}:{int(seconds % 60):02d} left"

    def _print(self, line: str) -> None:
        self.last_line = time.monotonic()
        if not self.silent:
            print(line, flush=True)
