#!/usr/bin/env python3
"""Writes counts.json: config.json files as people and programs write them, and how many parameters PEFT's LoRA of rank 8 trains
on the models that transformers makes of them (on the meta device: nothing is allocated); --check computes them again and
compares.

"cases" has for each: name, config (the file), and counts: targets of count_parameters ("q", "gate_up", …) with the trainable
parameters. A model that transformers cannot make of the file has `error` instead: its config is wrong.
"""

import json
import pathlib
import sys
import warnings

import peft
import torch
import transformers

PATH = pathlib.Path(__file__).parent / "counts.json"
RANK = 8

# The modules behind count_parameters' targets: whole names in one layer.
LLAMA = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
         "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"}
ATTENTION = {target: LLAMA[target] for target in "qkvo"}
PLAIN = ATTENTION | {"up": "mlp.up_proj", "down": "mlp.down_proj"}
NEOX = {"qkv": "attention.query_key_value", "o": "attention.dense", "up": "mlp.dense_h_to_4h", "down": "mlp.dense_4h_to_h"}
BLOOM = NEOX | {"qkv": "self_attention.query_key_value", "o": "self_attention.dense"}
BERT = {"q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
        "o": "attention.output.dense", "up": "intermediate.dense", "down": "output.dense"}
GPT2 = {"qkv": "attn.c_attn", "o": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"}
GLM = ATTENTION | {"gate_up": "mlp.gate_up_proj", "down": "mlp.down_proj"}
MODULES = {
    "opt": {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.out_proj",
            "up": "fc1", "down": "fc2"},
    "gpt_neox": NEOX, "bloom": BLOOM, "falcon": BLOOM, "gpt2": GPT2, "gpt_bigcode": GPT2,
    "bert": BERT, "roberta": BERT, "xlm-roberta": BERT,
    "phi": ATTENTION | {"o": "self_attn.dense", "up": "mlp.fc1", "down": "mlp.fc2"},
    "phi3": {"qkv": "self_attn.qkv_proj", "o": "self_attn.o_proj", "gate_up": "mlp.gate_up_proj", "down": "mlp.down_proj"},
    "starcoder2": ATTENTION | {"up": "mlp.c_fc", "down": "mlp.c_proj"},
    "glm": GLM, "glm4": GLM, "nemotron": PLAIN, "arcee": PLAIN,
    "mixtral": ATTENTION, "qwen2_moe": ATTENTION, "qwen3_moe": ATTENTION, "olmoe": ATTENTION, "gpt_oss": ATTENTION,
    "llama4_text": ATTENTION, "granitemoe": ATTENTION, "phimoe": ATTENTION,
    "gptj": {"q": "attn.q_proj", "k": "attn.k_proj", "v": "attn.v_proj", "o": "attn.out_proj", "up": "mlp.fc_in",
             "down": "mlp.fc_out"},
    "codegen": {"qkv": "attn.qkv_proj", "o": "attn.out_proj", "up": "mlp.fc_in", "down": "mlp.fc_out"},
}
SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 160}
HEADS = SIZES | {"head_dim": 32}
USUAL = ("llama mistral qwen2 olmo olmo2 olmo3 granite smollm3 stablelm cohere cohere2 phi phi3 starcoder2 exaone4 nemotron arcee "
         "mixtral qwen2_moe olmoe granitemoe phimoe").split()
OWN_HEAD_SIZE = ("ministral ministral3 qwen3 gemma gemma2 gemma3_text glm glm4 seed_oss hunyuan_v1_dense ernie4_5 "
                 "qwen3_moe gpt_oss llama4_text").split()


def without(config, *keys):
    return {key: value for key, value in config.items() if key not in keys}


def configs():
    for model_type in USUAL + OWN_HEAD_SIZE:
        full = {"model_type": model_type} | (HEADS if model_type in OWN_HEAD_SIZE else SIZES)
        yield model_type, full
        if model_type in USUAL:
            yield model_type + ", head_dim", full | {"head_dim": 32}
        # What a file leaves out has the family's default, which is a number or follows from other sizes.
        yield model_type + ", sizes left out", {"model_type": model_type, "hidden_size": 6144, "num_hidden_layers": 2}
        yield model_type + ", num_key_value_heads left out", without(full, "num_key_value_heads") | {"num_attention_heads": 32}
        for key in ("num_key_value_heads", "head_dim"):
            yield f"{model_type}, {key} null", full | {key: None}
    old = without(SIZES, "num_key_value_heads")
    for model_type in ("gpt_neox", "bert", "roberta", "xlm-roberta"):
        yield model_type, {"model_type": model_type} | old
        yield model_type + ", sizes left out", {"model_type": model_type, "hidden_size": 768, "num_hidden_layers": 2}
    yield "opt", {"model_type": "opt", "ffn_dim": 256} | without(old, "intermediate_size")
    yield "opt, sizes left out", {"model_type": "opt", "hidden_size": 768, "num_hidden_layers": 2}
    for model_type in ("gpt2", "gptj", "codegen", "gpt_bigcode"):
        gpt = {"model_type": model_type, "n_embd": 96, "n_layer": 2, "n_head": 4}
        yield model_type, gpt
        yield model_type + ", n_inner", gpt | {"n_inner": 200}
        yield model_type + ", n_inner null", gpt | {"n_inner": None}
        yield model_type + ", the newer names", {"model_type": model_type, "hidden_size": 96, "num_hidden_layers": 2,
                                                 "num_attention_heads": 4}
    yield "gpt_bigcode, a head of k and v each", gpt | {"multi_query": False}
    yield "bloom", {"model_type": "bloom", "hidden_size": 96, "n_layer": 2, "n_head": 4}
    yield "bloom, as published", {"model_type": "bloom", "n_embed": 1024, "n_layer": 24, "num_attention_heads": 16, "n_inner": None}
    falcon = {"model_type": "falcon", "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    yield "falcon, one head of k and v", falcon
    yield "falcon, a head of k and v each", falcon | {"multi_query": False}
    new = falcon | {"new_decoder_architecture": True}
    yield "falcon, as published", {"model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32,
                                   "num_attention_heads": 71, "multi_query": True, "new_decoder_architecture": False}
    yield "falcon, new", new
    yield "falcon, new, grouped", new | {"num_kv_heads": 2}
    yield "falcon, new, ffn_hidden_size", new | {"num_kv_heads": 2, "ffn_hidden_size": 200}
    # Models that see: the language model is an object inside.
    yield "gemma3, as published", {
        "model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "vision_config": {"hidden_size": 1152},
        "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34}}
    yield "gemma3, type left out", {"model_type": "gemma3", "text_config": {"hidden_size": 256, "num_hidden_layers": 2}}
    yield "llama4, as published", {
        "model_type": "llama4", "text_config": {
            "model_type": "llama4_text", "hidden_size": 5120, "intermediate_size": 8192, "intermediate_size_mlp": 16384,
            "num_hidden_layers": 48, "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128,
            "num_local_experts": 16}}
    yield "phi-4", {"model_type": "phi3", "hidden_size": 5120, "intermediate_size": 17920, "num_hidden_layers": 40,
                    "num_attention_heads": 40, "num_key_value_heads": 10, "vocab_size": 100352, "pad_token_id": 1}
    yield "llava, almost all left out", {"model_type": "llava", "text_config": {"model_type": "llama", "vocab_size": 32064}}
    yield "llava, all left out", {"model_type": "llava", "text_config": {"vocab_size": 32064}}
    yield "mistral3", {"model_type": "mistral3", "text_config": {"model_type": "mistral"} | HEADS}
    yield "paligemma", {"model_type": "paligemma", "text_config": {"model_type": "gemma"} | HEADS}
    yield "qwen2_5_vl, sizes at the top", {"model_type": "qwen2_5_vl", "vision_config": {}} | SIZES
    yield "qwen2_5_vl, text_config", {"model_type": "qwen2_5_vl", "text_config": {"model_type": "qwen2_5_vl_text"} | SIZES}
    yield "qwen3_vl", {"model_type": "qwen3_vl", "text_config": {"model_type": "qwen3_vl_text"} | HEADS}


def counts(config):
    whole = transformers.CONFIG_MAPPING[config["model_type"]].from_dict(config)
    text = whole.get_text_config()
    modules = MODULES.get(text.model_type, LLAMA)
    # A vocabulary of its own size has no part in it.
    make = transformers.AutoModelForMaskedLM if modules is BERT else transformers.AutoModelForCausalLM
    if text.model_type.endswith("_vl_text"):
        make = transformers.AutoModel
    result = {}
    for target, module in modules.items():
        with torch.device("meta"):
            model = make.from_config(text)
            wanted = r".*\.\d+\." + module.replace(".", r"\.")  # of a layer: BERT has two that end in output.dense
            model = peft.get_peft_model(model, peft.LoraConfig(r=RANK, target_modules=wanted))
        result[target] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return result


def make():
    cases = []
    for name, config in configs():
        case = {"name": name, "config": config}
        try:
            case["counts"] = counts(json.loads(json.dumps(config)))
        except Exception:  # what transformers says of a wrong file is as various as files are
            case["error"] = True
        cases.append(case)
    lines = ",\n".join(json.dumps(case) for case in cases)
    made_by = f"tests/golden/counts_golden.py with transformers {transformers.__version__} and PEFT {peft.__version__}"
    return f'{{"made_by": {json.dumps(made_by)},\n"rank": {RANK},\n"cases": [\n{lines}\n]}}\n'


def main():
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    text = make()
    if "--check" not in sys.argv:
        PATH.write_text(text)
        print(f"wrote counts.json {PATH.stat().st_size} bytes")
        return False
    same = PATH.exists() and PATH.read_text() == text
    print(f"{'ok  ' if same else 'FAIL'} counts.json: {'as' if same else 'differs from what is'} made now")
    return not same


if __name__ == "__main__":
    sys.exit(main())
