#!/usr/bin/env python3
"""From training here to PEFT and llama.cpp: finetune_interop.py PROGRAM, the built finetune.

A few steps of training; then PEFT on what finetune wrote for it, and llama.cpp on the GGUF files, give the same
log-probabilities of the next byte, without the adapter and with it.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers
import xllamacpp
from peft import PeftModel

import llama_cpp

TEXT = b"template <class T>\nclass vector {\n  T* begin_; // "
BEST = 20
failures = 0


def report(ok, text):
    global failures
    failures += not ok
    print(f"{'ok  ' if ok else 'FAIL'} {text}", flush=True)


def train(program, out):
    subprocess.run([program, "--smoke", "--steps", "30", "--schemes", "tl6", "--learning-rate", "tl6=0.03", "--export",
                    "peft,gguf", "--out", out, "--cache", out / "cache"], check=True, stdout=subprocess.DEVNULL)


def in_transformers(out, adapter):
    """Log-probabilities of the byte after TEXT, from transformers and PEFT."""
    model = transformers.LlamaForCausalLM.from_pretrained(out / "base", dtype=torch.float32)
    if adapter:
        model = PeftModel.from_pretrained(model, out / "adapters" / adapter)
    with torch.no_grad():
        logits = model(torch.tensor([list(TEXT)])).logits[0, -1]
    return torch.log_softmax(logits.double(), -1).numpy()


def in_llama_cpp(out, adapter):
    """The best of them and their tokens, from llama.cpp; the text goes through its tokenizer."""
    params = llama_cpp.parameters(out / "base.gguf", 256, adapter and out / "adapters" / f"{adapter}.gguf")
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    reply = xllamacpp.Server(params).handle_completions({
        "prompt": TEXT.decode(), "n_predict": 1, "temperature": 0.0, "n_probs": BEST, "cache_prompt": False, "ignore_eos": True})
    reply = json.loads(reply) if isinstance(reply, (str, bytes)) else reply
    return {best["id"]: best["logprob"] for best in reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]}


def main():
    with tempfile.TemporaryDirectory() as temporary:
        out = pathlib.Path(temporary)
        train(sys.argv[1], out)
        adapter = next((out / "adapters").glob("*.gguf")).stem
        base = in_transformers(out, None)
        for name in None, adapter:
            expected, seen = in_transformers(out, name), in_llama_cpp(out, name)
            furthest = max(abs(expected[token] - value) for token, value in seen.items())
            what = "with the adapter" if name else "without adapter"
            # Bytes are told apart by the tokenizer's table in the file: were it wrong, other tokens would be the best.
            same = set(seen) == set(np.argsort(-expected)[:BEST].tolist())
            report(same and furthest < 1e-3, f"{what}: llama.cpp within {furthest:.2g} of transformers and PEFT, same {BEST} bytes")
        moved = np.abs(in_transformers(out, adapter) - base).max()
        report(moved > 0.05, f"the adapter acts: {moved:.2g} from the base")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
