"""script/study repeat KEY: one run of the study again, in PyTorch.

The same data in the same batches, the same first draws, the same schedule and AdamW; what is different is all that
computes: transformers' model and tokenizer, autograd, torch's optimiser, float32 for products. So the losses must agree
but for rounding, which training amplifies from step to step.
"""

import json
import math
import sys
import time

import results
import tasks
from plan import TARGETS

MASK = (1 << 64) - 1


# What finetune draws: SplitMix64 for the order of the examples, hashes of counters for the factors.
def mix(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def random_bits(key, counter):
    return mix(mix(key) ^ counter)


def uniform(key, count):
    """`count` numbers in [-1, 1)."""
    signed = lambda bits: bits - (1 << 64) if bits >> 63 else bits
    return [(signed(random_bits(key, i)) >> 11) * 2.0**-52 for i in range(count)]


def epoch_order(count, seed, epoch):
    state, order = (mix(seed) + epoch) & MASK, list(range(count))
    state = mix(state)
    for left in range(count, 1, -1):
        bits = mix(state)
        state = (state + 0x9E3779B97F4A7C15) & MASK
        order[left - 1], order[bits % left] = order[bits % left], order[left - 1]
    return order


def batches(examples, most, seed):
    """Without end: lists of examples that fill each batch up to `most` tokens; an example of n predicts n - 1."""
    epoch = 0
    while True:
        batch, filled = [], 0
        for i in epoch_order(len(examples), seed, epoch):
            length = len(examples[i][0]) - 1
            if batch and filled + length > most:
                yield batch
                batch, filled = [], 0
            batch.append(examples[i])
            filled += length
        yield batch
        epoch += 1


def rate_factor(step, steps, warm_up):
    """Linear to 1, then half a cosine down to a tenth."""
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    progress = min(1.0, (step - warm_up) / max(steps - 1 - warm_up, 1))
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress))


# For each scheme, factor by factor, what modules must have in common to share one copy: (layer, kind) to a key.
OWN = lambda layer, kind: (layer, kind)
LAYER = lambda layer, kind: layer
KIND = lambda layer, kind: kind
ALL = lambda layer, kind: 0
TIES = {
    "lora": {"A": OWN, "B": OWN},
    "lora_fused": {"A": LAYER, "B": OWN},
    "share_lora_a": {"A": KIND, "B": OWN},
    "tl5": {"A": ALL, "B": KIND},
    "tl6": {"A": ALL, "B": KIND, "u": LAYER, "v": OWN},
}


ONE_INPUT = {"q_proj", "k_proj", "v_proj"}  # which read the same x
SHARE_INPUT = ("lora_fused", "tl5", "tl6")  # an A for modules of several kinds


class Adapter:
    """The factors, and a hook for each module that adds s · v ∘ B(u ∘ A x)."""

    def __init__(self, torch, model, scheme, kinds, layers, rank, scaling, seed):
        """`kinds`: in the order of the model's modules."""
        ties, self.factors = TIES[scheme], {}
        self.enabled = True
        for layer, block in enumerate(model.model.layers):
            for kind in kinds if layer in layers else []:
                module = getattr(block.mlp if hasattr(block.mlp, kind) else block.self_attn, kind)
                shapes = {"A": (rank, module.in_features), "B": (module.out_features, rank), "u": (rank,),
                          "v": (module.out_features,)}  # fmt: skip
                own = {}
                for name, tie in ties.items():
                    of_name = self.factors.setdefault(name, {})
                    key = tie(layer, kind)
                    if key not in of_name:
                        if name == "A":  # the key of a copy has the factor's number and the copy's
                            values = uniform(random_bits(random_bits(seed, 0), len(of_name)), rank * module.in_features)
                            start = torch.tensor(values, dtype=torch.float64) / math.sqrt(module.in_features)
                            start = start.reshape(shapes["A"]).float()
                        else:
                            start = torch.zeros(shapes["B"]) if name == "B" else torch.ones(shapes[name])
                        of_name[key] = start.requires_grad_()
                    own[name] = of_name[key]
                module.register_forward_hook(self._hook(own, scaling))

    def _hook(self, own, scaling):
        def hook(module, inputs, output):
            if not self.enabled:
                return output
            h = inputs[0] @ own["A"].T
            y = (h * own["u"] if "u" in own else h) @ own["B"].T
            return output + scaling * (y * own["v"] if "v" in own else y)

        return hook

    def parameters(self, name=None):
        names = [name] if name else self.factors
        return [one for n in names for one in self.factors.get(n, {}).values()]


def split_digits(tokenizer):
    """What the file's pre-tokenizer, "smollm", does and transformers leaves out when it reads a GGUF file."""
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )


def read_examples(path, tokenizer, window):
    """[(tokens, first that counts)] of a file of prompts and completions, as the chat template renders them."""
    examples = []
    for line in path.read_text().splitlines():
        record = json.loads(line)
        question = [{"role": "user", "content": record["prompt"]}]
        answer = record["completion"].removeprefix(" ")
        whole = question + [{"role": "assistant", "content": answer}]
        render = lambda messages, **options: tokenizer.apply_chat_template(messages, tokenize=False, **options)
        before = len(render(question, add_generation_prompt=True))
        encoded = tokenizer(render(whole), add_special_tokens=False, return_offsets_mapping=True)
        tokens = encoded["input_ids"]
        first = next(i for i, (_, end) in enumerate(encoded["offset_mapping"]) if end > before)
        last = len(tokens) - 1 - tokens[::-1].index(tokenizer.eos_token_id)  # the line break after it does not count
        tokens = tokens[: last + 1][:window]
        if first < len(tokens):
            examples.append((tokens, first))
    return examples


def summed_loss(torch, model, examples):
    """(the sum over tokens that count, how many): sequences side by side, filled up at their ends, which is not seen."""
    width = max(len(tokens) for tokens, _ in examples) - 1
    inputs, targets = torch.zeros(len(examples), width, dtype=torch.long), torch.full((len(examples), width), -100)
    for row, (tokens, first) in enumerate(examples):
        inputs[row, : len(tokens) - 1] = torch.tensor(tokens[:-1])
        targets[row, first - 1 : len(tokens) - 1] = torch.tensor(tokens[first:])
    counted = targets != -100
    hidden = model.model(input_ids=inputs, use_cache=False).last_hidden_state
    loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[counted]), targets[counted], reduction="sum")
    return loss, int(counted.sum())


def mean_loss(torch, model, examples):
    total, count = 0.0, 0
    ordered = sorted(examples, key=lambda example: len(example[0]))
    with torch.no_grad():
        for i in range(0, len(ordered), 4):
            loss, counted = summed_loss(torch, model, ordered[i : i + 4])
            total, count = total + float(loss), count + counted
    return total / count


def what_trains(row, plan):
    """(finetune's scheme, the kinds of modules in their order, the layers or None for all) of a row."""
    train = plan.schemes[row["scheme"]].get("train", {})
    targets = train.get("targets", TARGETS[row["targets"]])
    kinds = [kind for kind in TARGETS["all"] if kind in targets]
    return train.get("scheme", row["scheme"]), kinds, train.get("layers")


def repeat(row, plan, data, model_path, threads):
    """Trains as the row says, and prints both results side by side."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    scheme, kinds, layers = what_trains(row, plan)
    of_one_input = scheme not in SHARE_INPUT or ONE_INPUT.issuperset(kinds)
    if scheme not in TIES or not of_one_input or data["train"].suffix != ".jsonl":
        sys.exit(f"Only runs with prompts and answers of {', '.join(TIES)} can be repeated in PyTorch; {', '.join(SHARE_INPUT)} on q, k and v alone")
    load = {"pretrained_model_name_or_path": model_path.parent, "gguf_file": model_path.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(**load)
    split_digits(tokenizer)
    model = transformers.AutoModelForCausalLM.from_pretrained(**load, dtype=torch.float32).requires_grad_(False)
    window = plan.tasks[row["task"]]["window"]
    examples = {part: read_examples(path, tokenizer, window) for part, path in data.items()}
    seed, steps = int(row["seed"]), plan.training["steps"]
    layers = layers or range(len(model.model.layers))
    adapter = Adapter(torch, model, scheme, kinds, layers, int(row["rank"]), plan.training["scaling"], seed)
    trained = sum(one.numel() for one in adapter.parameters())
    assert trained == int(row["trained"]), (trained, row["trained"])
    rates = {"A": row["rate"], "B": row["b_rate"] or row["rate"], "u": row["uv_rate"], "v": row["uv_rate"]}
    decays = {"A": plan.training["weight_decay"], "B": plan.training["weight_decay"], "u": 0.0, "v": 0.0}
    groups = [{"params": adapter.parameters(name), "lr": float(rates[name]), "weight_decay": decays[name]}
              for name in adapter.factors]  # fmt: skip
    optimizer = torch.optim.AdamW(groups)
    measured = {}
    adapter.enabled = False
    measured["select, the model alone"] = mean_loss(torch, model, examples["select"])
    if row["stage"] == "final":
        measured["test, the model alone"] = mean_loss(torch, model, examples["test"])
    adapter.enabled = True
    best, begin = (math.inf, 0, None), time.monotonic()
    feed = batches(examples["train"], plan.training["batch_tokens"], seed)
    warm_up, every = int(plan.training["warm_up"] * steps), steps // plan.training["evaluations"]
    for step in range(steps):
        for group, name in zip(optimizer.param_groups, adapter.factors):
            group["lr"] = float(rates[name]) * rate_factor(step, steps, warm_up)
        loss, counted = summed_loss(torch, model, next(feed))
        optimizer.zero_grad()
        (loss / counted).backward()
        torch.nn.utils.clip_grad_norm_(adapter.parameters(), plan.training["clip"])
        optimizer.step()
        left = (time.monotonic() - begin) / (step + 1) * (steps - step - 1)
        print(f"\r{step + 1} of {steps} steps, loss {loss.item() / counted:.4f}, about {left:.0f} s left ", end="", flush=True)
        if (step + 1) % every == 0:
            now = mean_loss(torch, model, examples["select"])
            if now < best[0]:
                best = (now, step + 1, [one.detach().clone() for one in adapter.parameters()])
    print()
    measured["select, best"] = best[0]
    if row["stage"] == "final":
        with torch.no_grad():
            for one, value in zip(adapter.parameters(), best[2]):
                one.copy_(value)
        measured["test"] = mean_loss(torch, model, examples["test"])
    theirs = {"select, the model alone": row["select_before"], "select, best": row["select_loss"],
              "test, the model alone": row["test_before"], "test": row["test_loss"]}  # fmt: skip
    print(f"{row['task']}, {row['scheme']} r={row['rank']}, seed {seed}; best after {row['best_step']} and {best[1]} steps")
    print(f"{'':26}{'finetune':>10}{'PyTorch':>10}{'difference':>12}")
    for name, value in measured.items():
        print(f"{name:26}{float(theirs[name]):10.4f}{value:10.4f}{value - float(theirs[name]):+12.4f}")


def command(options, plan, committed, model):
    """Of the work folder's results, or else of those in the folder `committed`."""
    paths = [folder / "results.csv" for folder in (options.work.resolve(), committed)]
    for path in paths:
        if found := [row for row in results.read(path).values() if options.key and row["key"].startswith(options.key)]:
            break
    if len(found) != 1:
        where = path if found else " and ".join(map(str, paths))
        sys.exit(f"{len(found) or 'No'} rows of {where} have a key that begins with \"{options.key}\"")
    if found[0]["status"] != "ok":
        sys.exit(f"The run {found[0]['key']} diverged: there is nothing to compare")
    if found[0]["task"] not in plan.tasks or int(found[0]["steps"]) > plan.training["steps"]:
        sys.exit(f"The run {found[0]['key']}, of {found[0]['steps']} steps on {found[0]['task']}, is not of the plan {options.plan}")
    folder = options.work.resolve() / "data" / found[0]["task"]
    data = {part: folder / f"{part}.{tasks.SUFFIX[found[0]['task']]}" for part in ("train", "select", "test")}
    if missing := [str(path) for path in data.values() if not path.is_file()]:
        sys.exit(f"{missing[0]} is not there; script/study run --work {options.work} makes the data first")
    repeat(found[0], plan, data, model, options.threads)
    return 0
