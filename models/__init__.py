"""What a segmenter is: torch, numpy and images. Knows no Ray, no MLflow, no HTTP."""
