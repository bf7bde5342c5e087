"""Writes the seeds of the safetensors target: corpus/safetensors/*."""

import json
import pathlib
import struct


def file(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


seeds = {
    "empty": file({}),
    "one": file({"a": tensor("F32", [2, 1], 0, 8)}, bytes(8)),
    "types": file(
        {
            "__metadata__": {"format": "pt", "more": "\u00fc"},
            "z": tensor("F64", [1], 0, 8),
            "a.weight": tensor("F32", [2, 2], 8, 24),
            "h": tensor("F16", [3], 24, 30),
            "b": tensor("BF16", [], 30, 32),
            "n": tensor("I64", [0, 4], 32, 32),
        },
        bytes(range(32)),
    ),
    "padded": file(b'  {"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}   ', b"\1"),
    "more_fields": file(b'{"a":{"x":[1,{"y":[]}],"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"\1"),
    "hole": file({"a": tensor("F32", [1], 0, 4), "b": tensor("F32", [1], 8, 12)}, bytes(12)),
    "overlap": file({"a": tensor("F32", [1], 0, 4), "b": tensor("F32", [1], 0, 4)}, bytes(4)),
    "overflow": file({"a": tensor("F32", [2**62, 4], 0, 4)}, bytes(4)),
    "huge_header": struct.pack("<Q", 2**63) + b"{}",
}
folder = pathlib.Path(__file__).parent / "corpus/safetensors"
folder.mkdir(parents=True, exist_ok=True)
for name, content in seeds.items():
    (folder / name).write_bytes(content)
