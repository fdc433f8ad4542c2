#!/usr/bin/env bash
# Cross-compiles the reader for arm64 into BUILD, and runs its tests and the self-test of BUNDLE in an emulator. Debian's
# packages for arm64, a recent emulator and ONNX Runtime are taken into BUILD without installing them. Exits 3 with the
# reason where something of it cannot be had. Usage: arm64.sh BUILD HEADERS BUNDLE PYTHON
set -euo pipefail

build=$(realpath -m "$1")
headers=$(realpath "$2")
bundle=$(realpath "$3")
python=$4
source=$(realpath "$(dirname "$0")")
root=$build/root

skip() {
    echo "arm64 is skipped: $1" >&2
    exit 3
}

if ! command -v aarch64-linux-gnu-g++ >/dev/null; then
    [[ $(id -u) -eq 0 ]] && apt-get install -qq -y --no-install-recommends g++-aarch64-linux-gnu >/dev/null 2>&1 ||
        skip "install g++-aarch64-linux-gnu"
fi
[[ -f /etc/debian_version ]] || skip "its libraries are taken from Debian"

# Downloads packages and unpacks them. Usage: take ARCHITECTURE SUITE TARGET PACKAGE...
take() {
    local work=$build/apt-$1-$2 mirror target=$3
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -v security | head -n 1)
    mkdir -p "$work/lists/partial" "$work/archives/partial" "$target"
    chmod 755 "$work" # apt downloads as a user of its own
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $2 main" >"$work/sources.list"
    : >"$work/status"
    local options=(-qq -o "APT::Architecture=$1" -o "APT::Architectures=$1" -o "Dir::Etc::sourcelist=$work/sources.list"
        -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::status=$work/status" -o "Dir::State::lists=$work/lists"
        -o "Dir::Cache::archives=$work/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)
    (cd "$work" && apt-get "${options[@]}" update && apt-get "${options[@]}" download "${@:4}") >/dev/null 2>&1 || return 1
    for package in "$work"/*.deb; do dpkg-deb -x "$package" "$target"; done
}

if [[ ! -f $build/.taken ]]; then
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    take arm64 "$release" "$root" libpng-dev libpng16-16 libjpeg62-turbo-dev libjpeg62-turbo libjpeg-dev libtiff-dev libtiff6 \
        libssl-dev libssl3 zlib1g-dev zlib1g libdeflate0 libjbig0 liblerc4 liblzma5 libwebp7 libzstd1 ||
        skip "Debian's packages for arm64 cannot be downloaded"
    # Older emulators crash on what ONNX Runtime does.
    take "$(dpkg --print-architecture)" bookworm-backports "$build/emulator" qemu-user ||
        skip "qemu-user of bookworm-backports cannot be downloaded"
    "$python" -m pip download --quiet --no-deps --only-binary=:all: --platform manylinux_2_28_aarch64 \
        --platform manylinux_2_27_aarch64 --dest "$build" onnxruntime || skip "ONNX Runtime for arm64 cannot be downloaded"
    "$python" -m zipfile -e "$build"/onnxruntime-*.whl "$build/onnxruntime"
    touch "$build/.taken"
fi

cat >"$build/arm64.cmake" <<END
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH $root)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
add_link_options(-Wl,-rpath-link,$root/usr/lib/aarch64-linux-gnu:$root/lib/aarch64-linux-gnu)
END
# Headers alone are the same for every processor: those of nlohmann-json, doctest and ONNX Runtime are this machine's.
cmake -S "$source" -B "$build/cmake" -G Ninja -DCMAKE_TOOLCHAIN_FILE="$build/arm64.cmake" -DHTR_ENGINES=onnxruntime \
    -DCMAKE_PREFIX_PATH="$headers/usr" -DCMAKE_LIBRARY_ARCHITECTURE=aarch64-linux-gnu >"$build/cmake.log"
cmake --build "$build/cmake"

emulate=("$build/emulator/usr/bin/qemu-aarch64" -L /usr/aarch64-linux-gnu
    -E "LD_LIBRARY_PATH=/usr/aarch64-linux-gnu/lib:$root/usr/lib/aarch64-linux-gnu:$root/lib/aarch64-linux-gnu"
    -E "HTR_ONNXRUNTIME=$(ls "$build"/onnxruntime/onnxruntime/capi/libonnxruntime.so.*)")
"${emulate[@]}" "$build/cmake/htr-tests"
"${emulate[@]}" "$build/cmake/htr-read" --self-test "$bundle" --engine onnxruntime
