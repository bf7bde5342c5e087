"""Writes the seeds of the sniff target: corpus/sniff/*, what people have in place of the file that they meant."""

import io
import pathlib
import pickle
import struct
import tarfile
import zipfile


def archive(names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        for name in names:
            file.writestr(zipfile.ZipInfo(name), b"x")
    return buffer.getvalue()


def tar():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.addfile(tarfile.TarInfo("adapter_model.safetensors"), io.BytesIO())
    return buffer.getvalue()


def safetensors(name):
    header = f'{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}'.encode()
    return struct.pack("<Q", len(header)) + header + bytes(4)


seeds = {
    "git_lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 54560368\n",
    "html": b"<!DOCTYPE html><html><body>Access to model is restricted</body></html>",
    "xml": b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>',
    "server_text": b"Entry not found",
    "server_json": b'{"error":"Repository not found"}',
    "pytorch": archive(["archive/data.pkl", "archive/data/0"]),
    "npz": archive(["a.npy"]),
    "zip": archive(["a.txt"]),
    "pickle": pickle.dumps({"a": 1}, protocol=2),
    "tar": tar(),
    "ggla": b"algg" + struct.pack("<III", 1, 8, 16),
    "ggjt": b"tjgg" + struct.pack("<I", 3),
    "gguf": b"GGUF" + struct.pack("<IQQ", 3, 0, 0),
    "numpy": b"\x93NUMPY\1\0v\0{'descr': '<f4'}",
    "gzip": b"\x1f\x8b\x08\0",
    "zstd": b"\x28\xb5\x2f\xfd",
    "zeros": bytes(64),
    "peft": safetensors("base_model.model.layers.0.q.lora_A.weight"),
    "kohya": safetensors("lora_unet_down_blocks_0.lora_down.weight"),
    "native": safetensors("tiedlora"),
    "escapes": "a\x1b[2J\u0085\u202e\u2028b".encode() + b"\xff\xc0\xaf",
}
folder = pathlib.Path(__file__).parent / "corpus/sniff"
folder.mkdir(parents=True, exist_ok=True)
for name, content in seeds.items():
    (folder / name).write_bytes(content)
