#!/usr/bin/env bash
# Tries the wheel in DIST as a stranger would: the whole chain in one clean environment, reading in another that has no
# PyTorch. Usage: try_wheel.sh DIST [PYTHON]
set -euo pipefail

wheel=$(realpath "$(ls "$1"/htr_export-*.whl)")
python=${2:-python3}
demo=$(realpath "$(dirname "$0")/../training/demo")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" # so that nothing is imported from the checkout

"$python" -m venv full
full/bin/pip install --quiet "$wheel[export,cpu]"
for command in htr-export htr-read htr-bench htr-train; do
    "full/bin/$command" --help >/dev/null
done
full/bin/htr-train init iam
grep -q '^charset = "iam"' iam.toml
full/bin/htr-export ship "$demo/demo.pth" -o demo.htr --lines "$demo/lines" --list "$demo/demo.ln" --limit 8 --accept-few

"$python" -m venv reader
reader/bin/pip install --quiet "$wheel[cpu]"
for package in torch onnx; do
    if reader/bin/python -c "import $package" 2>/dev/null; then
        echo "the reading environment has $package" >&2
        exit 1
    fi
done
reader/bin/htr-read --self-test demo.htr
reader/bin/pip install --quiet 'pillow==10.3.*' # the oldest admitted gives the same bits
reader/bin/htr-read --self-test demo.htr
reader/bin/htr-read demo.htr "$demo/lines" >read.txt
test "$(wc -l <read.txt)" -eq "$(ls "$demo"/lines/*.png | wc -l)"
if [[ -n $(reader/bin/python -c "from htr_export.site import PAGE; print(PAGE if PAGE.is_dir() else '')") ]]; then
    reader/bin/htr-export site demo.htr -o site
    test -s site/bundle/model.onnx -a -s site/page.js
fi
# Whatever needs more than reading does says in one line how to get it.
if reader/bin/htr-export strip "$demo/demo.pth" -o x.safetensors 2>error.txt; then
    echo "strip should need the export extra" >&2
    exit 1
fi
grep -q "pip install 'htr-export\[export\]'" error.txt
test "$(wc -l <error.txt)" -eq 1
echo "the wheel works: the chain with PyTorch, reading without"
