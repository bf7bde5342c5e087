#!/usr/bin/env python3
"""Whether tests of the kernels can fail: each mistake below, made in a copy of their sources, is found by the
parity kit under the emulation, and the sources as they are pass."""
import argparse
import pathlib
import shutil
import subprocess
import sys

# What, in which file, instead of what.
MUTATIONS = [
    ("a barrier is missing before warps add up", "kernels/shrink_few.cuh", "  __syncthreads();\n  const int k = threadIdx.x",
     "  const int k = threadIdx.x"),
    ("a barrier is missing between ranks' shares", "kernels/expand_few.cuh", "  __syncthreads();\n  // A warp writes",
     "  // A warp writes"),
    ("a barrier is missing after the tensor cores", "kernels/shrink_many.cuh",
     "d[tile][n][e];\n  __syncthreads();", "d[tile][n][e];"),
    ("dh of one tile overwrites that of another", "kernels/outer_many.cuh",
     "sum;\n    }\n    __syncthreads();\n  }", "sum;\n    }\n  }"),
    ("B's stride is its width", "kernels/expand_few.cuh", "p.matrix + k * p.stride + i", "p.matrix + k * p.features + i"),
    ("the stride of gradients is M's", "kernels/outer_many.cuh", "gradient.matrix[k * gradient.stride + i]",
     "gradient.matrix[k * p.stride + i]"),
    ("the last features are lost", "kernels/shrink_many.cuh", "i = first + 8 * q, left = p.features - i",
     "i = first + 8 * q, left = (p.features - i) / 8 * 8"),
    ("the last tokens are lost", "kernels/outer_many.cuh", "t0 < end; t0 += tokens", "t0 + tokens <= end; t0 += tokens"),
    ("the tail is written beyond the row", "kernels/numbers.cuh", "if (i < count) to[i] =", "to[i] ="),
    ("two words of a fragment change places", "kernels/shrink_step.cuh",
     "words[half][p][1] = low[p][2 * half];\n        words[half][p][2] = up[p][2 * half + 1]",
     "words[half][p][2] = low[p][2 * half];\n        words[half][p][1] = up[p][2 * half + 1]"),
    ("columns of a fragment in another order", "kernels/expand_many.cuh", "first + 8 * (g / 2) + 2 * n + g % 2",
     "first + 8 * n + g"),
    ("tokens of a fragment in another order", "kernels/outer_many.cuh", "t = t0 + 4 * q + z;\n        numbers",
     "t = t0 + 2 * q + z % 2 + 8 * (z / 2);\n        numbers"),
    ("a piece of a float is lost", "kernels/pieces.cuh", "order = 2;", "order = 1;"),
    ("du forgets v", "kernels/gradient.cuh", "du += s[j] * mg", "du += mg"),
    ("16 bytes are loaded wherever they are", "kernels/numbers.cuh", "count >= 8 && is_aligned_to_16(from)", "count >= 8"),
    ("of modules with one A the last one's dh counts", "kernels/sum.cuh", "sum += dh", "sum = dh"),
    ("the last block does not wait for all", "kernels/product.cuh", "+ 1 == expected", "== 0"),
]


def build_and_run(arguments, folder):
    program = folder / "mutations"
    command = [arguments.compiler, "-std=c++20", "-O1", "-fno-strict-aliasing", "-Wno-unknown-pragmas",
               "-DTIEDLORA_EMULATE_CUDA", "-I", arguments.include, str(folder / "mutations.cpp"), "-o", str(program)]
    subprocess.run(command, check=True)
    return subprocess.run([program], capture_output=True, text=True, timeout=300)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--include", required=True, help="tiedlora's headers")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="a folder for the copies")
    parser.add_argument("--all", action="store_true", help="all of them; else every fourth, which takes a minute")
    arguments = parser.parse_args()
    here = pathlib.Path(__file__).parent
    chosen = MUTATIONS
    if not arguments.all:
        chosen = chosen[::4]
    wrong = []
    for number, mutation in enumerate([None] + chosen):
        folder = arguments.out / str(number)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(here, folder)
        if mutation:
            what, name, before, after = mutation
            text = (folder / name).read_text()
            if before not in text:
                sys.exit(f"{name} has no longer what is to be changed: {before!r}")
            (folder / name).write_text(text.replace(before, after))
        result = build_and_run(arguments, folder)
        found = result.returncode != 0
        print(f"{mutation[0] if mutation else 'as it is'}: {'found' if found else 'passes'}", flush=True)
        if found:
            print("    " + "\n    ".join(result.stdout.strip().splitlines()[:3]), flush=True)
        if found != bool(mutation):
            wrong.append(mutation[0] if mutation else "as it is")
        shutil.rmtree(folder)
    if wrong:
        sys.exit("wrong: " + ", ".join(wrong))


if __name__ == "__main__":
    main()
