"""A tiny LlamaForCausalLM of transformers: alone, with PEFT's LoRA and VeRA, and with adapters tied in PyTorch.

Names in the files (L is the layer, K the kind: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj)

    tokens, targets               (sequences, tokens); targets[s][t] is what follows tokens[s][t], -1 is not counted
    logits                        (sequences, tokens, vocabulary)
    loss                          mean cross entropy over the counted targets, in nats
    model.layers.L.self_attn.q_proj.weight, ...     the base model's weights, Linear as (out, in)
    adapter.A...  (r, in)    adapter.B...  (out, r)    adapter.u...  (r)    adapter.v...  (out)
    grad.X                        the loss's derivative with respect to the tensor X

An adapter's tensor carries the layer and the module only where it is not shared:

    lora       adapter.A.L.K               adapter.B.L.K
    vera       adapter.A                   adapter.B           adapter.u.L.K             adapter.v.L.K
    tl6        adapter.A.INPUT             adapter.B.K         adapter.u.L.INPUT         adapter.v.L.K
    tl6_fused  adapter.A.qkv_proj          adapter.B.qkv_proj  adapter.u.L.qkv_proj      adapter.v.L.qkv_proj

INPUT is attn_input (read by q, k, v), o_proj, mlp_input (read by gate, up) or down_proj. In vera a module takes the
first `in` columns of A and the first `out` rows of B. The adapters stand on the base model of llama_tied.golden (its
weights, tokens and targets are not repeated); in tl6_fused q, k, v are one Linear with the rows [q; k; v].
Rotary embedding as in transformers: dimension i turns with i + head_dim/2 by the angle position * theta^(-2i/head_dim).
"""

import peft
import torch
import transformers
from torch import nn

from golden_file import Dice, GoldenFile

SEED = 20
LAYERS, HIDDEN, FEED_FORWARD, VOCABULARY = 3, 16, 24, 41
SEQUENCES, TOKENS = 2, 7
KINDS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
INPUT_OF = {
    "q_proj": "attn_input",
    "k_proj": "attn_input",
    "v_proj": "attn_input",
    "o_proj": "o_proj",
    "gate_proj": "mlp_input",
    "up_proj": "mlp_input",
    "down_proj": "down_proj",
    "qkv_proj": "qkv_proj",
}
# Seven linears a layer, each a sum over at most FEED_FORWARD terms, forward and backward.
OPERATIONS = 2 * LAYERS * len(KINDS) * FEED_FORWARD


def make_config(tied):
    return transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=FEED_FORWARD,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=tied,
        attention_bias=False,
        mlp_bias=False,
        attn_implementation="eager",
    )


def make_model(tied):
    """The model, with weights that keep activations near 1 and norm weights that are not 1."""
    model = transformers.LlamaForCausalLM(make_config(tied)).float().train()
    dice = Dice(SEED)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1:
                weight.copy_(dice.uniform(weight.shape, 0.5, 1.5))
            elif "embed_tokens" in name or "lm_head" in name:
                weight.copy_(dice.uniform(weight.shape, -0.75, 0.75))
            else:
                bound = (3.0 / weight.shape[1]) ** 0.5  # variance 1/in
                weight.copy_(dice.uniform(weight.shape, -bound, bound))
    return model


def make_text():
    """Tokens and targets, both (SEQUENCES, TOKENS); -100 marks the targets that are not counted."""
    text = Dice(SEED + 1).integers((SEQUENCES, TOKENS + 1), VOCABULARY)
    tokens, targets = text[:, :-1].contiguous(), text[:, 1:].clone()
    targets[0, 0] = targets[1, 3] = targets[1, 6] = -100
    return tokens, targets


def run(model):
    """Logits and loss; leaves the gradients in the parameters. The targets are shifted already."""
    tokens, targets = make_text()
    output = model(input_ids=tokens, labels=targets, shift_labels=targets, use_cache=False)
    by_hand = nn.functional.cross_entropy(output.logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
    assert abs(output.loss.item() - by_hand.item()) < 1e-6, "transformers shifted the targets again"
    output.loss.backward()
    return output.logits, output.loss


def add_result(golden, model, trained):
    """Adds logits, loss, and every trained tensor (name -> parameter) with its gradient."""
    logits, loss = run(model)
    for name, parameter in trained.items():
        golden.add(name, parameter, exact=True)
    golden.add("logits", logits)
    golden.add("loss", loss)
    for name, parameter in trained.items():
        assert parameter.grad.abs().max() > 0, f"{name} gets no gradient: the case tests nothing"
        golden.add(f"grad.{name}", parameter.grad)
    return golden


def llama(tied):
    name = "llama_tied" if tied else "llama_untied"
    golden = GoldenFile(f"{name}.golden", f"transformers.LlamaForCausalLM, float32, seed {SEED}.", OPERATIONS)
    model = make_model(tied)
    config = model.config
    for key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                "num_key_value_heads", "head_dim", "rms_norm_eps", "tie_word_embeddings"):  # fmt: skip
        golden.meta(f"config.{key}", getattr(config, key))
    golden.meta("config.rope_theta", config.rope_parameters["rope_theta"])
    tokens, targets = make_text()
    golden.add("tokens", tokens, exact=True)
    golden.add("targets", targets.where(targets >= 0, -1), exact=True)
    return add_result(golden, model, dict(model.named_parameters()))


def adapter_file(scheme, rank, scaling, targets):
    title = f"An adapter on the model of llama_tied.golden, float32, seed {SEED}."
    golden = GoldenFile(f"{scheme}.golden", title, OPERATIONS)
    golden.meta("base", "llama_tied.golden")
    golden.meta("scheme", scheme)
    golden.meta("rank", rank)
    golden.meta("scaling", scaling)
    golden.meta("targets", " ".join(targets))
    return golden


def target_modules(model, kinds, layer_class):
    """(layer, kind, module) of every adapted module, in the model's order."""
    for name, module in model.named_modules():
        parts = name.split(".")
        if isinstance(module, layer_class) and parts[-1] in kinds:
            yield int(parts[parts.index("layers") + 1]), parts[-1], module


def lora():
    rank = 3
    model = peft.get_peft_model(make_model(tied=True), peft.LoraConfig(r=rank, lora_alpha=6, target_modules=KINDS))
    dice, trained, scaling = Dice(SEED + 2), {}, set()
    for layer, kind, module in target_modules(model, KINDS, peft.tuners.lora.Linear):
        trained[f"adapter.A.{layer}.{kind}"] = randomise(module.lora_A["default"].weight, dice, 0.5)
        trained[f"adapter.B.{layer}.{kind}"] = randomise(module.lora_B["default"].weight, dice, 0.25)
        scaling.add(module.scaling["default"])
    assert len(trained) == 2 * LAYERS * len(KINDS) and len(scaling) == 1
    return add_result(adapter_file("lora", rank, scaling.pop(), KINDS), model, trained)


def vera():
    rank, key, targets = 5, 1234, ["q_proj", "v_proj", "down_proj"]
    config = peft.VeraConfig(r=rank, projection_prng_key=key, target_modules=targets)
    model = peft.get_peft_model(make_model(tied=True), config)
    dice, trained = Dice(SEED + 3), {}
    for layer, kind, module in target_modules(model, targets, peft.tuners.vera.Linear):
        trained[f"adapter.u.{layer}.{kind}"] = randomise(module.vera_lambda_d["default"], dice, 1.0)
        trained[f"adapter.v.{layer}.{kind}"] = randomise(module.vera_lambda_b["default"], dice, 1.0)
    assert len(trained) == 2 * LAYERS * len(targets)
    golden = adapter_file("vera", rank, 1, targets)
    golden.meta("projection_prng_key", key)
    golden.add("adapter.A", model.base_model.vera_A["default"], exact=True)
    golden.add("adapter.B", model.base_model.vera_B["default"], exact=True)
    return add_result(golden, model, trained)


def randomise(parameter, dice, bound):
    with torch.no_grad():
        parameter.copy_(dice.uniform(parameter.shape, -bound, bound))
    return parameter


class TiedLinear(nn.Module):
    """y = W x + s v∘(B (u∘(A x))) with a frozen W and factors that belong to others too."""

    def __init__(self, base, A, B, u, v, scaling):
        super().__init__()
        self.base, self.A, self.B, self.u, self.v, self.scaling = base, A, B, u, v, scaling

    def forward(self, x):
        h = nn.functional.linear(x, self.A)
        return self.base(x) + self.scaling * self.v * nn.functional.linear(self.u * h, self.B)


class Rows(nn.Module):
    """Rows [begin, end) of a fused linear's output: what stands in for q_proj, k_proj and v_proj."""

    def __init__(self, fused, begin, end):
        super().__init__()
        self.fused, self.begin, self.end = fused, begin, end

    def forward(self, x):
        return self.fused(x)[..., self.begin : self.end]


def fuse_qkv(attention):
    parts = [attention.q_proj, attention.k_proj, attention.v_proj]
    fused = nn.Linear(HIDDEN, sum(part.out_features for part in parts), bias=False)
    fused.weight = nn.Parameter(torch.cat([part.weight.detach() for part in parts]))
    attention.qkv_proj = fused
    return [part.out_features for part in parts]


def tl6(fused):
    """A over all layers per input, B over all layers per kind, u per layer and input, v per module."""
    rank, scaling = 3, 1.5
    targets = ["qkv_proj"] if fused else KINDS
    model = make_model(tied=True)
    widths = [fuse_qkv(layer.self_attn) for layer in model.model.layers][0] if fused else []
    model.requires_grad_(False)

    dice, trained = Dice(SEED + (5 if fused else 4)), {}

    def factor(name, shape, low, high):
        if name not in trained:
            trained[name] = nn.Parameter(dice.uniform(shape, low, high))
        return trained[name]

    for layer, kind, base in list(target_modules(model, targets, nn.Linear)):
        source = INPUT_OF[kind]
        tied = TiedLinear(
            base,
            factor(f"adapter.A.{source}", (rank, base.in_features), -0.5, 0.5),
            factor(f"adapter.B.{kind}", (base.out_features, rank), -0.25, 0.25),
            factor(f"adapter.u.{layer}.{source}", (rank,), 0.25, 2.0),
            factor(f"adapter.v.{layer}.{kind}", (base.out_features,), -0.5, 2.0),
            scaling,
        )
        block = model.model.layers[layer]
        setattr(block.self_attn if hasattr(block.self_attn, kind) else block.mlp, kind, tied)
        if fused:
            ends = [sum(widths[: i + 1]) for i in range(3)]
            for name, width, end in zip(("q_proj", "k_proj", "v_proj"), widths, ends):
                setattr(block.self_attn, name, Rows(tied, end - width, end))
    # The files list the factors in the order A, B, u, v.
    trained = dict(sorted(trained.items(), key=lambda item: "ABuv".index(item[0].split(".")[1])))
    return add_result(adapter_file("tl6_fused" if fused else "tl6", rank, scaling, targets), model, trained)


def files():
    return [llama(tied=True), llama(tied=False), lora(), vera(), tl6(fused=False), tl6(fused=True)]


PACKAGES = (torch, transformers, peft)
