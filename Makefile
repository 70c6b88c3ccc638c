.PHONY: demo test test-fast picture lint clean

demo: .venv/installed  ## train on drawn shelf scenes, serve the model, send it a picture; DATA=KIND:PATH for your own data
	@.venv/bin/python demo.py $(if $(DATA),--data '$(DATA)') $(if $(ACCEPT),--accept '$(ACCEPT)')

test: .venv/installed  ## all tests
	@.venv/bin/python -m ruff check --quiet .
	@.venv/bin/python -m pytest -n 2 --dist loadfile -m "not ray and not browser"
	@.venv/bin/python -m pytest -m browser
	@.venv/bin/python -m pytest -m ray

test-fast: .venv/installed  ## the tests that start no Ray and no browser and are not slow, in under a minute
	@.venv/bin/python -m pytest -n 2 --dist loadfile -m "not ray and not slow and not browser"

picture: .venv/installed  ## docs/page.png, the page with a drawn shelf and the answer of MODEL
	@PAGE_MODEL='$(MODEL)' PAGE_PICTURE=docs/page.png .venv/bin/python -m pytest -m browser -k picture

lint: .venv/installed
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check .

clean:  ## remove the environment and the demo's output
	rm -rf .venv demo-output

.venv/installed: setup.sh constraints.txt pyproject.toml models/restore.c
	@bash setup.sh
