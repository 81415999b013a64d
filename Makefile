# make run    install what is needed and run everything on this machine; ARGS="--readers 3" goes on
# make venv   install what is needed, and the command .venv/bin/headrace
# make test   install what is needed; lint, types and all tests
# make test-release  what takes longer: the steps of the Dockerfile, the wheel on each Python, a newcomer's fresh
#             clone, Datasette 1.0
# make test-datasette1  the end-to-end tests, with the newest alpha of Datasette 1.0
# make audit  ask for known vulnerabilities of what is locked; part of `make test`
# make test-stores  the tests that need an S3 server, on Ceph instead of SeaweedFS; installs Ceph
# make faults break everything at once: MINUTES=10 for each of SEEDS="1 2" (odd: a folder, even: S3)
# make soak   the same for ten minutes; SOAK_SECONDS=… SOAK_SEED=…
# make fuzz   damaged files through the converters, requests of all kinds to the running service;
#             FUZZ_SECONDS=… for each of the two
# make bench  measure, side by side with peers
# make docs   write anew what the reference has of the code, and build the pages into docs/_build
# make links  ask other hosts whether they still have what the pages link to
# make dashboards  write deploy/grafana/*.json anew
# make shots  take the screenshots in docs/images anew, of a system that is started for that
# make lock   choose versions anew

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check --quiet

# Every process that a test starts would compile all modules again: a third of its start.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run venv test test-release test-datasette1 audit test-stores faults soak fuzz bench docs links shots dashboards lock clean

run: $(VENV)/run.stamp
	@exec $(VENV)/bin/headrace up $(ARGS)

venv: $(VENV)/run.stamp

test: $(VENV)/dev.stamp
	@tests/system-packages.sh
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(MAKE) --no-print-directory audit
	$(VENV)/bin/pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder \
		$(addprefix --ignore ,$(RELEASE)) $(ARGS)

RELEASE = tests/e2e/test_image.py tests/e2e/test_newcomer.py tests/e2e/test_wheel.py
test-release: $(VENV)/dev.stamp
	@tests/system-packages.sh
	$(VENV)/bin/pytest $(RELEASE) $(ARGS)
	$(MAKE) --no-print-directory test-datasette1

DATASETTE1 ?= tests/e2e tests/integration/test_spares.py $(addprefix --ignore ,$(RELEASE))
test-datasette1: $(VENV)/datasette1.stamp
	@tests/system-packages.sh
	PATH=$(abspath $(VENV))/datasette1/bin:$$PATH $(VENV)/datasette1/bin/python -m pytest \
		--numprocesses 3 --dist loadfile $(DATASETTE1) $(ARGS)

audit: $(VENV)/dev.stamp
	$(VENV)/bin/python -m tests.audit $(sort $(wildcard requirements*.lock))

test-stores: $(VENV)/dev.stamp
	@tests/system-packages.sh ceph
	HEADRACE_TEST_S3=ceph $(VENV)/bin/pytest -m s3 $(ARGS)

SEEDS ?= 1 2
MINUTES ?= 10
SECONDS = $$(($(MINUTES) * 60))
faults: $(VENV)/dev.stamp
	FAULT_SEEDS="$(SEEDS)" FAULT_SECONDS=$(SECONDS) $(VENV)/bin/pytest tests/faults/test_faults.py

SOAK_SECONDS ?= 600
SOAK_SEED ?= 1
soak:
	@$(MAKE) faults SEEDS=$(SOAK_SEED) SECONDS=$(SOAK_SECONDS)

FUZZ_SECONDS ?= 600
fuzz: $(VENV)/dev.stamp
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(VENV)/bin/pytest tests/fuzz tests/e2e/test_openapi.py $(ARGS)

bench: $(VENV)/dev.stamp $(VENV)/bench.stamp
	$(VENV)/bin/python -m benchmarks.run $(ARGS)

docs: $(VENV)/dev.stamp
	$(VENV)/bin/cog -r -I . $$(grep -rl --include='*.md' '\[\[\[cog' README.md docs)
	$(VENV)/bin/sphinx-build -n -W --keep-going -q docs docs/_build
	@echo "docs/_build/index.html"

links: $(VENV)/dev.stamp
	$(VENV)/bin/sphinx-build -b linkcheck -q docs $(VENV)/links

shots: $(VENV)/dev.stamp
	@tests/system-packages.sh
	$(VENV)/bin/python -m docs.shots

dashboards: $(VENV)/dev.stamp
	$(VENV)/bin/python -m deploy.grafana.make_dashboards

$(VENV)/bin/python:
	@deploy/make-venv.sh $(PYTHON) $(VENV)

$(VENV)/run.stamp: requirements.lock requirements-build.lock pyproject.toml | $(VENV)/bin/python
	@echo "installing what Headrace needs (once)"
	$(PIP) install --require-hashes -r requirements.lock -r requirements-build.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/run.stamp
	@echo "installing what the tests need (once)"
	$(PIP) install --no-compile --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)/datasette1.stamp: requirements-datasette1.lock tests/datasette1-venv.sh $(VENV)/dev.stamp
	@echo "installing Datasette 1.0 for the tests (once)"
	@tests/datasette1-venv.sh $(VENV)
	@touch $@

$(VENV)/bench.stamp: benchmarks/peers.txt | $(VENV)/bin/python
	benchmarks/install-peers.sh $(VENV)/bin/python $(VENV)/peers
	@touch $@

# Universal: one file for Python 3.11 to 3.13; hashes of every file, no address of any registry.
LOCK = $(VENV)/bin/uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --quiet

lock: $(VENV)/dev.stamp
	$(LOCK) --upgrade pyproject.toml -o requirements.lock
	$(LOCK) --upgrade pyproject.toml --extra dev -o requirements-dev.lock
	$(LOCK) --upgrade --group build -c requirements-dev.lock -o requirements-build.lock
	$(LOCK) --upgrade --group image -c requirements-dev.lock -o requirements-image.lock
	$(LOCK) --upgrade --group datasette1 -o requirements-datasette1.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
