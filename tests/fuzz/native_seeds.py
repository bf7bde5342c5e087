"""Writes the seeds of the targets native and native_metadata: the golden files of that format, and their JSON."""

import json
import pathlib
import struct

here = pathlib.Path(__file__).parent
for target in ("native", "native_metadata"):
    (here / "corpus" / target).mkdir(parents=True, exist_ok=True)
for path in sorted((here.parent / "golden/native").glob("*.safetensors")):
    content = path.read_bytes()
    (here / "corpus/native" / path.stem).write_bytes(content)
    if path.stem.endswith("_checksum"):
        continue  # the same JSON again
    (length,) = struct.unpack("<Q", content[:8])
    for key, text in json.loads(content[8 : 8 + length])["__metadata__"].items():
        (here / "corpus/native_metadata" / f"{path.stem}.{key}").write_text(text, encoding="utf-8")
