#!/usr/bin/env bash
# What a GPU makes of it, on a machine without network, in eight minutes at most:
#
#     bash benchmarks/gpu.sh                    # results in ./gpu-results, or in $OUT
#     bash benchmarks/gpu.sh --device cpu --toy # the same cells on a CPU, small: do they run?
#     bash benchmarks/gpu.sh paper              # benchmarks/gpu_paper.py in place of gpu.py, 570 s at most; in $OUT/paper
#
# Needs a python with torch for CUDA ($PYTHON, default python3). Other packages come from .whl/*.whl where that folder exists
# (benchmarks/gpu_wheels.py makes it). RESULTS.json is written anew after every cell, the most valuable first, so that a machine
# that is taken away leaves what was measured. Not run on a GPU yet.
set -u
cd "$(dirname "$0")/.."
OUT=${OUT:-gpu-results}
PYTHON=${PYTHON:-python3}
SITE=${SITE:-/tmp/open-ldm-site}
SCRIPT=gpu.py
if [ "${1:-}" = paper ]; then
    SCRIPT=gpu_paper.py OUT=$OUT/paper
    shift
fi
mkdir -p "$OUT"
export PYTHONPATH="$PWD/src:$PWD:$PWD/benchmarks${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

if compgen -G ".whl/*.whl" >/dev/null; then
    # Without dependencies and beside the machine's own packages: its torch must stay.
    "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$SITE" .whl/*.whl || exit
    export PYTHONPATH="$PYTHONPATH:$SITE"
fi
{ date -u; nvidia-smi 2>/dev/null || echo "no nvidia-smi here"; } >"$OUT/machine.txt"
exec "$PYTHON" "benchmarks/$SCRIPT" --out "$OUT" "$@"
