"""Lines that tell a person how training goes, when it is done, and what it has reached."""

from __future__ import annotations

import time

from pipelines.timing import bottleneck

_SILENCE_S = 20  # the longest time without a line


class Progress:
    """Prints epochs, losses, metrics, the bottleneck and the time left; `silent` prints nothing."""

    def __init__(self, num_epochs: int, *, silent: bool) -> None:
        self.num_epochs, self.silent = num_epochs, silent
        self.bottleneck = ""

    def begin_run(self, steps_per_epoch: int, epoch: int, step: int) -> None:
        """Training begins, or goes on, after `step` steps of `epoch`."""
        self.steps_per_epoch, self.epoch = steps_per_epoch, epoch
        self.epochs_at_begin = epoch + step / steps_per_epoch
        self.begin = self.last_line = time.monotonic()
        if epoch or step:
            self._print(f"going on after epoch {epoch} of {self.num_epochs}" + (f" and step {step} of {steps_per_epoch}" if step else ""))

    def step_done(self, epoch: int, step: int) -> None:
        """A step, counted from 0, is done; prints a line only after a long silence."""
        if time.monotonic() - self.last_line > _SILENCE_S:
            done = epoch + (step + 1) / self.steps_per_epoch
            self._print(f"epoch {epoch + 1}/{self.num_epochs}  step {step + 1}/{self.steps_per_epoch}  {self._left(done)}")

    def epoch_done(self, metrics: dict[str, float]) -> None:
        """An epoch is trained."""
        self.epoch += 1
        left = self._left(self.epoch)
        self._print(
            f"epoch {self.epoch}/{self.num_epochs}  loss {metrics['train_loss']:.3f}  {metrics['samples_per_s']:.1f} images/s  {left}"
        )
        phase, sentence = bottleneck(metrics)
        if phase != self.bottleneck and metrics["samples_per_s"]:  # none, where only a validation was left to do
            self.bottleneck = phase
            self._print(sentence)

    def validated(self, metrics: dict[str, float]) -> None:
        """Validation is done."""
        names = [name for name in ("miou", "foreground_iou", "boundary_iou", "pixel_accuracy") if name in metrics]
        self._print(f"epoch {self.epoch}/{self.num_epochs}  validation  " + "  ".join(f"{name} {metrics[name]:.4f}" for name in names))

    def _left(self, epochs_done: float) -> str:
        done_here = max(epochs_done - self.epochs_at_begin, 1 / self.steps_per_epoch)
        seconds = (time.monotonic() - self.begin) / done_here * (self.num_epochs - epochs_done)
        return f"{int(seconds // 60)}:{int(seconds % 60):02d} left"

    def _print(self, line: str) -> None:
        self.last_line = time.monotonic()
        if not self.silent:
            print(line, flush=True)
