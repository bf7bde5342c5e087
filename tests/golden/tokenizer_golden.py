#!/usr/bin/env python3
"""Writes tokenizer/*.json: tokens as the package tokenizers and llama.cpp give them; --check compares with what it makes now.

--train first makes the two small vocabularies again, from the Python library and TEXTS. They merge across words, so that
a text that is cut at another place gives other tokens.

vocabularies.json has, by name, "tokens" in the order of their ids and "merges" as pairs of ids. NAME.json has

    vocabulary  the name of one
    tokenizer   the tokenizer.json without the model's "vocab" and "merges"
    config      the tokenizer_config.json
    gguf        the GGUF file's tokenizer.ggml.* beside tokens and merges; absent where llama.cpp has no such tokenizer
    plain       for each of TEXTS its tokens, where names of control tokens are text
    special     likewise where they count; null where that is the same
    words       the pre-tokenizer's cuts: bytes of each word; absent for SentencePiece
    decoded     what the plain tokens become again; null where it is the text
    llama_cpp_plain, llama_cpp_special   null where llama.cpp gives the same
"""

import json
import pathlib
import sys
import sysconfig
import tempfile

import gguf
import numpy
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import tokenizer_texts
from tokenizer_texts import TEXTS

FOLDER = pathlib.Path(__file__).resolve().parent / "tokenizer"
BLANK = "▁"
BEGIN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
END = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
NAMED = ["<think>", "</think>"]  # added tokens that are not control tokens


def split(count):
    return pre_tokenizers.Split(Regex(BEGIN + count + END), "isolated", False)


def byte_level(use_regex):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def metaspace(scheme, cut):
    return pre_tokenizers.Metaspace(BLANK, prepend_scheme=scheme, split=cut)


# The pre-tokenizers of the published files: name, (pre-tokenizer, GGUF's name).
BYTE_LEVEL = {
    "gpt2": (byte_level(True), "gpt-2"),
    "smollm": (pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level(True)]), "smollm"),
    "llama3": (pre_tokenizers.Sequence([split("{1,3}"), byte_level(False)]), "llama-bpe"),
    "qwen2": (pre_tokenizers.Sequence([split(""), byte_level(False)]), "qwen2"),
}


def library_text():
    folder = pathlib.Path(sysconfig.get_paths()["stdlib"])
    names = ["argparse", "ast", "calendar", "difflib", "heapq", "inspect", "random", "textwrap", "this", "typing"]
    return [line for name in names for line in (folder / f"{name}.py").read_text().splitlines(keepends=True)]


def number(tokens, merges):
    places = {token: i for i, token in enumerate(tokens)}
    return {"tokens": tokens, "merges": [[places[left], places[right]] for left, right in merges]}


def trained(pre_tokenizer, **options):
    """The tokens and merges of a BPE trained on the Python library and, eight times, TEXTS."""
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(show_progress=False, **options)
    model.train_from_iterator(library_text() + 8 * TEXTS, trainer)
    found = json.loads(model.to_str())["model"]
    return sorted(found["vocab"], key=found["vocab"].get), [tuple(merge) for merge in found["merges"]]


def train_byte_level():
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokens, merges = trained(byte_level(False), vocab_size=256 + 700, initial_alphabet=alphabet, max_token_length=8)
    return number(CONTROL + tokens + NAMED, merges)


def train_sentence_piece():
    """As Llama 2 has it: unknown, begin, end, bytes, then pieces by their score, all ways to merge them."""
    options = {"vocab_size": 620, "limit_alphabet": 160, "max_token_length": 10}
    tokens, merges = trained(metaspace("always", True), **options)
    made = [left + right for left, right in merges]
    head = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = head + made + [token for token in tokens if len(token) == 1]
    known, all_merges = set(tokens[len(head):]), []
    for piece in made:
        cuts = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
        all_merges += [(left, right) for left, right in cuts if left in known and right in known]
    return number(tokens + ["[INST]", "[/INST]"], all_merges)


def model_of(vocabulary, **options):
    tokens = vocabulary["tokens"]
    merges = [(tokens[left], tokens[right]) for left, right in vocabulary["merges"]]
    return models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges, **options)


def begin_with(name, token):
    return processors.TemplateProcessing(single=f"{name} $A", pair=f"{name} $A {name} $B", special_tokens=[(name, token)])


def subjects(vocabularies):
    """name, vocabulary, the tokenizer, tokenizer_config, GGUF's values or None"""
    for name, (pre_tokenizer, gguf_name) in BYTE_LEVEL.items():
        vocabulary = vocabularies["byte_level"]
        tokenizer = Tokenizer(model_of(vocabulary, ignore_merges=name == "llama3"))
        tokenizer.pre_tokenizer = pre_tokenizer
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens(CONTROL)
        tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in NAMED])
        values = {"model": "gpt2", "pre": gguf_name, "eos_token_id": CONTROL.index("<|im_end|>")}
        config = {"eos_token": "<|im_end|>", "bos_token": None}
        if name == "qwen2":
            tokenizer.normalizer = normalizers.NFC()
            values["add_bos_token"] = False
        if name == "llama3":
            tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False),
                                                            begin_with(CONTROL[0], 0)])
            values |= {"bos_token_id": 0, "add_bos_token": True}
            config = {"eos_token": {"content": "<|eot_id|>", "lstrip": False}, "bos_token": CONTROL[0]}
        yield name, "byte_level", tokenizer, config, values
    for name in ("llama2", "mistral", "metaspace", "no_prefix"):
        vocabulary = vocabularies["sentence_piece"]
        tokenizer = Tokenizer(model_of(vocabulary, byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
        ends = [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        replace = normalizers.Replace(" ", BLANK)
        values = {"model": "llama", "bos_token_id": 1, "eos_token_id": 2, "add_space_prefix": True}
        if name == "llama2":  # legacy
            tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(BLANK), replace])
        elif name == "mistral":  # not legacy
            tokenizer.pre_tokenizer = metaspace("first", False)
            values = None
        elif name == "metaspace":
            tokenizer.pre_tokenizer = metaspace("always", True)
            values = None
        else:
            tokenizer.normalizer = replace
            ends.pop()
            values |= {"add_space_prefix": False, "add_bos_token": False}
        tokenizer.decoder = decoders.Sequence(ends)
        tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in vocabulary["tokens"][:3]])
        if name != "no_prefix":
            tokenizer.post_processor = begin_with("<s>", 1)
        if name == "mistral":
            tokenizer.add_special_tokens(["[INST]", "[/INST]"])
            tokenizer.add_tokens([AddedToken("import", special=False, normalized=True, lstrip=True, rstrip=True)])
        yield name, "sentence_piece", tokenizer, {"bos_token": "<s>", "eos_token": "</s>"}, values


def without_vocabulary(tokenizer):
    description = json.loads(tokenizer.to_str())
    del description["model"]["vocab"], description["model"]["merges"]
    return description


def else_null(values, others):
    return [None if value == other else value for value, other in zip(values, others)]


def record(vocabulary, tokenizer, config, values, llama_cpp):
    def tokens(special):
        tokenizer.encode_special_tokens = not special
        return [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]

    plain, special = tokens(False), tokens(True)
    made = {"vocabulary": vocabulary, "tokenizer": without_vocabulary(tokenizer), "config": config}
    decoded = [tokenizer.decode(ids) for ids in plain]
    made |= {"plain": plain, "special": else_null(special, plain), "decoded": else_null(decoded, TEXTS)}
    if vocabulary == "byte_level":
        cut = tokenizer.pre_tokenizer.pre_tokenize_str
        made["words"] = [[len(word) for word, _ in cut(text)] for text in TEXTS]  # one character a byte
    if values:
        made["gguf"] = values
        made["llama_cpp_plain"] = else_null(llama_cpp(False), plain)
        made["llama_cpp_special"] = else_null(llama_cpp(True), special)
    return made


def kinds(tokens, vocabulary):
    """GGUF's types of tokens."""
    names = {"<unk>": 2, "<s>": 3, "</s>": 3} | dict.fromkeys(CONTROL, 3) | dict.fromkeys(NAMED, 4)
    is_byte = vocabulary == "sentence_piece"
    return [6 if is_byte and 3 <= i < 259 else names.get(token, 1) for i, token in enumerate(tokens)]


def write_gguf(path, name, vocabulary, values):
    """A model of nothing but its vocabulary, as far as llama.cpp loads that."""
    tokens, width = vocabulary["tokens"], 32
    writer = gguf.GGUFWriter(path, "llama")
    for add, value in ((writer.add_block_count, 1), (writer.add_context_length, 64), (writer.add_embedding_length, width),
                       (writer.add_feed_forward_length, width), (writer.add_head_count, 1), (writer.add_head_count_kv, 1),
                       (writer.add_layer_norm_rms_eps, 1e-5)):
        add(value)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds(tokens, name))
    if name == "byte_level":
        writer.add_token_merges([f"{tokens[left]} {tokens[right]}" for left, right in vocabulary["merges"]])
    else:
        writer.add_token_scores(scores(len(tokens)))
    for key, value in values.items():
        add = {str: writer.add_string, bool: writer.add_bool, int: writer.add_uint32}[type(value)]
        add(f"tokenizer.ggml.{key}", value)
    shapes = {"token_embd": (len(tokens), width), "output_norm": (width,), "blk.0.attn_norm": (width,), "blk.0.ffn_norm": (width,)}
    shapes |= {f"blk.0.{name}": (width, width) for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")}
    for tensor, shape in shapes.items():
        writer.add_tensor(f"{tensor}.weight", numpy.zeros(shape, numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def scores(count):
    return [0.0] * 259 + [float(259 - i) for i in range(259, count)]


def llama_cpp_tokens(vocabularies, vocabulary, values):
    """A function from `special` to llama.cpp's tokens of TEXTS."""
    sys.path.insert(0, str(FOLDER.parent.parent / "interop"))
    import urllib.request

    import llama_cpp
    import xllamacpp

    results = {}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.gguf"
        write_gguf(path, vocabulary, vocabularies[vocabulary], values)
        server = xllamacpp.Server(llama_cpp.parameters(path, 64))
        for special in (False, True):
            results[special] = []
            for text in TEXTS:
                body = json.dumps({"content": text, "add_special": False, "parse_special": special}).encode()
                request = urllib.request.Request(f"{server.listening_address}/tokenize", body, {"Content-Type": "application/json"})
                results[special].append(json.loads(urllib.request.urlopen(request).read())["tokens"])
    return results.__getitem__


def dump(value):
    """One line for each entry, and for each element of the outer lists."""
    def lines(entry):
        if isinstance(entry, list) and entry and isinstance(entry[0], (list, type(None))):
            return "[\n" + ",\n".join(compact(element) for element in entry) + "]"
        return compact(entry)

    compact = lambda entry: json.dumps(entry, ensure_ascii=False, separators=(",", ":"))
    return "{\n" + ",\n".join(f"{compact(key)}: {lines(entry)}" for key, entry in value.items()) + "}\n"


def made_by():
    import xllamacpp

    return f"tests/golden/tokenizer_golden.py with tokenizers {tokenizers.__version__}, xllamacpp {xllamacpp.__version__}"


def files():
    path = FOLDER / "vocabularies.json"
    if "--train" in sys.argv:
        made = {"byte_level": train_byte_level(), "sentence_piece": train_sentence_piece()}
        path.write_text(dump(made))
    vocabularies = json.loads(path.read_text())
    yield "texts.json", dump({"texts": [[text] for text in TEXTS]})
    for name, vocabulary, tokenizer, config, values in subjects(vocabularies):
        llama_cpp = llama_cpp_tokens(vocabularies, vocabulary, values) if values else None
        yield f"{name}.json", dump({"made_by": made_by()} | record(vocabulary, tokenizer, config, values, llama_cpp))


def main():
    failed = False
    for name, text in files():
        path = FOLDER / name
        if "--check" in sys.argv:
            same = path.exists() and path.read_text() == text
            failed |= not same
            print(f"{'ok  ' if same else 'FAIL'} tokenizer/{name}: {'as' if same else 'differs from what is'} made now")
        else:
            path.write_text(text)
            print(f"wrote tokenizer/{name} {path.stat().st_size} bytes")
    return failed


if __name__ == "__main__":
    sys.exit(main())
