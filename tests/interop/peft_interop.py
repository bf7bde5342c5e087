#!/usr/bin/env python3
"""The real PEFT and this library on each other's folders: peft_interop.py PROGRAM, the built peft_interop.

PEFT saves every variant of tests/golden/peft_variants.py with fresh values, we load it and apply it to random input: the
same as PEFT's modules add. Then we save adapters of many schemes in every form, PEFT loads them: the same logits as
with our ΔW added to the weights. Everything that we write also opens in safetensors' own reader.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "golden"))

import peft
import safetensors.torch
import torch
import transformers

import llama_golden
import peft_variants

EPSILON = torch.finfo(torch.float32).eps
failures = 0


def report(name, error, tolerance):
    global failures
    ok = error <= tolerance
    failures += not ok
    print(f"{'ok  ' if ok else 'FAIL'} {name}: largest difference {error:.2g}, tolerance {tolerance:.2g}", flush=True)


def run(program, *arguments):
    subprocess.run([program, *map(str, arguments)], check=True)


def save_base(model, folder):
    model.save_pretrained(folder)
    return folder / "model.safetensors"


def theirs_here(program, folder):
    """PEFT saves, we load: each module adds what PEFT says."""
    inputs = peft_variants.make_inputs(seed=int.from_bytes(b"io"), tokens=5)
    safetensors.torch.save_file({f"x.{width}": x for width, x in inputs.items()}, folder / "inputs.safetensors")
    for number, (name, (base, _, _)) in enumerate(peft_variants.VARIANTS.items()):
        model = peft_variants.make(name, 1000 + number)
        model.save_pretrained(folder / name)
        weights = save_base(base(), folder / f"base.{base.__name__}")
        extra = ["conv1d"] if base is peft_variants.gpt2 else []
        run(program, "apply", folder / name, weights, folder / "inputs.safetensors", folder / "ours.safetensors", *extra)
        ours = safetensors.torch.load_file(folder / "ours.safetensors")
        theirs = peft_variants.deltas(model, inputs)
        assert ours.keys() == theirs.keys(), (name, ours.keys() ^ theirs.keys())
        scale = max(float(y.abs().max()) for y in theirs.values())
        # Sums of 48 and 5 products in two orders.
        report(f"PEFT -> here: {name}", max(float((ours[key] - theirs[key]).abs().max()) for key in ours),
               4 * (48 + 5) ** 0.5 * EPSILON * scale)


def logits(model):
    tokens, _ = llama_golden.make_text()
    with torch.no_grad():
        return model.eval()(input_ids=tokens, use_cache=False).logits


def ours_there(program, folder):
    """We save in every form, PEFT loads: the logits of the weights with ΔW added to them."""
    base = save_base(peft_variants.llama(), folder / "base")
    run(program, "write", base, folder)
    plain = logits(peft_variants.llama())
    for path in sorted(folder.glob("*/adapter_config.json")):
        name = path.parent.name
        merged = peft_variants.llama()
        with torch.no_grad():
            for module, delta in safetensors.torch.load_file(folder / f"{name.split('.')[0]}.delta.safetensors").items():
                merged.get_submodule(module).weight += delta
        expected = logits(merged)
        assert float((expected - plain).abs().max()) > 0.1, "the adapter does nothing: the case tests nothing"
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = peft.PeftModel.from_pretrained(peft_variants.llama(), path.parent)
        complaints = [str(w.message) for w in caught if "missing" in str(w.message).lower()
                      or "unexpected" in str(w.message).lower()]
        assert not complaints, (name, complaints)
        saved = safetensors.torch.load_file(path.parent / "adapter_model.safetensors")
        loaded = peft.get_peft_model_state_dict(model)
        assert saved.keys() == loaded.keys(), (name, saved.keys() ^ loaded.keys())
        assert all(torch.equal(saved[key].float(), loaded[key].float()) for key in saved), name
        # Three layers of seven linears, each with sums of at most 24 products. Where the file is coarser, its own rounding
        # of A and B, half an eps each, is all that counts.
        coarse = {"f16": torch.float16, "bf16": torch.bfloat16}.get(name.split(".")[1])
        relative = torch.finfo(coarse).eps if coarse else 4 * (3 * 7 * 24) ** 0.5 * EPSILON
        tolerance = relative * float(expected.abs().max())
        kind = json.loads(path.read_text())["peft_type"]
        size = sum(file.stat().st_size for file in path.parent.iterdir())
        report(f"here -> PEFT: {name} ({kind}, {size} bytes)",
               float((logits(model) - expected).abs().max()), tolerance)


def main():
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    program = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        (folder / "theirs").mkdir()
        (folder / "ours").mkdir()
        theirs_here(program, folder / "theirs")
        ours_there(program, folder / "ours")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
