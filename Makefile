.PHONY: demo test test-fast lint clean

demo: .venv/installed  ## train on drawn shelf scenes, serve the model, send it a picture; DATA=KIND:PATH for your own data
	@.venv/bin/python demo.py $(if $(DATA),--data '$(DATA)')

test: .venv/installed  ## all tests
	@.venv/bin/python -m ruff check --quiet .
	@.venv/bin/python -m pytest -n 2 --dist loadfile -m "not ray"
	@.venv/bin/python -m pytest -m ray

test-fast: .venv/installed  ## the tests that start no Ray and are not slow, in under a minute
	@.venv/bin/python -m pytest -n 2 --dist loadfile -m "not ray and not slow"

lint: .venv/installed
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check .

clean:  ## remove the environment and the demo's output
	rm -rf .venv demo-output

.venv/installed: setup.sh constraints.txt pyproject.toml models/restore.c
	@bash setup.sh
