#!/usr/bin/env python3
"""Writes the golden files beside this script; with --check compares them with what it makes now.

Needs the packages of requirements.txt (torch first).
"""

import argparse
import pathlib
import sys

import torch

import adamw_golden
import golden_file
import llama_golden
import module_golden
import quant_golden
import torch_vera_golden

SUBJECTS = [module_golden, adamw_golden, torch_vera_golden, quant_golden, llama_golden]
FOLDER = pathlib.Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a committed file differs")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(0)  # for the library's own initialisations, all of which are overwritten

    failures = 0
    for subject in SUBJECTS:
        versions = golden_file.versions(*subject.PACKAGES)
        for golden in subject.files():
            path = FOLDER / golden.name
            if arguments.check:
                differences = golden.differences(*golden_file.read(path)) if path.exists() else ["missing"]
                failures += len(differences)
                verdict = "FAIL" if differences else "ok  "
                print(f"{verdict} {golden.name}: {golden.title} {len(golden.tensors)} tensors")
                for difference in differences:
                    print(f"     {golden.name}: {difference}")
            else:
                path.write_text(golden.text(versions))
                print(f"wrote {golden.name}: {golden.title} {path.stat().st_size} bytes")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
