#!/usr/bin/env python3
"""Writes folders of PEFT's save_pretrained into peft/, the Llama that most are for into peft_base.safetensors and what the
adapters compute into peft.golden; --check compares.

peft.golden: x.WIDTH (tokens, in) and VARIANT/MODULE (tokens, out), what that module adds to its output for x.
"""

import json
import pathlib
import shutil
import sys
import tempfile
import warnings

import peft
import safetensors.torch
import torch
import transformers

import golden_file
import peft_variants

HERE = pathlib.Path(__file__).resolve().parent
FOLDER = HERE / "peft"
FILES = ("adapter_config.json", "adapter_model.safetensors")


def make(folder):
    """Saves every variant below the folder; the golden file."""
    golden = golden_file.GoldenFile("peft.golden", "What the adapters in peft/ add to their modules' outputs.", 64)
    inputs = peft_variants.make_inputs(41, tokens=2)
    for width, x in inputs.items():
        golden.add(f"x.{width}", x, exact=True)
    for number, name in enumerate(peft_variants.VARIANTS):
        model = peft_variants.make(name, 50 + number)
        model.save_pretrained(folder / name)
        for module, y in peft_variants.deltas(model, inputs).items():
            golden.add(f"{name}/{module}", y)
    peft_variants.llama().save_pretrained(folder / "base")
    return golden


def same_tensors(made, committed):
    ours, theirs = (safetensors.torch.load_file(path) for path in (made, committed))
    return ours.keys() == theirs.keys() and all(
        ours[key].dtype == theirs[key].dtype and torch.equal(ours[key], theirs[key]) for key in ours
    )


def same_folder(made, committed):
    def config(path):
        values = json.loads(path.read_text())
        for key in ("target_modules", "exclude_modules"):  # sets, written in any order
            if isinstance(values.get(key), list):
                values[key].sort()
        return values

    if not all((committed / file).exists() for file in FILES):
        return False
    if config(made / FILES[0]) != config(committed / FILES[0]):
        return False
    return same_tensors(made / FILES[1], committed / FILES[1])


def main():
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    failures = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        golden = make(folder)
        path = HERE / golden.name
        base, made_base = HERE / "peft_base.safetensors", folder / "base" / "model.safetensors"
        if "--check" in sys.argv:
            for name in peft_variants.VARIANTS:
                same = same_folder(folder / name, FOLDER / name)
                failures += not same
                print(f"{'ok  ' if same else 'FAIL'} peft/{name}")
            same = base.exists() and same_tensors(made_base, base)
            failures += not same
            print(f"{'ok  ' if same else 'FAIL'} {base.name}")
            differences = golden.differences(*golden_file.read(path)) if path.exists() else ["missing"]
            failures += len(differences)
            print(f"{'FAIL' if differences else 'ok  '} {golden.name} {' '.join(differences)}")
        else:
            for name in peft_variants.VARIANTS:
                (FOLDER / name).mkdir(parents=True, exist_ok=True)
                for file in FILES:
                    shutil.copyfile(folder / name / file, FOLDER / name / file)
            shutil.copyfile(made_base, base)
            versions = golden_file.versions(torch, transformers, peft)
            path.write_text(golden.text(versions).replace("make_golden.py", "peft_golden.py"))
            print(f"wrote {len(peft_variants.VARIANTS)} folders and {golden.name}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
