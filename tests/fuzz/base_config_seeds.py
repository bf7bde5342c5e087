"""Writes the seeds of the target base_config: the configs of the golden base models, and the GGUF files without tensor data."""

import pathlib

import gguf

here = pathlib.Path(__file__).parent
seeds = here / "corpus/base_config"
seeds.mkdir(parents=True, exist_ok=True)
for path in sorted((here.parent / "golden/base_model").glob("*/config.json")):
    (seeds / path.parent.name).write_bytes(path.read_bytes())
for path in sorted((here.parent / "golden/base_model").glob("*.gguf")):
    writer = gguf.GGUFWriter(seeds / path.name, path.stem)
    reader = gguf.GGUFReader(path)
    writer.arch = reader.get_field("general.architecture").contents()
    writer.kv_data[0].clear()
    for field in reader.fields.values():
        if not field.name.startswith("GGUF."):
            writer.add_key_value(field.name, field.contents(), field.types[0])
    # Sizes need the embedding's shape alone.
    writer.add_tensor("token_embd.weight", next(t.data[:1] for t in reader.tensors if t.name == "output_norm.weight").reshape(1, 1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
