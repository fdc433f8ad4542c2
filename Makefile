# Each target sets itself up: a fresh clone needs Python 3.10 to 3.13 (python3) and make, nothing else.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := cpu,hub,openvino,pages,rtx,serve,train,dev
DEMO := demo-output
CPP := build/cpp
CPP_HEADERS := build/cpp-headers
SCALE := build/scale

.PHONY: install demo test test-scale quality wheel cpp test-cpp test-cpp-arm64 web-page web test-web clean

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
	@echo "The report is in $(DEMO)/demo.htr.work/report/report.html"

test: install
	$(BIN)/pytest

# The service, the model repository and cluster jobs, against the real tritonserver, its clients and Ray, in an environment
# of their own: nvidia-pytriton needs NumPy 1, and newer pyarrow NumPy 2.
test-scale: install
	mkdir -p $(SCALE)
	$(BIN)/htr-export strip training/demo/demo.pth -o $(SCALE)/demo.safetensors
	$(BIN)/htr-export onnx $(SCALE)/demo.safetensors -o $(SCALE)/demo.onnx
	$(BIN)/htr-export bundle $(SCALE)/demo.onnx -o $(SCALE)/demo.htr
	$(PYTHON) -m venv $(SCALE)/venv
	$(SCALE)/venv/bin/pip install --quiet --editable '.[cpu,pages,serve,ray]' nvidia-pytriton 'tritonclient[http,grpc]' \
		'pyarrow<22' schemathesis pytest httpx
	HTR_SCALE_BUNDLE=$(abspath $(SCALE)/demo.htr) $(SCALE)/venv/bin/pytest tests/scale

quality: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Builds the wheel and tries it: the commands in one clean environment, reading without PyTorch in another.
wheel: install
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .
	tests/try_wheel.sh dist $(PYTHON)

# The C++ reader. What it is built from comes by apt-get where this user may install, else the message names it.
cpp: install
	engines/cpp/prepare.sh $(CPP_HEADERS)
	cmake -S engines/cpp -B $(CPP) -G Ninja -DCMAKE_PREFIX_PATH=$(abspath $(CPP_HEADERS)/usr) \
		-DOpenVINO_DIR=$$($(BIN)/python -c "from pathlib import Path; import openvino; print(Path(openvino.__file__).parent)")/cmake
	cmake --build $(CPP)

# Its own tests, the same with sanitizers over mutated images and manifests, and word for word against Python's reader.
test-cpp: cpp
	ctest --test-dir $(CPP) --output-on-failure
	cmake -S engines/cpp -B $(CPP)-sanitized -G Ninja -DHTR_SANITIZE=ON -DHTR_ENGINES=
	cmake --build $(CPP)-sanitized
	ctest --test-dir $(CPP)-sanitized --output-on-failure
	HTR_CPP_BUILD=$(abspath $(CPP)) $(BIN)/pytest tests/engines/test_cpp.py

# Cross-compiled, and its tests and a self-test run in an emulator; exit code 3 of the script says what is missing.
test-cpp-arm64: install $(DEMO)/demo.htr
	engines/cpp/prepare.sh $(CPP_HEADERS)
	mkdir -p $(CPP_HEADERS)
	engines/cpp/arm64.sh build/arm64 $(CPP_HEADERS) $(DEMO)/demo.htr $(BIN)/python || test $$? -eq 3

$(DEMO)/demo.htr: | install
	mkdir -p $(DEMO)
	$(BIN)/htr-export ship training/demo/demo.pth -o $@ --lines training/demo/lines --list training/demo/demo.ln

# The reader for the browser as an npm package (engines/web/dist), and its page (htr_export/page, which the wheel then holds).
web-page:
	engines/web/prepare.sh
	cd engines/web && npx tsc && node build.mjs ../../htr_export/page

# The page with the demo network, on this machine.
web: install web-page $(DEMO)/demo.htr
	$(BIN)/htr-export site $(DEMO)/demo.htr -o $(DEMO)/site
	$(BIN)/python -m http.server --bind localhost --directory $(DEMO)/site 8000

# In a Chromium that is installed; without one the tests are skipped and say so. Screenshots: build/web.
test-web: install web-page
	$(BIN)/pip install --quiet --editable '.[web]'
	$(BIN)/pytest tests/engines/test_web.py tests/export/test_site.py

clean:
	rm -rf $(VENV) $(DEMO) dist build engines/web/dist engines/web/node_modules htr_export/page
