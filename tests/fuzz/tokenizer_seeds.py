"""Writes the seeds of the target tokenizer: the golden tokenizers with the begin of their vocabularies, and the chat templates."""

import json
import pathlib

import gguf

here = pathlib.Path(__file__).parent
golden = here.parent / "golden/tokenizer"
seeds = here / "corpus/tokenizer"
seeds.mkdir(parents=True, exist_ok=True)
COUNT = 40  # tokens: libFuzzer's inputs are small

vocabularies = json.loads((golden / "vocabularies.json").read_text())
chat = json.loads((golden / "chat.json").read_text())
for name in ["gpt2", "llama2", "llama3", "metaspace", "mistral", "no_prefix", "qwen2", "smollm"]:
    about = json.loads((golden / f"{name}.json").read_text())
    vocabulary = vocabularies[about["vocabulary"]]
    tokens = vocabulary["tokens"][:COUNT]
    pairs = [[vocabulary["tokens"][i] for i in pair] for pair in vocabulary["merges"]]
    merges = [pair for pair in pairs if {*pair, "".join(pair)} <= set(tokens)]
    tokenizer = about["tokenizer"]
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["id"] < COUNT]
    tokenizer["model"].update(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)
    tokenizer["tokenizer_config"] = about["config"]
    (seeds / f"{name}.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    if "gguf" not in about:
        continue
    writer = gguf.GGUFWriter(seeds / f"{name}.gguf", "llama")
    add = {bool: writer.add_bool, str: writer.add_string, int: writer.add_uint32}
    for key, value in about["gguf"].items():
        add[type(value)](f"tokenizer.ggml.{key}", value)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token["special"] else 4 for token in tokenizer["added_tokens"]] + [1] * (COUNT - len(tokenizer["added_tokens"])))
    if about["vocabulary"] == "byte_level":
        writer.add_token_merges([" ".join(pair) for pair in merges] or ["a b"])
    else:
        writer.add_token_scores([-float(i) for i in range(COUNT)])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
for name, about in chat.items():
    if isinstance(about, dict) and "template" in about:
        (seeds / f"{name}.jinja").write_text(about["template"], encoding="utf-8")
