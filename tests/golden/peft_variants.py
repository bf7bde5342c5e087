"""Small models with the adapters that PEFT can make of them, in every variant that changes what is in the folder.

peft_golden.py writes them to golden/peft, tests/interop/peft_interop.py makes them again with other values.
"""

import peft
import torch
import transformers

import llama_golden
from golden_file import Dice


def llama():
    return llama_golden.make_model(tied=True)


def gpt2():
    """GPT-2, whose linear modules are Conv1D: their weights are in × out."""
    config = transformers.GPT2Config(
        vocab_size=29, n_positions=16, n_embd=12, n_layer=2, n_head=3, attn_implementation="eager"
    )
    model = transformers.GPT2LMHeadModel(config).float().train()
    dice = Dice(31)
    with torch.no_grad():
        for weight in model.parameters():
            bound = 0.5 if weight.dim() == 1 else (3.0 / weight.shape[0]) ** 0.5
            weight.copy_(dice.uniform(weight.shape, -bound, bound))
    return model


Q_V = ["q_proj", "v_proj"]
Q_V_DOWN = ["q_proj", "v_proj", "down_proj"]  # of different shapes
LORA, VERA = peft.LoraConfig, peft.VeraConfig

# name -> (model, dtype, config)
VARIANTS = {
    "lora": (llama, torch.float32, lambda: LORA(r=3, lora_alpha=6, target_modules=Q_V, task_type="CAUSAL_LM")),
    "lora_rslora_regex": (
        llama,
        torch.float32,
        lambda: LORA(r=4, lora_alpha=5, use_rslora=True, lora_dropout=0.25, init_lora_weights="gaussian",
                     target_modules=r"model\.layers\.\d+\.(self_attn|mlp)\.(k|up)_proj"),
    ),
    "lora_patterns": (
        llama,
        torch.float32,
        lambda: LORA(
            r=3, lora_alpha=6, target_modules=[*Q_V_DOWN, "gate_proj"],
            rank_pattern={"q_proj": 2, "model.layers.1.mlp.down_proj": 5, r"layers\.[02]\..*v_proj": 4},
            # Two keys match layer 2's q_proj, and "v.proj" is a pattern that matches v_proj.
            alpha_pattern={"^model.layers.2.self_attn.q_proj": 9, "q_proj": 4, "v.proj": 7, "down_proj|x": 0.5},
        ),
    ),
    "lora_patterns_rslora": (
        llama,
        torch.float32,
        lambda: LORA(r=2, lora_alpha=3, use_rslora=True, target_modules=Q_V, rank_pattern={"layers.1.self_attn.v_proj": 5},
                     alpha_pattern={r"layers\.(0|2)\.self_attn\.[a-q]+_proj": 10}, init_lora_weights=False),
    ),
    "lora_layers": (
        llama,
        torch.float32,
        lambda: LORA(r=2, lora_alpha=2, target_modules=["o_proj", "up_proj"], init_lora_weights="orthogonal",
                     layers_to_transform=[0, 2], layers_pattern="layers"),
    ),
    "lora_all_linear": (llama, torch.float32, lambda: LORA(r=1, lora_alpha=2, target_modules="all-linear")),
    "lora_exclude": (
        llama,
        torch.float32,
        lambda: LORA(r=2, target_modules="all-linear", exclude_modules=r".*\.mlp\..*|.*k_proj"),
    ),
    "lora_f16": (llama, torch.float16, lambda: LORA(r=2, lora_alpha=5, target_modules=Q_V)),
    "lora_bf16": (llama, torch.bfloat16, lambda: LORA(r=2, lora_alpha=5, target_modules=Q_V)),
    "lora_gpt2": (
        gpt2,
        torch.float32,
        lambda: LORA(r=3, lora_alpha=4, target_modules=["c_attn", "c_fc", "c_proj"], fan_in_fan_out=True),
    ),
    "vera": (llama, torch.float32, lambda: VERA(r=4, projection_prng_key=1234, target_modules=Q_V_DOWN)),
    "vera_seeded": (
        llama,
        torch.float32,
        lambda: VERA(r=5, projection_prng_key=77, save_projection=False, target_modules=Q_V_DOWN, d_initial=0.3),
    ),
    "vera_seeded_all_linear": (
        llama,
        torch.float32,
        lambda: VERA(r=3, projection_prng_key=2**40 + 3, save_projection=False, target_modules="all-linear"),
    ),
    "vera_layers": (
        llama,
        torch.float32,
        lambda: VERA(r=3, target_modules=["gate_proj", "down_proj"], layers_to_transform=1, vera_dropout=0.1),
    ),
    "vera_bf16": (llama, torch.bfloat16, lambda: VERA(r=4, projection_prng_key=5, target_modules=Q_V)),
    "vera_gpt2": (
        gpt2,
        torch.float32,
        lambda: VERA(r=3, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True),
    ),
}


def make(name, seed):
    """The variant's PeftModel, its adapter filled with values as training might leave them."""
    base, dtype, config = VARIANTS[name]
    model = peft.get_peft_model(base().to(dtype), config(), autocast_adapter_dtype=False)
    dice = Dice(seed)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key or "vera_lambda" in key:
                parameter.copy_(dice.uniform(parameter.shape, -1.0, 1.0))
    return model


def adapted(model):
    """(name, module) of every adapted module; the name is the one in the base model."""
    for name, module in model.named_modules():
        if isinstance(module, (peft.tuners.lora.LoraLayer, peft.tuners.vera.VeraLayer)) and hasattr(module, "base_layer"):
            yield name.removeprefix("base_model.model."), module


def deltas(model, inputs):
    """What every adapted module adds for the inputs (by in_features), computed by PEFT's forward in float32."""
    model = model.float().eval()
    result = {}
    with torch.no_grad():
        for name, module in adapted(model):
            for parameter in module.base_layer.parameters():
                parameter.zero_()
            result[name] = module(inputs[module.in_features])
    return result


def make_inputs(seed, tokens):
    dice = Dice(seed)
    return {width: dice.uniform((tokens, width), -1.0, 1.0) for width in (12, 16, 24, 48)}
