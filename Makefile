# Everything starts here; each target makes .venv by itself when it is missing or pyproject.toml has changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
ROS_PYTHONPATH := $(PYTHONPATH)
export PYTHONPATH :=
# Hash seeds and thread counts don't matter to results; a fixed hash seed makes failures repeat.
export PYTHONHASHSEED := 0

.DEFAULT_GOAL := help
.PHONY: help install demo test test-aarch64 lint fuzz crash chaos siem-restarts mutants hil bench bench-live bench-packet bench-sync bench-registry bench-calibration clean docs plots

help: ## What can be made here
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 19

install: $(STAMP) ## Make .venv with the package and its development tools

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(PIP) --only-binary jsbsim --editable '.[dev,replay,sim]' || $(PIP) --editable '.[dev,replay]' # no JSBSim for this machine
	@touch $(STAMP)

demo: $(STAMP) ## Fly a mission against the monitor's process, accept a handover, prove it all, see it in a browser; writes build/demo
	@$(BIN)/python replay/scenarios/demo.py

test: $(STAMP) lint ## Style, types, import rules and the whole test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: test-ros2
test-ros2: ## The ROS 2 node against real publishers; needs ROS 2 and the built ros2_ws sourced (docs/ros2.md)
	@if PYTHONPATH="$(ROS_PYTHONPATH)" python3 -c 'import rclpy, edge_monitor_msgs' 2>/dev/null; then \
	  cd ros2_ws/src/edge_monitor_ros && PYTHONPATH="$(CURDIR)/ros2_ws/src/edge_monitor_ros:$(CURDIR):$(CURDIR)/replay:$(CURDIR)/tests:$(ROS_PYTHONPATH)" \
	    python3 -m pytest -p no:cacheprovider test; \
	else echo "test-ros2: DID NOT RUN: no ROS 2 is sourced, or ros2_ws is not built (docs/ros2.md)"; fi

lint: $(STAMP) ## Style, types and import rules only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

fuzz: $(STAMP) ## Cut and flip every recording (64 cuts, 256 flips each); 100,000 mutated messages at each live socket; 2,000 damaged packets
	$(BIN)/python tests/fuzz_readers.py --cuts 64 --flips 256
	$(BIN)/python tests/fuzz_sockets.py --full
	$(BIN)/python tests/fuzz_process.py --full
	$(BIN)/python tests/fuzz_packets.py

crash: $(STAMP) ## Kill, cut the power, and let calls fail: 500 kills, every call, 12,000 states each of journal and tape, 60 restarts
	$(BIN)/python tests/crash_matrix.py

chaos: $(STAMP) ## Bad links, killed registries, changed frames, a simulated fleet: 100,000 frames and steps
	$(BIN)/python tests/chaos_matrix.py

siem-restarts: $(STAMP) ## Kill -9 what sends records to a SIEM, and the SIEM, 100 times each over TLS and OTLP: is one missed?
	$(BIN)/python tests/siem_restarts.py

test-aarch64: $(STAMP) ## The same bits on an emulated aarch64 (root, debootstrap, qemu-user-static); makes build/aarch64
	$(BIN)/python tests/other_machine.py

mutants: $(STAMP) ## Change gates, authority, handover and checks in 1,700 small ways: does a test fall for each? build/mutants.json
	$(BIN)/python tests/mutants.py --json build/mutants.json

NOMINAL_SECONDS ?= 60
hil: $(STAMP) ## Inject faults into a simulated vehicle; signed report in build/hil (NOMINAL_SECONDS=1800: in full)
	$(BIN)/python -m pytest hil_tests -p no:xdist --nominal-seconds $(NOMINAL_SECONDS)

bench: $(STAMP) ## Measure against the peers in the same run; writes build/bench.json
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '.[bench]'
	$(BIN)/python bench/run.py

BENCH_SECONDS ?= 600
bench-live: $(STAMP) ## The onboard process at 10,000 messages a second for 10 minutes (BENCH_SECONDS=30: a quick look); build/bench-live.json
	$(BIN)/python bench/live.py --seconds $(BENCH_SECONDS)

.PHONY: bench-ros2
bench-ros2: $(STAMP) ## CPU by message out of a ROS 2 graph, through DDS, and as a node where ROS 2 is sourced; build/bench-ros2-*.json
	@$(BIN)/python bench/ros2.py dds; met=$$?; echo; \
	if PYTHONPATH="$(ROS_PYTHONPATH)" python3 -c 'import rclpy, edge_monitor_msgs' 2>/dev/null; then \
	  PYTHONPATH="$(CURDIR)/ros2_ws/src/edge_monitor_ros:$(CURDIR):$(ROS_PYTHONPATH)" python3 bench/ros2.py node || met=1; \
	else echo "bench-ros2: the half with the node DID NOT RUN: no ROS 2 is sourced, or ros2_ws is not built"; fi; exit $$met

bench-sync: $(STAMP) ## A journal into a registry's process, SQLite and PostgreSQL, beside COPY of the same rows; build/bench-sync.json
	$(BIN)/python bench/sync.py

bench-registry: $(STAMP) ## Pages of a registry with a million events, ten a second, while it takes 5,000 events a second; build/bench-registry.json
	$(BIN)/python bench/registry.py

bench-packet: $(STAMP) ## Export and verify evidence packets of 100,000 and 1,000,000 events, by both verifiers; build/bench-packet.json
	$(BIN)/python bench/packet.py

bench-calibration: $(STAMP) ## Is the false-alarm promise of drift checks kept? Simulates 6,000 hours; about 4 minutes
	$(BIN)/python bench/calibration.py

docs: $(STAMP) ## Rewrite the generated parts of README and docs
	$(BIN)/python docs/generate.py --slow

plots: $(STAMP) ## Draw the figures of docs/checks anew, from the data that the code makes
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '.[docs]'
	$(BIN)/python docs/plots.py

clean: ## Remove what was built (not .venv)
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis
