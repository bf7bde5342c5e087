#!/usr/bin/env bash
# nvcc_test.sh ROOT EIGEN OUT: compiles the program's CUDA sources without warnings, and looks at what ptxas says of every kernel:
# none may spill registers or keep arrays in local memory, which is far slower. For sm_80 and sm_90; the parity kit's nine mixtures of
# types and the checks for sm_90 alone, which halves the time. Exits with 77 where there is no nvcc.
set -euo pipefail
root=$1 eigen=$2 out=$3
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
compile() { # NAME ARCHITECTURE...
  local name=$1 status=0 targets=()
  for architecture in "${@:2}"; do targets+=(-gencode "arch=compute_$architecture,code=sm_$architecture"); done
  # nvcc 13 warns of "module" at the start of a line, a word of C++20 that may stand there, and puts pointers to members in
  # parentheses, of which GCC warns; GCC 12 takes the two sides of a string's + for overlapping. Eigen is for the host only here.
  "$root/tests/hygiene/nvcc.sh" "$root/include" "$here/$name.cu" "$out/$name.o" -isystem "$eigen" -DEIGEN_NO_CUDA \
    -diag-suppress 3189 -Xcompiler -Wno-parentheses,-Wno-restrict -O3 "${targets[@]}" -Xptxas -v >"$out/$name.log" 2>&1 || status=$?
  if [[ $status -ne 0 ]]; then
    cat "$out/$name.log"
    return $status
  fi
  if grep -B 1 -E '[1-9][0-9]* bytes (stack frame|spill)' "$out/$name.log"; then
    echo "$name.cu: the kernels above use local memory" >&2
    return 1
  fi
  local kernels registers
  kernels=$(grep -c 'Compiling entry' "$out/$name.log" || true)
  registers=$(grep -oE 'Used [0-9]+ registers' "$out/$name.log" | grep -oE '[0-9]+' | sort -n | tail -n 1 || true)
  echo "$name.cu: $kernels kernels${registers:+, at most $registers registers}"
}
# Two at a time.
compile parity 90 &
beside=$!
compile check 90
for name in find_device train bench; do compile "$name" 80 90; done
wait "$beside"
