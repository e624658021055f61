#!/bin/sh
# Measures on one GPU what has only been predicted, in the order of worth: 12 minutes at most.
#   scripts/gpu_session.sh [DIRECTORY]     results in DIRECTORY (default: docs/benchmarks/gpu)
# Uses the python on PATH, or $PYTHON. Each part has a time limit, and goes on if another fails.
set -u
out=${1:-docs/benchmarks/gpu}
python=${PYTHON:-python}
mkdir -p "$out"

# part SECONDS NAME COMMAND...
part() {
    limit=$1
    name=$2
    shift 2
    echo "== $name ($limit s at most): $*" >&2
    if timeout -k 5 "$limit" "$@" >"$out/$name.out" 2>"$out/$name.err"; then
        echo "   done" >&2
    else
        echo "   FAILED ($?), see $out/$name.err" >&2
    fi
}

benchmark() {
    limit=$1
    name=$2
    shift 2
    part "$limit" "$name" "$python" -m mjxppo benchmark "$@" --out "$out/$name.json"
}

nvidia-smi >"$out/nvidia-smi.out" 2>&1
part 120 tests "$python" -m pytest -q -m gpu tests/test_gpu.py
part 180 learn "$python" -m mjxppo train --config half_cheetah_gpu --env half_cheetah --run-dir "$out/run" --eval.no-video
benchmark 150 train train --config half_cheetah_gpu hopper_gpu half_cheetah_gpu_throughput --repeats 3
part 10 compared "$python" scripts/compare_predictions.py "$out/train.json"
benchmark 120 physics physics --num-envs 32768 --tasks half_cheetah --backends planar planar-pallas --repeats 3
benchmark 90 kernel-sizes physics --num-envs 32768 --tasks hopper --repeats 3 \
    --backends planar-pallas:32:1 planar-pallas:64:2 planar-pallas:128:4
part 50 profile "$python" scripts/profile_update.py half_cheetah_gpu "$out/profile"
