#!/usr/bin/env bash
# single_include.sh COMPILER EIGEN JSON DIR: the single headers that script/amalgamate makes, without include/ on the
# path: they are the same bytes when made again, each compiles alone, two units of a program link, files come back as
# they were, and tests of the library pass with them.
set -euo pipefail
compiler=$1 eigen=$2 json=$3 dir=$4
root=$(cd "$(dirname "$0")/../.." && pwd)
rm -rf "$dir"
mkdir -p "$dir"
cd "$dir"
"$root"/script/amalgamate single
(cd / && "$root"/script/amalgamate "$dir"/again)
diff -r single again

compile() { "$compiler" -std=c++20 -O0 -Wall -Wextra -Werror -isystem "$eigen" -idirafter "$json" "$@"; }
echo '#include <tiedlora/tiedlora_io.hpp>' >alone.cpp # which begins with the other one
compile -Isingle -fsyntax-only alone.cpp

compile -Isingle "$root"/tests/consumers/{two_units,other_unit}.cpp -o two_units
./two_units

# What includes the library's folders: each header of theirs is the single one.
for header in $(cd "$root"/include && find tiedlora -name '*.hpp' ! -path '*/verify*'); do
  [[ $header == tiedlora/tiedlora.hpp ]] && continue
  mkdir -p "folders/${header%/*}"
  single=tiedlora
  [[ $header == tiedlora/io* ]] && single=tiedlora_io
  printf '#include <tiedlora/%s.hpp>\n' $single >"folders/$header"
done
compile -Ifolders -Isingle "$root"/tests/consumers/files.cpp -o files
./files
printf '#include "adapter/%s_test.cpp"\n' layout torch_vera >tests.cpp
compile -Ifolders -Isingle -I"$root"/tests -DTIEDLORA_GOLDEN_DIR="\"$root/tests/golden\"" tests.cpp -o tests \
  -lgtest -lgtest_main -lpthread
./tests --gtest_brief=1
