"""Who may import whom: pipelines -> models <- deployments, and what only one module may speak to."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "models": {"ray", "mlflow", "starlette", "streamlit", "requests", "pipelines", "deployments", "benchmarks"},
    "pipelines": {"deployments", "starlette", "streamlit", "benchmarks"},
    "deployments": {"pipelines", "benchmarks"},
}
IS_THE_PAGE = ("deployments/page.py", "deployments/page_parts/")
FORBIDDEN_TO_THE_PAGE = {"ray", "mlflow", "torch"}  # it speaks to the service over HTTP only
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
    package, place = path.relative_to(ROOT).parts[0], str(path.relative_to(ROOT))
    assert not imports(path) & FORBIDDEN[package]
    assert "mlflow" not in imports(path) or place in SPEAKS_TO_MLFLOW
    assert not imports(path) & (FORBIDDEN_TO_THE_PAGE if place.startswith(IS_THE_PAGE) else {"streamlit"})
