"""Asks llama.cpp, from the Python package xllamacpp, with an adapter: ask_llama_cpp.py MODEL.gguf ADAPTER.gguf DATA.jsonl

It answers the first three prompts of the data, always the most likely token, as finetune generate does. The answers may part
where two tokens are about as likely: llama.cpp rounds activations to bytes.
"""

import itertools
import json
import sys

import xllamacpp


def main():
    model, adapter, data = sys.argv[1:]
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(adapter, 1.0)]
    params.n_ctx, params.n_parallel, params.n_gpu_layers = 1024, 1, 0
    params.warmup = params.fit_params = False
    params.verbosity = 0
    server = xllamacpp.Server(params)
    with open(data, encoding="utf-8") as lines:
        for line in itertools.islice(lines, 3):
            prompt = json.loads(line)["prompt"]
            reply = server.handle_chat_completions({"messages": [{"role": "user", "content": prompt}], "temperature": 0.0,
                                                    "max_tokens": 60})
            reply = json.loads(reply) if isinstance(reply, (str, bytes)) else reply
            print(reply["choices"][0]["message"]["content"])


if __name__ == "__main__":
    main()
