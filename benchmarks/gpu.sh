#!/usr/bin/env bash
# Tests, speed and two short trainings on a GPU machine without network, in under 10 minutes:
#
#     bash benchmarks/gpu.sh            # results in ./gpu-results, or in $OUT
#
# Needs a python with torch for CUDA ($PYTHON, default python3). Other packages come from .whl/*.whl where that folder exists.
# Every part has its own time limit and log; a part that fails does not stop the others, and the end says which did.
# Not run yet: no GPU was at hand when it was written.
set -u
cd "$(dirname "$0")/.."
OUT=${OUT:-gpu-results}
PYTHON=${PYTHON:-python3}
DATA=${DATA:-}
mkdir -p "$OUT"
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
failed=()

# part NAME SECONDS COMMAND...: run within the limit, log, remember a failure.
part() {
    local name=$1 seconds=$2 code=0
    shift 2
    echo "== $name (at most $seconds s): $*"
    timeout --kill-after=20 "$seconds" "$@" >"$OUT/$name.log" 2>&1 || code=$?
    tail -n 6 "$OUT/$name.log"
    if [ "$code" -ne 0 ]; then
        failed+=("$name (exit $code)")
    fi
}

LDM=("$PYTHON" -c "import sys; from open_ldm.cli.main import main; sys.exit(main())")

{
    date -u
    nvidia-smi
    "$PYTHON" -c "import torch; print(torch.__version__, torch.version.cuda, torch.cuda.get_device_name())"
} >"$OUT/machine.txt" 2>&1 || failed+=("machine: no CUDA in torch, see machine.txt")
cat "$OUT/machine.txt"

if compgen -G ".whl/*.whl" >/dev/null; then
    # Without dependencies: the machine's own torch must stay.
    part wheels 60 "$PYTHON" -m pip install --no-index --no-deps .whl/*.whl
fi

part tests 120 "$PYTHON" -m pytest -p no:cacheprovider -m "not data" \
    tests/core tests/process tests/denoisers tests/model tests/training tests/sampling
part step-batch8 60 "$PYTHON" benchmarks/train_step.py --device cuda --steps 50 --json "$OUT/step-batch8.json"
part step-batch256 90 "$PYTHON" benchmarks/train_step.py --device cuda --steps 20 --batch 256 --json "$OUT/step-batch256.json"
part step-XL 90 "$PYTHON" benchmarks/train_step.py --device cuda --steps 10 --batch 32 --size XL --dtypes bf16 \
    --json "$OUT/step-XL.json"
part demo 90 "${LDM[@]}" demo --json --out "$OUT/demo"

for folder in "$DATA" shared/data ../shared/data; do
    if [ -n "$folder" ] && compgen -G "$folder/cifar10/train-*.tar" >/dev/null; then
        part cifar10-dit 90 "${LDM[@]}" train cifar10-dit "data.source.path=$folder/cifar10/train-*.tar" \
            training.samples=100000 --json --out "$OUT/cifar10-dit"
        break
    fi
done

# Weights stay on the machine; the reports and figures come back.
rm -rf "$OUT"/demo/checkpoints "$OUT"/cifar10-dit/checkpoints

if [ "${#failed[@]}" -gt 0 ]; then
    printf 'failed: %s\n' "${failed[@]}" | tee "$OUT/failed.txt"
    exit 1
fi
echo "all parts passed"
