#!/usr/bin/env python3
"""Writes native files of format version 1 into native/, from the format's description alone; --check compares.

Each is there without a checksum, as the first version wrote them, and with one (NAME_checksum).
Number i of every array is (i + 1) / 8, negative where i is odd: exact in all four types. With --check the files must also
open in the real safetensors, with these values. tests/io/native/golden_test.cpp loads each and saves it again: the bytes of the one with a checksum.
Needs safetensors, numpy and torch for --check, nothing else for writing.
"""

import json
import pathlib
import struct
import sys

FOLDER = pathlib.Path(__file__).resolve().parent / "native"
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


def number(i):
    return (i + 1) / 8 * (-1 if i % 2 else 1)


def encode(dtype, count):
    numbers = [number(i) for i in range(count)]
    if dtype == "BF16":
        return b"".join(struct.pack("<f", x)[2:] for x in numbers)
    return struct.pack(f"<{count}{ {'F64': 'd', 'F32': 'f', 'F16': 'e'}[dtype] }", *numbers)


def compact(value):
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def factor(layers, across, trained, kind, value=0.0, key=0):
    return {"layers": layers, "across": across, "trained": trained,
            "init": {"kind": kind, "value": float(value), "key": key}}


def module(name, layer, kind, inputs, outputs, **more):
    return {"name": name, "layer": layer, "kind": kind, "in_features": inputs, "out_features": outputs, **more}


def q_and_v(**more):
    """Two layers of q 4 -> 6 and v 4 -> 2, which read one x."""
    return [module(f"layers.{layer}.{kind}", layer, kind, 4, out, input="x", **more)
            for layer in range(2) for kind, out in (("q", 6), ("v", 2))]


def metadata(scheme, rank, modules, scaling=1.0, seeded=(), base_model="", **more):
    return {"format_version": 1, "base_model": base_model, "scheme": scheme, "rank": rank, "scaling": scaling,
            "seeded": list(seeded), "modules": modules, **more}


def xxh64(data):
    """XXH64 with seed 0, from its specification (github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md)."""
    p1, p2, p3, p4, p5 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63,
                          0x27D4EB2F165667C5)
    mask = 2**64 - 1

    def rotate(x, n):
        return (x << n | x >> 64 - n) & mask

    def mix(sum_, lane):
        return rotate((sum_ + lane * p2) & mask, 31) * p1 & mask

    at = 0
    if len(data) >= 32:
        sums = [(p1 + p2) & mask, p2, 0, -p1 & mask]
        while at + 32 <= len(data):
            sums = [mix(s, lane) for s, lane in zip(sums, struct.unpack_from("<4Q", data, at))]
            at += 32
        h = sum(rotate(s, n) for s, n in zip(sums, (1, 7, 12, 18))) & mask
        for s in sums:
            h = ((h ^ mix(0, s)) * p1 + p4) & mask
    else:
        h = p5
    h = (h + len(data)) & mask
    while at + 8 <= len(data):
        h = (rotate(h ^ mix(0, struct.unpack_from("<Q", data, at)[0]), 27) * p1 + p4) & mask
        at += 8
    if at + 4 <= len(data):
        h = (rotate(h ^ struct.unpack_from("<I", data, at)[0] * p1 & mask, 23) * p2 + p3) & mask
        at += 4
    for byte in data[at:]:
        h = rotate(h ^ byte * p5 & mask, 11) * p1 & mask
    h = (h ^ h >> 33) * p2 & mask
    h = (h ^ h >> 29) * p3 & mask
    return h ^ h >> 32


def file(dtype, description, trainable, frozen, checkpoint=None, checksum=False):
    """The arrays at multiples of 64, padding between them."""
    arrays = [("trainable", trainable), ("frozen", frozen)]
    texts = {"tiedlora": compact(description)}
    if checkpoint:
        arrays += [("optimizer.first_moment", trainable), ("optimizer.second_moment", trainable)]
        texts["tiedlora_checkpoint"] = compact(checkpoint)
    header, data, paddings = {"__metadata__": texts}, b"", 0
    for name, count in arrays:
        if len(data) % 64:
            fill = 64 - len(data) % 64
            header[f"padding.{paddings}"] = {"dtype": "U8", "shape": [fill],
                                             "data_offsets": [len(data), len(data) + fill]}
            data += bytes(fill)
            paddings += 1
        end = len(data) + count * SIZES[dtype]
        header[name] = {"dtype": dtype, "shape": [count], "data_offsets": [len(data), end]}
        data += encode(dtype, count)
    if checksum:
        texts["tiedlora_checksum"] = f"{xxh64(''.join(texts.values()).encode() + data):016x}"
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % 64)
    return struct.pack("<Q", len(text)) + text + data


def files():
    assert (xxh64(b""), xxh64(b"abc")) == (0xEF46DB3751D8E999, 0x44BC2CF5AD770999)
    for name, arguments in descriptions():
        yield name, file(*arguments)
        yield name + "_checksum", file(*arguments, checksum=True)


def descriptions():
    kaiming = 3 ** -0.5
    tied = {"A": factor("all", "input", True, "kaiming", kaiming), "B": factor("all", "kind", True, "constant"),
            "u": factor(1, "input", True, "constant", 1), "v": factor(1, "module", True, "constant", 1)}
    # A 2x4, B 2x6 and 2x2, v 6 + 2 twice, u 2 twice
    yield "tied_lora", ("F32", metadata(tied, 2, q_and_v(), 0.5, base_model="some/mödel", seed=2**64 - 1), 44, 0)

    lora = {"A": factor(1, "module", True, "kaiming", kaiming), "B": factor(1, "module", True, "constant")}
    modules = q_and_v() + [module("lm_head", -1, "lm_head", 4, 3)]
    modules[1] |= {"rank": 1, "scaling": 0.1}
    modules[2] |= {"rank": 0}
    # q 2 x (4 + 6), v 1 x (4 + 2), none, v 2 x (4 + 2), lm_head 2 x (4 + 3)
    yield "lora_patterns", ("F16", metadata(lora, 2, modules, 2.0), 20 + 6 + 12 + 14, 0)

    frozen = factor("all", "model", False, "torch_vera", key=7)
    vera = {"A": frozen, "B": frozen, "u": factor(1, "module", True, "constant", 0.1),
            "v": factor(1, "module", True, "constant")}
    yield "vera_seeded", ("BF16", metadata(vera, 3, q_and_v(), seeded=["A", "B"]), 16 + 12, 0)

    lora_fa = {"A": factor(2, "kind", False, "kaiming", kaiming), "B": factor(1, "module", True, "constant")}
    ones = {"A": 1.0, "B": 1.0, "u": 1.0, "v": 1.0}
    checkpoint = {"step": 12, "data": "epoch 3, \"line\" 4\n",
                  "optimizer": {"kind": "adamw", "step_count": 11, "learning_rate": 0.003, "rates": ones | {"u": 32.0},
                                "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.01,
                                "decays": ones | {"u": 0.0, "v": 0.0}}}
    # A 2x4 for q and for v, B 2x6 and 2x2 in both layers
    yield "checkpoint", ("F64", metadata(lora_fa, 2, q_and_v()), 32, 16, checkpoint)


def check(path, content):
    import safetensors

    problems = [] if path.exists() and path.read_bytes() == content else ["the file differs from what the script makes"]
    with safetensors.safe_open(path, framework="pt") as opened:
        for name in opened.keys():
            values = opened.get_tensor(name).double().tolist()
            expected = [0.0] * len(values) if name.startswith("padding") else [number(i) for i in range(len(values))]
            if values != expected:
                problems.append(f"safetensors reads other values in {name}")
    return problems


def main():
    failed = False
    for name, content in files():
        path = FOLDER / f"{name}.safetensors"
        if "--check" in sys.argv:
            problems = check(path, content)
            failed |= bool(problems)
            print(f"{'FAIL' if problems else 'ok  '} native/{path.name}: {'; '.join(problems) or 'opens in safetensors'}")
        else:
            FOLDER.mkdir(exist_ok=True)
            path.write_bytes(content)
            print(f"wrote native/{path.name} {len(content)} bytes")
    return failed


if __name__ == "__main__":
    sys.exit(main())
