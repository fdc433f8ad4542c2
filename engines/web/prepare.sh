#!/usr/bin/env bash
# Gets what the reader for the browser is built from: its npm packages, exactly as package-lock.json says. Exits 1 with
# the reason where they cannot be had.
set -euo pipefail
cd "$(dirname "$0")"
if ! command -v npm >/dev/null || (($(node --version | tr -d v | cut -d. -f1) < 18)); then
    echo "the reader for the browser needs node 18 or later with npm" >&2
    exit 1
fi
if [[ ! node_modules/.package-lock.json -nt package-lock.json ]]; then
    npm ci --ignore-scripts --no-audit --no-fund --silent --fetch-retries=1 --fetch-timeout=60000 || {
        echo "npm cannot download the packages of engines/web" >&2
        exit 1
    }
fi
