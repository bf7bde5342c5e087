#!/usr/bin/env bash
# instruction_sets.sh COMPILER INCLUDE EIGEN JSON DIR: one program of three instruction sets. The lowest unit uses the whole
# library, the others <tiedlora/ops.hpp> (without Eigen: they could not include more). No function that two of them define
# under one name may differ, optimised or not, since the linker keeps one; so the objects may stand in any order.
set -euo pipefail
compiler=$1 include=$2 eigen=$3 json=$4 dir=$5
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$dir"
compile() {  # compile SOURCE UNIT LEVEL FLAG...
  "$compiler" -std=c++20 "-O$3" -S -I"$include" -DTIEDLORA_UNIT="$2" "${@:4}" "$here/$1.cpp" -o "$dir/$2.O$3.s"
}
for level in 0 2; do
  compile operations avx2 "$level" -march=x86-64-v3
  compile operations avx512 "$level" -march=x86-64-v4
done
# Without optimisation every function of the lowest unit is there to be compared. Optimised, those that the others share with it
# are those of the same source.
compile baseline baseline 0 -march=x86-64 -isystem "$eigen" -idirafter "$json"
compile operations baseline 2 -march=x86-64
for level in 0 2; do python3 "$here/compare_code.py" "$dir"/{baseline,avx2,avx512}.O$level.s; done
"$compiler" -c "$dir/baseline.O0.s" -o "$dir/baseline.o"
for unit in avx2 avx512; do "$compiler" -c "$dir/$unit.O2.s" -o "$dir/$unit.o"; done
"$compiler" "$dir"/{baseline,avx2,avx512}.o -o "$dir/lowest_first"
"$compiler" "$dir"/{avx512,avx2,baseline}.o -o "$dir/lowest_last"
"$dir/lowest_first"
"$dir/lowest_last"
