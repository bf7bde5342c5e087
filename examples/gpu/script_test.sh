#!/usr/bin/env bash
# script_test.sh SCRIPT: what script/gpu says and returns, with programs, CMake and bootstrap that only pretend.
set -euo pipefail
script=$(realpath "$1")
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{script,bin,build/demo/bin,examples/gpu/{opencl,cuda}}
cp "$script" "$root/script/gpu"
touch "$root"/examples/gpu/{opencl,cuda}/CMakeLists.txt
printf '#!/bin/sh\n' >"$root/script/bootstrap"
cat >"$root/bin/cmake" <<'END'
#!/bin/sh
case "$*" in
  *--build*) exit "${BUILD_STATUS:-0}" ;;
  *) echo "${CONFIGURED:-}" ;;
esac
END
for kind in opencl cuda; do
  printf '#!/bin/sh\necho "gpu_%s $*"\nexit ${%s_STATUS:-0}\n' $kind $kind >"$root/build/demo/bin/gpu_$kind"
done
chmod +x "$root"/{script,bin,build/demo/bin}/*
export PATH=$root/bin:$PATH

# expect STATUS TEXT [ARGUMENT...]: of script/gpu with these arguments.
expect() {
  local status=0 said
  said=$("$root/script/gpu" "${@:3}" 2>&1) || status=$?
  if [[ $status != "$1" || $said != *$2* ]]; then
    printf 'script/gpu %s returned %s and said:\n%s\nexpected %s and: %s\n' "${*:3}" "$status" "$said" "$1" "$2" >&2
    exit 1
  fi
}
no_cuda='-- tiedlora: no nvcc, so no gpu_cuda' no_opencl='-- tiedlora: no OpenCL, so no gpu_opencl'

sanitizer=$root/bin/compute-sanitizer
if ! command -v compute-sanitizer && ! compgen -G '/usr/local/cuda*/bin/compute-sanitizer'; then
  expect 0 $'gpu_cuda: parity passed\ngpu_cuda: parity not under compute-sanitizer: there is none'
  expect 0 $'gpu_cuda: check passed\ngpu_cuda: check not under compute-sanitizer: there is none' check
fi
# It runs the program that it gets, and fails where the tool is $BAD_TOOL.
cat >"$sanitizer" <<'END'
#!/bin/sh
[ "$2" != "${BAD_TOOL:-}" ] || exit 1
echo "sanitized: $*"
exec "$5" "$6"
END
chmod +x "$sanitizer"
expect 0 $'gpu_cuda: parity passed\ngpu_cuda: parity under compute-sanitizer, memcheck: passed
gpu_cuda: parity under compute-sanitizer, racecheck: passed\ngpu_cuda: check passed
gpu_cuda: check under compute-sanitizer, memcheck: passed\ngpu_cuda: check under compute-sanitizer, racecheck: passed
gpu_cuda: train passed\ngpu_opencl: parity passed\ngpu_opencl: train passed'
expect 0 'sanitized: --tool memcheck --error-exitcode 1 build/demo/bin/gpu_cuda parity --cases 24' parity
expect 0 'sanitized: --tool racecheck --error-exitcode 1 build/demo/bin/gpu_cuda check' check
BAD_TOOL=racecheck expect 1 $'memcheck: passed\ngpu_cuda: check under compute-sanitizer, racecheck: FAILED' check
expect 0 'gpu_opencl: no check' check
expect 0 'gpu_opencl parity --cases 5' parity --cases 5
expect 2 'script/gpu [(parity' --cases 5
CONFIGURED=$no_cuda expect 0 $'gpu_cuda: not built: no nvcc, so no gpu_cuda\ngpu_opencl: parity passed'
CONFIGURED=$no_cuda$'\n'$no_opencl expect 77 'gpu_opencl: not built: no OpenCL'
opencl_STATUS=77 cuda_STATUS=77 expect 77 'gpu_opencl: no device'
opencl_STATUS=77 expect 0 'gpu_cuda: train passed'
opencl_STATUS=1 expect 1 $'gpu_opencl: parity FAILED with status 1\ngpu_opencl: train FAILED'
BUILD_STATUS=1 expect 1 'gpu_opencl: does not build'
expect 0 $'gpu_cuda: bench passed\ngpu_opencl: no bench' bench
CONFIGURED=$no_cuda expect 77 'no bench' bench
