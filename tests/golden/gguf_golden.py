#!/usr/bin/env python3
"""Writes GGUF files into gguf/ with the Python package gguf; --check compares with what it makes now.

Adapters of q 4 -> 8 (2 heads of 4), k 4 -> 4 (1 head) and v 4 -> 4 in two layers, rank 2, alpha 2. Number i of tensor t (in
the order of the file, as transformers has the rows) is ((7 i + 31 t) mod 255 - 127) / 8: exact in all types. q8_0 has a rank
of 32, which its blocks ask for; its values are those that gguf dequantizes, also in q8_0_numbers as F32.
tests/io/gguf_golden_test.cpp loads the files and writes them again.
"""

import pathlib
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

FOLDER = pathlib.Path(__file__).resolve().parent / "gguf"
HEADS = {"q": 2, "k": 1}


def numbers(tensor, *shape):
    i = np.arange(np.prod(shape), dtype=np.int64)
    return (((7 * i + 31 * tensor) % 255 - 127) / 8).astype(np.float32).reshape(shape)


def permute(weight, heads):
    """As convert_hf_to_gguf.py does with q and k."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def to_bfloat16(array):
    return (array.view(np.uint32) >> 16).astype(np.uint16)


def add(writer, name, array, kind):
    if kind == Type.F16:
        writer.add_tensor(name, array.astype(np.float16))
    elif kind == Type.BF16:
        writer.add_tensor(name, to_bfloat16(array), raw_shape=array.shape, raw_dtype=kind)
    elif kind == Type.F32:
        writer.add_tensor(name, array)
    else:
        quantized = gguf.quants.quantize(array, kind)
        writer.add_tensor(name, quantized, raw_dtype=kind)


def adapter(path, kind, permuted=False, rank=2, inputs=4, outputs=(8, 4, 4), base_model=None, source=None):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(rank))
    if base_model:
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, base_model)
    tensor = 0
    for layer in range(2):
        for name, out in zip("qkv", outputs):
            for half, shape in (("a", (rank, inputs)), ("b", (out, rank))):
                array = numbers(tensor, *shape)
                if source:
                    array = gguf.quants.dequantize(gguf.quants.quantize(array, source), source)
                if permuted and half == "b" and name in HEADS:
                    array = permute(array, HEADS[name])
                add(writer, f"blk.{layer}.attn_{name}.weight.lora_{half}", array, kind)
                tensor += 1
    finish(writer)


def model(path):
    """Every type of value and of array, tensors of three types, another alignment."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(64)
    kinds = gguf.GGUFValueType
    for kind, value in ((kinds.UINT8, 200), (kinds.INT8, -100), (kinds.UINT16, 60000), (kinds.INT16, -30000),
                        (kinds.UINT32, 4000000000), (kinds.INT32, -2000000000), (kinds.FLOAT32, 0.5),
                        (kinds.BOOL, True), (kinds.UINT64, 2**64 - 1), (kinds.INT64, -(2**63)), (kinds.FLOAT64, 0.1)):
        writer.add_key_value(f"test.{kind.name.lower()}", value, kind)
        writer.add_key_value(f"test.array.{kind.name.lower()}", [value, value], kinds.ARRAY, sub_type=kind)
    writer.add_string("test.text", "mö\0del")
    writer.add_array("tokenizer.ggml.tokens", ["<s>", "", "Ġthe"])
    add(writer, "token_embd.weight", numbers(0, 3, 32), Type.Q8_0)
    add(writer, "blk.0.attn_norm.weight", numbers(1, 32), Type.F32)
    add(writer, "blk.0.attn_q.weight", numbers(2, 32, 32), Type.Q4_1)
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write(folder):
    folder.mkdir(exist_ok=True)
    adapter(folder / "llama_f32.gguf", Type.F32, base_model="some/mödel")
    adapter(folder / "llama_f16.gguf", Type.F16)
    adapter(folder / "llama_bf16.gguf", Type.BF16)
    adapter(folder / "llama_permuted.gguf", Type.F32, permuted=True)
    wide = {"rank": 32, "inputs": 32, "outputs": (8, 4, 4)}
    adapter(folder / "llama_q8_0.gguf", Type.Q8_0, **wide)
    adapter(folder / "llama_q8_0_numbers.gguf", Type.F32, source=Type.Q8_0, **wide)
    model(folder / "model.gguf")


def main():
    if "--check" not in sys.argv:
        write(FOLDER)
        for path in sorted(FOLDER.glob("*.gguf")):
            print(f"wrote gguf/{path.name} {path.stat().st_size} bytes")
        return False
    import tempfile

    failed = False
    with tempfile.TemporaryDirectory() as folder:
        write(pathlib.Path(folder))
        for path in sorted(pathlib.Path(folder).glob("*.gguf")):
            committed = FOLDER / path.name
            same = committed.exists() and committed.read_bytes() == path.read_bytes()
            failed |= not same
            print(f"{'ok  ' if same else 'FAIL'} gguf/{path.name}: {'as' if same else 'differs from what is'} made now")
    return failed


if __name__ == "__main__":
    sys.exit(main())
