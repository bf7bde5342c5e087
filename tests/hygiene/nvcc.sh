#!/usr/bin/env bash
# nvcc.sh INCLUDE SOURCE OUTPUT [OPTION...]: compiles a .cu file with the nvcc of this project's .venv (script/bootstrap cuda), else that on
# the path, and GCC under it. Any warning is an error. Exits with 77 where there is none.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
nvcc=$(compgen -G "$here/../../.venv/lib/python3*/site-packages/nvidia/cu*/bin/nvcc" | head -n 1 || true)
[[ -n $nvcc ]] || nvcc=$(command -v nvcc) || exit 77
echo "$nvcc"
exec "$nvcc" -std=c++20 -ccbin "$(command -v g++)" -Werror all-warnings -Xcompiler -Wall,-Wextra -I"$1" "${@:4}" -c "$2" -o "$3"
