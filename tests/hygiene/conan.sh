#!/usr/bin/env bash
# conan.sh DIR: packaging/conan with a Conan that reaches no registry: Eigen and nlohmann/json come as this machine
# has them. The recipe packs, and its test package finds, builds and runs. Exits with 77 where .venv has no Conan
# (script/bootstrap packages).
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
conan=$root/.venv/bin/conan
[[ -x $conan ]] || conan=$(command -v conan) || exit 77
export CONAN_HOME=$1/home
rm -rf "$1"
mkdir -p "$1"
cp -r "$root"/{CMakeLists.txt,LICENSE,include,packaging} "$1" # Conan builds in the recipe's folder
cd "$1"
"$conan" profile detect
"$conan" remote disable '*'
"$conan" create packaging/conan/system --name eigen --version 3.4.0
"$conan" create packaging/conan/system --name nlohmann_json --version 3.11.2
"$conan" create packaging/conan -s compiler.cppstd=20
