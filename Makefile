# Every target makes what it needs: system packages, then a virtual environment, then its work.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
JOBS   ?= 2

SYSTEM_PACKAGES := g++ make perl python3-venv iverilog
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

export OMP_NUM_THREADS = 1

.PHONY: demo test test-full mutants cover lint bench results clean system
.DEFAULT_GOAL := demo

## demo: the whole chain on the embedded graph
demo: $(STAMP)
	$(BIN)/sgq-hw demo karate -o build/demo

## test: lint and the small test matrix
test: lint
	$(PYTEST) -m "not full" $(TESTS)

## test-full: every acceptance matrix
test-full: lint
	$(PYTEST) $(TESTS)

## mutants: faults in the templates, each of which a bench must find; build/mutants.json
mutants: $(STAMP)
	$(BIN)/python -m tests.mutation --jobs $(JOBS) $(MUTANTS)

## cover: lines and toggles that benches and random networks reach; build/coverage/report.md
cover: export SGQ_HW_COVERAGE = $(CURDIR)/build/coverage/data
cover: $(STAMP)
	rm -rf build/coverage
	$(PYTEST) -p tests.coverage -m "not full" -k "not fault and not result_of_one_beat" \
	    $(addprefix tests/rtl/test_,$(COVERED:=.py))
	$(BIN)/python -m tests.coverage

COVERED := accelerator aggregation_unit axil_registers bank_crossbar bus_model combination_unit \
    feature_buffer input_unpacker mac_array output_buffer output_stream pass_sequencer \
    performance_counters ram random_networks requantize rom schedule_checker serial_expander \
    stream_errors stream_loader stream_register

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

## bench: timings as ratios, measured in one run
bench: $(STAMP)
	$(BIN)/python -m benchmarks.run
	$(BIN)/python -m benchmarks.throughput

## results: the table against SGQuant; goes on where the last call ended
results: $(STAMP)
	$(BIN)/python -m benchmarks.sgquant_results $(RESULTS)

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

## system: what the virtual environment cannot bring
system:
	@missing=""; \
	for pair in g++:g++ make:make perl:perl iverilog:iverilog; do \
	    command -v $${pair%%:*} > /dev/null || missing="$$missing $${pair##*:}"; \
	done; \
	$(PYTHON) -c "import venv, ensurepip" 2> /dev/null || missing="$$missing python3-venv"; \
	if [ -n "$$missing" ]; then \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing; \
	    else \
	        echo "missing:$$missing; install with: sudo apt-get install -y$$missing" >&2; exit 1; \
	    fi; \
	fi

$(STAMP): pyproject.toml constraints.txt | system
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[train,search,sim,synth,dev]"
	touch $@
