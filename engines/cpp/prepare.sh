#!/usr/bin/env bash
# Gets what the C++ reader is built from: packages by apt-get where this user may, else it names them and exits 1.
# The header of ONNX Runtime is in Debian 13 and Ubuntu 24.04; on older systems it is taken out of Debian 13's package,
# into HEADERS, without installing that. Usage: prepare.sh HEADERS
set -euo pipefail

headers=$1
packages=(g++ cmake ninja-build pkg-config libpng-dev libjpeg-dev libtiff-dev libssl-dev nlohmann-json3-dev doctest-dev)
missing=()
for package in "${packages[@]}"; do
    dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing+=("$package")
done
if ((${#missing[@]})); then
    if [[ $(id -u) -ne 0 ]] || ! { apt-get update -qq && apt-get install -qq -y --no-install-recommends "${missing[@]}"; } >/dev/null; then
        echo "the C++ reader needs packages; install them with: sudo apt-get install ${missing[*]}" >&2
        exit 1
    fi
fi

name=onnxruntime_cxx_api.h
if [[ -f /usr/include/onnxruntime/$name || -n $(find "$headers" -name $name 2>/dev/null) ]]; then
    exit 0
fi
if [[ $(id -u) -eq 0 ]] && apt-get install -qq -y --no-install-recommends libonnxruntime-dev >/dev/null 2>&1; then
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # apt downloads as a user of its own
mkdir -p "$work/lists/partial" "$work/archives/partial" "$headers"
# The mirror that this system uses, and on it the release that has the package.
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -v security | head -n 1)
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$work/sources.list"
options=(-qq -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::State::lists="$work/lists" -o Dir::Cache::archives="$work/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)
if (cd "$work" && apt-get "${options[@]}" update && apt-get "${options[@]}" download libonnxruntime-dev) >/dev/null 2>&1; then
    dpkg-deb -x "$work"/libonnxruntime-dev_*.deb "$headers"
else
    echo "the header of ONNX Runtime was not found (package libonnxruntime-dev of Debian 13 or Ubuntu 24.04);" \
        "the reader is built without that engine" >&2
fi
