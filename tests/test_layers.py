"""Who may import whom: pipelines -> models <- deployments, and what only one module may speak to."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "models": {"ray", "mlflow", "starlette", "streamlit", "requests", "pipelines", "deployments", "benchmarks"},
    "pipelines": {"deployments", "starlette", "streamlit", "benchmarks"},
    "deployments": {"pipelines", "streamlit", "benchmarks"},
}
SPEAKS_TO_MLFLOW = {"pipelines/tracking.py", "pipelines/registry.py", "pipelines/pyfunc_model.py", "deployments/model_source.py"}


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


MODULES = sorted(path for package in FORBIDDEN for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_keep_to_the_layers(path):
    package = path.relative_to(ROOT).parts[0]
    assert not imports(path) & FORBIDDEN[package]
    assert "mlflow" not in imports(path) or str(path.relative_to(ROOT)) in SPEAKS_TO_MLFLOW
