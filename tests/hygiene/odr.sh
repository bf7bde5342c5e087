#!/usr/bin/env bash
# odr.sh COMPILER INCLUDE EIGEN DIR: one source under three instruction sets in one program. What the objects define under
# the same name must be the same code, since the linker keeps one; and adapters pass between them.
set -euo pipefail
compiler=$1 include=$2 eigen=$3 dir=$4
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$dir"
compile() {  # compile UNIT FLAG...: unit.cpp in the namespace UNIT
  "$compiler" -std=c++20 -O2 -ffunction-sections -I"$include" -isystem "$eigen" -DTIEDLORA_UNIT="$1" "${@:2}" \
    -c "$here/unit.cpp" -o "$dir/$1.o"
}
compile baseline -march=x86-64
compile avx2 -march=x86-64-v3 -DEIGEN_MAX_ALIGN_BYTES=16
compile avx512 -march=x86-64-v4
# Where std's own templates differ the linker keeps the first: the lowest instruction set goes first.
"$compiler" -std=c++20 -O1 -I"$include" -isystem "$eigen" "$here/units.cpp" "$dir"/{baseline,avx2,avx512}.o -o "$dir/units"
"$dir/units"
python3 "$here/compare_objects.py" "$dir"/{baseline,avx2,avx512}.o
