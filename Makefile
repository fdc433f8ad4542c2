# Each target sets itself up: a fresh clone needs Python 3.10 to 3.13 (python3) and make, nothing else.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := cpu,hub,openvino,pages,rtx,train,dev
DEMO := demo-output

.PHONY: install demo test quality wheel clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@

# The shipped checkpoint, through the whole chain, on the shipped lines.
demo: install
	mkdir -p $(DEMO)
	$(BIN)/htr-export ship training/demo/demo.pth -o $(DEMO)/demo.htr \
		--lines training/demo/lines --list training/demo/demo.ln
	$(BIN)/htr-read --self-test $(DEMO)/demo.htr
	$(BIN)/htr-read $(DEMO)/demo.htr training/demo/lines/demo-00000*.png
	$(BIN)/htr-bench latency onnxruntime:$(DEMO)/demo.htr.work/model.onnx openvino:$(DEMO)/demo.htr.work/model.onnx \
		--reference $(DEMO)/demo.htr.work/model.safetensors --batch 1 --duration 2 --lines training/demo/lines \
		--report $(DEMO)/demo.htr.work/report
	@echo "The report lies in $(DEMO)/demo.htr.work/report/report.html"

test: install
	$(BIN)/pytest

quality: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Builds the wheel and tries it: the commands in one clean environment, reading without PyTorch in another.
wheel: install
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .
	tests/try_wheel.sh dist $(PYTHON)

clean:
	rm -rf $(VENV) $(DEMO) dist build
