#!/usr/bin/env bash
# Builds, checks and times the CUDA plugin on a machine with a GPU: nvcc, CMake and a python3 with torch; no Node, no
# network. One JSON result; fits 8 minutes.
#
#   bench/gpu.sh [result.json]
#
#   PERSONASCOPE_GPU_SECONDS   time for everything (480)
#   PERSONASCOPE_GPU_BUILD     build folder (build-gpu)
#   PYTHON                     a python3 that has torch
#   NODE                       a Node binary: then the addon's own tests of devices run too (node_modules and the
#                              built addon must have been brought along)
#
# Every step has its own limit and goes into the result with its exit status; a step that fails does not keep the others
# from running. The exit status is that of the parity tests.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
result=$(realpath -m "${1:-gpu-result.json}")
total=${PERSONASCOPE_GPU_SECONDS:-480}
build=$(realpath -m "${PERSONASCOPE_GPU_BUILD:-build-gpu}")
python=${PYTHON:-python3}
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
steps="$logs/steps"
: > "$steps"

left() { echo $((total - SECONDS)); }

# step NAME LIMIT COMMAND...: runs it in at most LIMIT seconds and what is left, its output to the log and the screen.
step() {
  local name=$1 limit=$2 begun=$SECONDS status
  shift 2
  if (($(left) < limit)); then limit=$(left); fi
  if ((limit < 5)); then
    printf '%s\t%s\t%s\n' "$name" skipped 0 >> "$steps"
    return 125
  fi
  printf '\n== %s (%s s left)\n' "$name" "$(left)"
  timeout --kill-after=5 "$limit" "$@" > "$logs/$name.log" 2>&1
  status=$?
  tail -n 15 "$logs/$name.log"
  printf '%s\t%s\t%s\n' "$name" "$status" $((SECONDS - begun)) >> "$steps"
  return $status
}

# Where CUDA's own packages put it.
command -v nvcc > /dev/null || PATH=$PATH:/usr/local/cuda/bin
for tool in nvidia-smi nvcc cmake "$python"; do
  command -v "$tool" > /dev/null || {
    echo "$tool is not there" >&2
    exit 1
  }
done
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d '.')
case "$capability" in
  90) architecture=90a-real ;;
  [0-9]*) architecture=$capability-real ;;
  *)
    echo 'no NVIDIA GPU found by nvidia-smi' >&2
    exit 1
    ;;
esac

# The plugin first: the bench needs nothing else.
step configure 60 cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DPERSONASCOPE_CUDA=ON \
  "-DCMAKE_CUDA_ARCHITECTURES=$architecture" -DCMAKE_CUDA_FLAGS=-lineinfo &&
  step build-plugin 150 cmake --build "$build" --parallel "$(nproc)" --target personascope_cuda &&
  step build-tests 150 cmake --build "$build" --parallel "$(nproc)" --target device_test device_sae_test device_tensor_test
export PERSONASCOPE_CUDA_PLUGIN="$build/cuda/libpersonascope_cuda.so"
test="$build/device_test"

step parity 90 "$test"
parity=$?
step parity-sae 30 "$build/device_sae_test"
step parity-tensors 20 "$build/device_tensor_test"

if [[ -n ${NODE:-} ]]; then
  step addon 60 "$NODE" node_modules/vitest/vitest.mjs run test/core test/sae/device.test.ts \
    test/diffing/device-stats.test.ts test/steering/steer-rows.test.ts test/cli/device.test.ts
fi

# The sanitizers come last and take what is left: a part of the bench that is not run is missed more.
bench=$(($(left) - 110))
step bench "$bench" "$python" bench/peers/gpu_encode.py "$PERSONASCOPE_CUDA_PLUGIN" "$logs/bench.json" --seconds $((bench - 5))

# A part of the tests that goes through every kernel once; the sanitizers slow them down a lot.
for check in memcheck racecheck initcheck; do
  step "sanitizer-$check" 40 compute-sanitizer --tool "$check" --error-exitcode 9 "$test" one_encoder_for_many_sizes
done
for part in decode_has steering_has statistics; do
  step "sanitizer-memcheck-$part" 30 compute-sanitizer --tool memcheck --error-exitcode 9 "$test" "$part"
done

"$python" - "$logs" "$result" "$parity" << 'END'
import json, os, platform, subprocess, sys
logs, result, parity = sys.argv[1:]
steps = {}
for line in open(f'{logs}/steps'):
    name, status, seconds = line.rstrip('\n').split('\t')
    log = f'{logs}/{name}.log'
    text = open(log, errors='replace').read() if os.path.exists(log) else ''
    steps[name] = {'status': status if status == 'skipped' else int(status), 'seconds': int(seconds), 'end': text[-1500:]}
query = 'name,driver_version,memory.total,clocks.sm,clocks.max.sm,power.limit'
gpu = subprocess.run(['nvidia-smi', f'--query-gpu={query}', '--format=csv'], capture_output=True, text=True).stdout
bench = f'{logs}/bench.json'
with open(result, 'w') as file:
    json.dump({
        'parity': 'passed' if parity == '0' else 'failed' if parity == '1' else f'did not finish: {parity}',
        'machine': {'gpu': gpu, 'cpu': platform.processor(), 'cpus': os.cpu_count(), 'kernel': platform.release()},
        'steps': steps,
        'bench': json.load(open(bench)) if os.path.exists(bench) else None,
    }, file, indent=2)
    file.write('\n')
print(f'result: {result}')
END
exit "$parity"
