"""A bundle as an MLflow model: MLflow runs this file as it is when it loads one ("models from code"), so nothing is pickled."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pandas as pd

from models.bundle import load_bundle
from models.fit import preprocess
from models.mask_png import encode_mask_png
from models.restore import restore_class_map


class SegmenterModel(mlflow.pyfunc.PythonModel):
    """Index PNGs of image files: column `image` (bytes) in, column `mask_png` (bytes) out, row by row."""

    def load_context(self, context) -> None:
        self.segmenter = load_bundle(Path(context.artifacts["bundle"]))

    def predict(self, context, model_input: pd.DataFrame, params: dict | None = None) -> pd.DataFrame:
        return pd.DataFrame({"mask_png": [self._mask_png(image) for image in model_input["image"]]})

    def _mask_png(self, image: bytes) -> bytes:
        spec = self.segmenter.spec
        prediction = self.segmenter.predict([preprocess(image, spec.input_size, spec.fit_rule)])[0]
        return encode_mask_png(restore_class_map(prediction), spec.label_set)


mlflow.models.set_model(SegmenterModel())
