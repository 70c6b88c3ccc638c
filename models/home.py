"""The one folder on a machine where runs, checkpoints, models and drawn data live while no server is named."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """`MASKWORKS_HOME`, else ~/.maskworks; absolute, since workers and replicas run in other directories."""
    return Path(os.environ.get("MASKWORKS_HOME", "~/.maskworks")).expanduser().absolute()


def resolve_tracking_uri(stated: str | None = None) -> str:
    """MLflow's address, the same for training and serving: as stated, else `MLFLOW_TRACKING_URI`, else SQLite in `home()`."""
    stated = stated or os.environ.get("MLFLOW_TRACKING_URI")
    if stated:
        return stated
    home().mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{home() / 'mlflow.db'}"
