"""One training as a user runs it, with what the GPU did meanwhile: a row of a table. `gpu.sh` makes the whole table.

python -m benchmarks.gpu NAME --data oxford_pets:PATH --use-gpu [options of pipelines.train]
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import threading
from dataclasses import dataclass, field

from mlflow import MlflowClient

from models.home import resolve_tracking_uri

_COLUMNS = f"{'run':<24}{'images/s':>10}{'GPU busy':>10}{'GPU MiB':>9}{'data':>7}{'best mIoU':>11}{'minutes to it':>15}"
_QUERY = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits", "--loop-ms=500"]


@dataclass
class GpuWatch:
    """Samples how busy the GPUs are and how much memory they hold, where there is `nvidia-smi`."""

    busy: list[float] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)

    def __enter__(self) -> GpuWatch:
        self._process = subprocess.Popen(_QUERY, stdout=subprocess.PIPE, text=True) if shutil.which(_QUERY[0]) else None
        if self._process:
            self._reader = threading.Thread(target=self._read)
            self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.terminate()
            self._reader.join()
            self._process.wait()

    def row(self) -> str:
        """How busy the GPU was in the middle half of the samples' time, which leaves out start and end; and its most memory."""
        if not self.busy:
            return f"{'-':>10}{'-':>9}"
        quarter = len(self.busy) // 4
        middle = self.busy[quarter : len(self.busy) - quarter]
        return f"{statistics.mean(middle) / 100:>10.0%}{max(self.memory_mib):>9.0f}"

    def _read(self) -> None:
        for line in self._process.stdout:
            busy, memory = line.split(",")
            self.busy.append(float(busy))
            self.memory_mib.append(float(memory))


def main(name: str, options: list[str]) -> None:
    """Trains and prints the row."""
    with GpuWatch() as watch:
        subprocess.run([sys.executable, "-m", "pipelines.train", "--run-name", name, *options], check=True)
    client = MlflowClient(resolve_tracking_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("maskworks").experiment_id], f"attributes.run_name = '{name}'")

    def history(metric: str) -> list[float]:
        return [entry.value for entry in client.get_metric_history(run.info.run_id, metric)]

    best = max(client.get_metric_history(run.info.run_id, "miou"), key=lambda entry: entry.value)
    minutes = (best.timestamp - run.info.start_time) / 60_000
    speed, waiting = statistics.median(history("samples_per_s")), statistics.median(history("step_share/data"))
    print(_COLUMNS)
    print(f"{name:<24}{speed:>10.1f}{watch.row()}{waiting:>7.1%}{best.value:>11.4f}{minutes:>15.1f}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    try:
        main(sys.argv[1], sys.argv[2:])
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: the training ended with {error.returncode}; see above")
