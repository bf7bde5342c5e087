#!/usr/bin/env python3
"""Writes small models of the types that examples/llama reads into base_model/, and what transformers and PEFT compute with
them; --check compares with what it makes now.

    base_model/NAME/                  config.json, written as published models have it, and safetensors by save_pretrained
    base_model/NAME.gguf              the same model by the package gguf, as llama.cpp's converter writes it; mistral has none,
                                      being a Llama there
    base_model/NAME.safetensors       what is to come out, computed in float64 from the folder, rounded to float32:
        tokens, targets               (sequences, tokens); targets[s][t] is what follows tokens[s][t], -1 is not counted
        logits                        (sequences, tokens, vocabulary), with the adapter
        loss                          mean cross entropy over the counted targets, in nats; float64
        A.MODULE (r, in), B.MODULE (out, r)         PEFT's LoRA on all seven kinds of linear, scaling 2
        grad.A.MODULE, grad.B.MODULE                the loss's derivatives
"""

import json
import pathlib
import shutil
import sys
import tempfile
import warnings

import gguf
import numpy
import peft
import safetensors.torch
import torch
import transformers

from golden_file import Dice
from gguf_golden import permute, to_bfloat16

FOLDER = pathlib.Path(__file__).resolve().parent / "base_model"
KINDS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SEQUENCES, TOKENS, RANK = 2, 9, 2

SIZES = {
    "vocab_size": 61,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 256,
}
# By 500^(i/4) the four wavelengths are 6, 30, 140 and 664 tokens: one is left, one changed in part.
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 256}
MODELS = {
    "llama3": {"model_type": "llama", "tie_word_embeddings": True, "torch_dtype": "bfloat16", "rope_theta": 500.0,
               "rope_scaling": LLAMA3, "attention_bias": False, "mlp_bias": False, "max_position_embeddings": 2048},
    "linear": {"model_type": "llama", "tie_word_embeddings": False, "dtype": "float32", "head_dim": 12, "vocab_size": 41,
               "intermediate_size": 24,
               "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}},
    "mistral": {"model_type": "mistral", "tie_word_embeddings": False, "torch_dtype": "float16", "rope_theta": 1e6,
                "sliding_window": None},
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True, "torch_dtype": "bfloat16", "rope_theta": 1e6,
              "sliding_window": 32, "use_sliding_window": False, "max_window_layers": 2},
    "qwen3": {"model_type": "qwen3", "tie_word_embeddings": False, "torch_dtype": "bfloat16", "rope_theta": 1e6,
              "head_dim": 16, "attention_bias": False, "rope_scaling": None, "sliding_window": None,
              "use_sliding_window": False},
}
IN_SHARDS = {"mistral", "qwen3"}
GGUF_NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
              "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
              "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
              "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


def randomise(parameter, dice, low, high):
    with torch.no_grad():
        parameter.copy_(dice.uniform(parameter.shape, low, high))


def make_folder(folder, name, seed):
    """The model as published: activations near 1, norms and biases that do something."""
    config = {"architectures": None} | SIZES | MODELS[name]
    config["architectures"] = [config["model_type"].capitalize() + "ForCausalLM"]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(folder))
    dice = Dice(seed)
    for key, parameter in model.named_parameters():
        if key.endswith("norm.weight"):
            randomise(parameter, dice, 0.5, 1.5)
        elif key.endswith("bias"):
            randomise(parameter, dice, -1.0, 1.0)
        elif "embed_tokens" in key or "lm_head" in key:
            randomise(parameter, dice, -0.75, 0.75)
        else:
            bound = (3.0 / parameter.shape[1]) ** 0.5  # variance 1/in
            randomise(parameter, dice, -bound, bound)
    dtype = getattr(torch, config.get("dtype") or config["torch_dtype"])
    saved = folder / "saved"
    model.to(dtype).save_pretrained(saved, max_shard_size="24KB" if name in IN_SHARDS else "1GB")
    for path in saved.glob("model*.safetensors*"):
        path.rename(folder / path.name)
    shutil.rmtree(saved)


def compute(folder, seed):
    """What transformers and PEFT make of the folder."""
    base = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
    config = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=KINDS)
    model = peft.get_peft_model(base, config).double().train()
    dice, trained = Dice(seed + 1), {}
    for name, module in model.named_modules():
        if isinstance(module, peft.tuners.lora.Linear):
            assert module.scaling["default"] == 2
            module_name = name.removeprefix("base_model.model.")
            trained[f"A.{module_name}"] = module.lora_A["default"].weight
            trained[f"B.{module_name}"] = module.lora_B["default"].weight
    assert len(trained) == 2 * 2 * len(KINDS)
    for name, parameter in trained.items():
        randomise(parameter, dice, *((-0.5, 0.5) if name[0] == "A" else (-0.25, 0.25)))
    text = Dice(seed + 2).integers((SEQUENCES, TOKENS + 1), base.config.vocab_size)
    tokens, targets = text[:, :-1].contiguous(), text[:, 1:].clone()
    targets[0, 0] = targets[1, 3] = targets[1, 6] = -100
    logits = model(input_ids=tokens, use_cache=False).logits
    assert logits.dtype == torch.float64
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
    loss.backward()
    result = {"tokens": tokens, "targets": targets.where(targets >= 0, -1), "logits": logits.detach()}
    for name, parameter in trained.items():
        assert parameter.grad.abs().max() > 0, f"{name} gets no gradient: the case tests nothing"
        result |= {name: parameter.detach(), f"grad.{name}": parameter.grad}
    return {name: tensor.float() for name, tensor in result.items()} | {"loss": loss.detach().reshape(1)}


def gguf_name(name):
    """By transformers' name, as convert_hf_to_gguf.py has it."""
    for ours, theirs in (("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")):
        if name.startswith(ours + "."):
            return name.replace(ours, theirs)
    _, _, layer, module = name.split(".", 3)
    module, suffix = module.rsplit(".", 1)
    return f"blk.{layer}.{GGUF_NAMES[module]}.{suffix}"


def write_gguf(path, folder):
    config = SIZES | json.loads((folder / "config.json").read_text())
    architecture = config["model_type"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_width = config.get("head_dim", config["hidden_size"] // heads)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = rope.get("rope_theta", config.get("rope_theta"))
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(folder.name)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(theta)
    if "head_dim" in config:
        writer.add_key_length(head_width)
        writer.add_value_length(head_width)
    if architecture == "llama":
        writer.add_rope_dimension_count(head_width)
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope.get("rope_type") == "llama3":
        # Another way than examples/llama has: what transformers makes of the frequencies.
        made, _ = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](
            transformers.AutoConfig.from_pretrained(folder), "cpu")
        plain = theta ** -(torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)
        writer.add_tensor("rope_freqs.weight", (plain / made.double()).float().numpy())
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= safetensors.torch.load_file(file)
    for name, tensor in sorted(tensors.items()):
        array = tensor.float().numpy()
        if architecture == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            array = permute(array, heads if "q_proj" in name else kv_heads)
        if tensor.dim() == 1 or tensor.dtype == torch.float32:
            writer.add_tensor(gguf_name(name), numpy.ascontiguousarray(array))
        elif tensor.dtype == torch.float16:
            writer.add_tensor(gguf_name(name), array.astype(numpy.float16))
        else:
            bits = to_bfloat16(numpy.ascontiguousarray(array))
            writer.add_tensor(gguf_name(name), bits, raw_shape=array.shape, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write(folder):
    """Everything below the folder; the names of the files, sorted."""
    for seed, name in enumerate(MODELS):
        make_folder(folder / name, name, 100 + 10 * seed)
        result = compute(folder / name, 100 + 10 * seed)
        safetensors.torch.save_file(result, folder / f"{name}.safetensors")
        if name != "mistral":  # a Llama to llama.cpp
            write_gguf(folder / f"{name}.gguf", folder / name)
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def same(made, committed):
    """Inputs to the bit; what is computed within what float64 leaves after rounding to float32: an ulp of the largest."""
    if not committed.exists():
        return False
    if made.suffix != ".safetensors" or made.parent.name in MODELS:
        return made.read_bytes() == committed.read_bytes()
    ours, theirs = (safetensors.torch.load_file(path) for path in (made, committed))
    if ours.keys() != theirs.keys():
        return False
    for name, tensor in ours.items():
        tolerance = 1.2e-7 * tensor.abs().max() if name in ("logits", "loss") or name.startswith("grad.") else 0
        if tensor.shape != theirs[name].shape or (tensor - theirs[name]).abs().max() > tolerance:
            return False
    return True


def main():
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if "--check" not in sys.argv:
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir()
        for path in write(FOLDER):
            print(f"wrote base_model/{path} {(FOLDER / path).stat().st_size} bytes")
        return 0
    failures = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        for path in write(folder):
            agrees = same(folder / path, FOLDER / path)
            failures += not agrees
            print(f"{'ok  ' if agrees else 'FAIL'} base_model/{path}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
