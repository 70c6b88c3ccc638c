"""The one folder on a machine where runs, their checkpoints and drawn data live when no server is named."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """`MASKWORKS_HOME`, else ~/.maskworks; absolute, since training's workers run in another directory."""
    return Path(os.environ.get("MASKWORKS_HOME", "~/.maskworks")).expanduser().absolute()
