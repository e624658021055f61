#!/bin/sh
# Everything that is to be known of a GPU: tests, physics and training throughput, compile times, one training run.
#   scripts/gpu_session.sh [DIRECTORY]     about 20 minutes; results in DIRECTORY (default: docs/benchmarks/gpu)
# Uses the python on PATH, or $PYTHON. Each part goes on if another fails, so that a short session leaves something.
set -u
out=${1:-docs/benchmarks/gpu}
python=${PYTHON:-python}
mkdir -p "$out"

part() {
    name=$1
    shift
    echo "== $name: $*" >&2
    if timeout "${LIMIT:-1200}" "$@" >"$out/$name.out" 2>"$out/$name.err"; then
        echo "   done" >&2
    else
        echo "   FAILED ($?), see $out/$name.err" >&2
    fi
}

benchmark() {
    name=$1
    shift
    part "$name" "$python" -m mjxppo.cli benchmark "$@" --out "$out/$name.json"
}

nvidia-smi >"$out/nvidia-smi.out" 2>&1
part tests "$python" -m pytest -q -m gpu tests/test_gpu.py
# Which of the two planar programs wins, and at how many worlds; then how large the kernel's programs should be.
for worlds in 4096 16384 65536; do
    benchmark "physics-$worlds" physics --num-envs "$worlds" --backends c planar planar-pallas mjx
done
benchmark kernel-sizes physics --num-envs 65536 --backends \
    planar-pallas:32:1 planar-pallas:64:1 planar-pallas:64:2 planar-pallas:128:2 planar-pallas:128:4
benchmark warp physics --num-envs 4096 --tasks half_cheetah --backends c planar planar-pallas mjx-warp
# Conditional and loop nodes in CUDA graphs, which XLA does not use unless asked.
XLA_FLAGS="${XLA_FLAGS:-} --xla_gpu_enable_command_buffer=+WHILE,+CONDITIONAL" \
    benchmark physics-graphs physics --num-envs 65536 --backends planar
benchmark compile compile
benchmark train train
part learn "$python" -m mjxppo.cli train --env halfcheetah --physics.backend planar-pallas --run-dir "$out/run" \
    --eval.no-video
