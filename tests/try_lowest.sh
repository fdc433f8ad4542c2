#!/usr/bin/env bash
# Runs the reader's tests without PyTorch, on the lowest versions that pyproject.toml admits. What they read was exported
# by a run of the whole suite with the same HTR_TEST_EXPORTS. Usage: try_lowest.sh DIST [PYTHON]
set -euo pipefail

wheel=$(realpath "$(ls "$1"/htr_export-*.whl)")
python=${2:-python3}
cd "$(dirname "$0")/.."
if ! "$python" -c "import sys; sys.exit(sys.version_info >= (3, 13))"; then
    echo "not run: the lowest versions have no wheels for Python 3.13"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
reader="numpy|pillow|click|rich|packaging|onnxruntime|lxml|huggingface_hub"
sed -nE "s/^.*\"($reader)>=([0-9.]+)\".*$/\1==\2/p" pyproject.toml | sort -u >"$work/lowest.txt"
"$python" -m venv "$work/venv"
# The tests make small models with onnx; the reader never imports it.
"$work/venv/bin/pip" install --quiet -c "$work/lowest.txt" "$wheel[cpu,pages,hub]" pytest hypothesis onnx
"$work/venv/bin/pytest" -q -p no:cacheprovider tests/engines
