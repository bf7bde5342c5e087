#!/usr/bin/env python3
"""Stands in for finetune in the tests: writes what finetune writes, of losses that are a function of the options, and a
line into calls.log beside the model for each start, and where it is stopped. While there is a file `hold` beside the
model, training does not end; while there is `linger`, one that is stopped does not."""

import hashlib
import json
import math
import os
import pathlib
import signal
import sys
import time

command = sys.argv[1]
options = {}
for word in sys.argv[2:]:
    if word.startswith("--"):
        name = word[2:]
        options[name] = []
    else:
        options[name].append(word)
of = lambda name, default="0": options.get(name, [default])[0]
stub = pathlib.Path(of("model")).parent


def log(text):
    with open(stub / "calls.log", "a") as file:
        file.write(text + "\n")


def loss(settings):
    """Best at a rate of 0.02 and b_rate of 0.02; lower for larger ranks; some noise by seed."""
    rate, b_rate = float(settings["rate"]), float(settings.get("b-rate", settings["rate"]))
    noise = int(hashlib.sha256(settings["seed"].encode()).hexdigest(), 16) % 100 / 1e4
    miss = math.log10(rate / 0.02) ** 2 + math.log10(b_rate / 0.02) ** 2
    return 2.0 + 0.1 * miss + noise - 0.02 * math.log2(int(settings["rank"]))


if told := [name for name in os.environ if name.startswith(("OMPI_", "PMI"))]:
    sys.exit(f"is one of several processes: {told}")
if command == "train":
    out = pathlib.Path(of("out"))
    settings = {name: of(name) for name in ("scheme", "rank", "seed", "steps")} | {"rate": of("rate", "0.05")}
    settings |= {name: of(name) for name in ("b-rate", "uv-rate") if name in options}
    is_probe = settings["steps"] == "2"
    log(f"{'probe' if is_probe else 'train'} {out.name}")
    out.mkdir(parents=True, exist_ok=True)
    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(True))
    checkpoint = out / "checkpoint.safetensors"
    step = int(checkpoint.read_text()) if checkpoint.exists() else 0
    while (step < 5 or (stub / "hold").exists() and not is_probe) and not stopped:
        time.sleep(0.01)
        step += 1
        checkpoint.write_text(str(step))
    if stopped:
        while (stub / "linger").exists():
            time.sleep(0.01)
        log(f"stop {out.name}")
        sys.exit(130)
    if (stub / "broken").exists():
        sys.exit("there is no such thing")
    if (stub / "warned").exists() and not is_probe:
        print("Warning: the loss is no longer finite or has exploded after 3 steps. What follows is the adapter of step 2")
        sys.exit("No space left on device")
    if float(settings["rate"]) > 0.5:
        print("Error: the loss is no longer finite or has exploded after 3 steps; no adapter was written")
        sys.exit(1)
    (out / "adapter.safetensors").write_text(json.dumps(settings, sort_keys=True))
    (out / "metrics.csv").write_text("step\n")
    (out / "peft").mkdir(exist_ok=True)
    rank = int(settings["rank"])
    odd = [value for name, value in (("nan", math.nan), ("null", None)) if (stub / name).exists()]
    (out / "run.json").write_text(json.dumps({
        "base": {"types": "stub", "name": "stub"},
        "data": {"training_examples": 3, "tokens": 30, "counted_tokens": 20},
        "adapter": {"trained_numbers": (1000 if settings["scheme"] == "lora" else 100) * rank, "frozen_numbers": 0},
        "training": {**{name: float(settings.get(name.replace("_", "-"), settings["rate"])) for name in ("rate", "uv_rate", "b_rate")},
                     "best_step": 4, "steps": int(settings["steps"]), "kernels": "stub"},
        "validation_loss_before": 2.5,
        "validation_loss": odd[0] if odd and not is_probe else loss(settings),
    }))  # fmt: skip
else:
    adapter = pathlib.Path(of("adapter"))
    log(f"eval {adapter.parent.name}" if "adapter" in options else f"base {pathlib.Path(of('data')).parent.name}")
    print(f"4 examples from 1 file\n{'':40} nats/token perplexity")
    if "no-base" not in options:
        print(f"{'base':<40} {2.6:>12.5f} {math.exp(2.6):>12.4f}")
    if "adapter" in options:
        value = loss(json.loads(adapter.read_text())) + 0.05
        print(f"{str(adapter):<40} {value:>12.5f} {math.exp(value):>12.4f}")
