"""The same training steps with PyTorch, transformers and PEFT: what compare.py compares train_step_bench with.

Runs as a process of its own, prints a JSON object like train_step_bench's. The base weights, the tokens and the targets
are those that train_step_bench exported, so that both begin with the same loss.
"""

import argparse
import json
import pathlib
import resource
import time

import numpy
import peft
import torch
import transformers


PRECISIONS = {"float32": torch.float32, "autocast": torch.float32, "bfloat16": torch.bfloat16}


def make_model(problem, folder, attention, dtype=torch.float32):
    config = transformers.LlamaConfig(
        vocab_size=problem["vocabulary"],
        hidden_size=problem["width"],
        intermediate_size=problem["feed_forward"],
        num_hidden_layers=problem["layers"],
        num_attention_heads=problem["heads"],
        num_key_value_heads=problem["kv_heads"],
        max_position_embeddings=problem["length"],
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": problem["rope_base"]},
        tie_word_embeddings=True,
        attn_implementation=attention,
        use_cache=False,
    )
    model = transformers.LlamaForCausalLM(config).to(dtype)
    parameters = dict(model.named_parameters())
    # Tensor by tensor, so that the process's peak is that of a step and not of reading.
    with torch.no_grad(), (folder / "weights.f32").open("rb") as file:
        for entry in json.loads((folder / "entries.json").read_text()):
            parameter = parameters.pop(entry["name"])
            numbers = numpy.fromfile(file, dtype=numpy.float32, count=parameter.numel())
            parameter.copy_(torch.from_numpy(numbers).view(parameter.shape))
        assert not parameters and not file.read(1), "the exported weights are those of another model"
    return model.train()


def read_text(problem, folder):
    shape = (problem["sequences"], problem["length"])
    read = lambda name: torch.from_numpy(numpy.fromfile(folder / name, dtype=numpy.int32)).long().view(shape)
    return read("tokens.i32"), read("targets.i32")


class Tied(torch.nn.Module):
    """y = W x + s v∘B(u∘A x): A and B are those of other layers' modules too, u that of all which read the same x."""

    def __init__(self, base, A, B, u, scaling):
        super().__init__()
        self.base, self.A, self.B, self.u, self.scaling = base, A, B, u, scaling
        self.v = torch.nn.Parameter(torch.ones(base.out_features))

    def forward(self, x):
        h = self.u * torch.nn.functional.linear(x.to(self.A.dtype), self.A)
        y = self.base(x)
        return y + (self.scaling * self.v * torch.nn.functional.linear(h, self.B)).to(y.dtype)


INPUTS = {"q": "attention", "k": "attention", "v": "attention", "o": "o", "gate": "mlp", "up": "mlp", "down": "down"}


def add_tl6(model, problem):
    """Tied-LoRA's TL6, which PEFT lacks, begun as the library begins it: B zero, u and v one."""
    A, B, rank = {}, {}, problem["rank"]
    for layer in model.model.layers:
        u = {}
        for block in (layer.self_attn, layer.mlp):
            for name, base in list(block.named_children()):
                if name not in problem["targets"]:
                    continue
                reads = INPUTS[name.removesuffix("_proj")]
                if reads not in A:
                    A[reads] = torch.nn.Parameter(torch.empty(rank, base.in_features))
                    torch.nn.init.kaiming_uniform_(A[reads], a=5**0.5)
                if name not in B:
                    B[name] = torch.nn.Parameter(torch.zeros(base.out_features, rank))
                if reads not in u:
                    u[reads] = torch.nn.Parameter(torch.ones(rank))
                setattr(block, name, Tied(base, A[reads], B[name], u[reads], 2))
    return model


class Step:
    """Forward, backward, AdamW. Without an adapter: forward, and backward down to the q, k and v of the lowest layer,
    which is as far as an adapter's backward goes. `checkpoint`: layers are computed again in backward."""

    def __init__(self, variant, model, problem, precision="float32", checkpoint=False):
        self.variant, self.optimizer, self.autocast = variant, None, precision == "autocast"
        model.requires_grad_(False)
        if checkpoint:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if variant == "none":
            attention = model.model.layers[0].self_attn
            for module in (attention.q_proj, attention.k_proj, attention.v_proj):
                module.register_forward_hook(lambda _module, _inputs, output: output.requires_grad_())
        else:
            if variant == "tl6":
                model = add_tl6(model, problem)
            else:
                model = peft.get_peft_model(model, self.adapter_config(problem))
            trained = [p for p in model.parameters() if p.requires_grad]
            self.optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0, fused=True)
        self.model = model

    def adapter_config(self, problem):
        targets = problem["targets"]
        if self.variant == "lora":
            return peft.LoraConfig(r=problem["rank"], lora_alpha=2 * problem["rank"], target_modules=targets)
        return peft.VeraConfig(r=problem["rank"], target_modules=targets)

    def forward(self, tokens, targets):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.autocast):
            return self.model(input_ids=tokens, labels=targets, shift_labels=targets).loss

    def run(self, tokens, targets):
        if self.optimizer:
            self.optimizer.zero_grad(set_to_none=True)
        loss = self.forward(tokens, targets)
        loss.backward()
        if self.optimizer:
            self.optimizer.step()
        return loss.item()

    def saved_bytes(self, tokens, targets):
        """Of the tensors that forward saves for backward: every storage once, without the model's own weights."""
        own = {p.untyped_storage().data_ptr() for p in self.model.state_dict().values()}
        saved = {}

        def note(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                saved[storage.data_ptr()] = (storage.nbytes(), tensor)  # kept, so that no address is used twice
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            self.forward(tokens, targets)
        return sum(count for count, _ in saved.values())

    def trained(self):
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--versions", action="store_true", help="print them and nothing else")
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("--problem", type=json.loads)
    parser.add_argument("--attention", choices=["eager", "sdpa"], default="sdpa")
    parser.add_argument("--variants", default="none,lora")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--warm-up", type=int, default=2, help="steps of each variant before")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--checkpoint", action="store_true")
    parser.add_argument("--no-saved", action="store_true", help="spare the forward that counts saved tensors")
    arguments = parser.parse_args()
    if arguments.versions:
        versions = {package.__name__: package.__version__ for package in (torch, transformers, peft)}
        return print(json.dumps(versions))
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    problem = arguments.problem
    text = read_text(problem, arguments.folder)
    steps = {}
    for variant in arguments.variants.split(","):
        model = make_model(problem, arguments.folder, arguments.attention, PRECISIONS[arguments.precision])
        steps[variant] = Step(variant, model, problem, arguments.precision, arguments.checkpoint)
    result = {}
    for variant, step in steps.items():
        saved = 0 if arguments.no_saved else step.saved_bytes(*text)
        loss = [step.run(*text) for _ in range(arguments.warm_up)][0]
        result[variant] = {"seconds": [], "loss": loss, "activation_bytes": saved, "trained": step.trained()}
    for _ in range(arguments.rounds):
        for variant, step in steps.items():
            begin = time.perf_counter()
            step.run(*text)
            result[variant]["seconds"].append(time.perf_counter() - begin)
    print(
        json.dumps(
            {
                "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "imports_rss_bytes": before,
                "variants": result,
            }
        )
    )


if __name__ == "__main__":
    main()
