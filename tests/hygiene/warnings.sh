#!/usr/bin/env bash
# warnings.sh COMPILER INCLUDE EIGEN JSON SOURCE...: no warning from our headers under the strictest flags a host may have.
# Ours come by -I, so that nothing is hidden; what they need by -isystem.
set -euo pipefail
compiler=$1 include=$2 eigen=$3 json=$4
flags=(-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wold-style-cast -Wdouble-promotion -Wundef
       -Wcast-align -Wcast-qual -Wformat=2 -Wnon-virtual-dtor -Woverloaded-virtual -Wnull-dereference -Wunused
       -Wmissing-declarations -Wredundant-decls -Wimplicit-fallthrough -Wextra-semi)
if "$compiler" --version | grep -q clang; then
  # All that Clang has, except what asks for another library than one of headers in C++20 that works on pointers: older
  # standards, structs without gaps, no pointer arithmetic, no comparison with 0.0, a .cpp file for a vtable, a default in a
  # switch over all enumerators and none in others, no backslash in a comment, no comma between two assignments.
  flags+=(-Weverything -Wno-c++98-compat -Wno-c++98-compat-pedantic -Wno-pre-c++20-compat-pedantic -Wno-padded
          -Wno-unknown-warning-option -Wno-unsafe-buffer-usage -Wno-unsafe-buffer-usage-in-container -Wno-float-equal
          -Wno-weak-vtables -Wno-switch-default -Wno-switch-enum -Wno-documentation-unknown-command -Wno-comma)
else
  flags+=(-Wduplicated-cond -Wduplicated-branches -Wlogical-op -Wsuggest-override)
fi
for source in "${@:5}"; do
  "$compiler" -std=c++20 -fsyntax-only -Werror "${flags[@]}" -I"$include" -isystem "$eigen" -idirafter "$json" \
    -DTIEDLORA_UNIT=baseline "$source"
done
