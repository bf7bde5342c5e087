"""How long a training step takes on more machines, from counts, a measured batch and a stated network.

    python3 bench/cases/scale/model.py --counts build/dev/bin/count_parameters [--write]

A step of K batches takes N machines, which share them,

    most batches of a machine · seconds of one  +  bytes of a machine / rate  +  2 (N − 1) latencies

since a tied gradient is final only when backward has ended: nothing of the exchange hides behind it. A machine sends
(N − 1) / N of each of its subtrees, and as much again of the sum (examples/finetune/distributed/tree_sum.hpp). --write
renews table and picture in docs/scale.md; without it the table is printed.
"""

import argparse
import csv
import io
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[3]
PAGE, PICTURE = ROOT / "docs/scale.md", ROOT / "docs/images/scale.svg"
TARGETS = "q,k,v,o,gate,up,down"
NAMES = {"lora": "LoRA", "tl6": "TL6", "vera": "VeRA"}
SCHEMES = {"lora": "#D55E00", "tl6": "#0072B2", "vera": "#009E73"}
RATES = {"1 Gbit/s": 1e9 / 8, "10 Gbit/s": 1e10 / 8, "100 Gbit/s": 1e11 / 8}  # bytes a second
LATENCY = 50e-6  # seconds; of TCP between two machines in one room

# Machine, model, seconds that a batch of 512 tokens takes. The first is measured: "step, 4×128, two threads" in
# docs/benchmarks.md. The second is a supposition: 4 operations for each of 6.74e9 weights and each token (forward, and
# backward without gradients of the frozen weights) at 40e12 operations a second, what an accelerator may well do.
MACHINES = [
    ("two cores", "SmolLM2-135M", 1.684),
    ("an accelerator", "LLaMA2-7B", 4 * 6.74e9 * 512 / 40e12),
]
BATCHES = 64
RANK = 8
NODES = [1, 2, 4, 8, 16, 32, 64]


def trained(program, model):
    """Trainable parameters by scheme, as count_parameters reports them."""
    command = [program, "--model", model, "--targets", TARGETS, "--ranks", str(RANK), "--schemes", ",".join(SCHEMES)]
    text = subprocess.run([*command, "--csv"], check=True, capture_output=True, text=True).stdout
    return {row["scheme"]: int(row["trained"]) for row in csv.DictReader(io.StringIO(text))}


def shares(batches, nodes):
    """How many batches each machine has."""
    return [batches * (i + 1) // nodes - batches * i // nodes for i in range(nodes)]


def subtrees(begin, end, count):
    """Nodes of the tree over `count` batches that batches begin … end − 1 make: what push_node does."""
    tree = []
    for batch in range(begin, end):
        tree.append([batch, 1])
        while not (tree[-1][0] == 0 and tree[-1][1] >= count):
            first, width = tree[-1]
            if first % (2 * width) == 0:
                if first + width < count:
                    break
                tree[-1][1] *= 2
            elif len(tree) > 1 and tree[-2][0] + width == first:
                tree.pop()
                tree[-1][1] *= 2
            else:
                break
    return len(tree)


def bytes_sent(numbers, batches, nodes):
    """By the machine that sends most."""
    most, begin = 0, 0
    for share in shares(batches, nodes):
        most = max(most, subtrees(begin, begin + share, batches))
        begin += share
    return 4 * numbers * (nodes - 1) / nodes * (most + 1)


def exchange(numbers, batches, nodes, rate):
    return bytes_sent(numbers, batches, nodes) / rate + 2 * (nodes - 1) * LATENCY


def step(seconds, numbers, batches, nodes, rate):
    return max(shares(batches, nodes)) * seconds + exchange(numbers, batches, nodes, rate)


def table(counts):
    rows = ["| machine, model | network | machines | LoRA | TL6 | VeRA |", "|---|---|---|---|---|---|"]
    for machine, model, seconds in MACHINES:
        for network, rate in RATES.items():
            for nodes in [2, 8, 64]:
                cells = []
                for scheme in SCHEMES:
                    whole = step(seconds, counts[model][scheme], BATCHES, nodes, rate)
                    part = exchange(counts[model][scheme], BATCHES, nodes, rate) / whole
                    cells.append(f"{whole:.3g} s, {100 * part:.2g} %")
                rows.append(f"| {machine}, {model} | {network} | {nodes} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def sizes(counts):
    rows = ["| model, rank 8, seven matrices | | LoRA | TL6 | VeRA |", "|---|---|---|---|---|"]
    for _, model, _ in MACHINES:
        rows.append(f"| {model} | trainable parameters | {' | '.join(f'{counts[model][s]:,}' for s in SCHEMES)} |")
        for nodes in [2, 8, 64]:
            cells = [f"{bytes_sent(counts[model][s], BATCHES, nodes) / 2**20:.3g}" for s in SCHEMES]
            rows.append(f"| | MiB a step from each of {nodes} machines | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def draw(counts):
    commands = (f"set terminal svg size 1000,460 font 'sans,12' background 'white'\nset output '{PICTURE}'\n"
                "set multiplot layout 1,2\nset logscale x 2\nset grid\nset xlabel 'machines'\nset yrange [0:105]\n"
                "set ylabel 'share of a step that is not exchange, %'\nset key bottom left\n")  # fmt: skip
    dashes = dict(zip(RATES, [1, 2, 4]))
    for machine, model, seconds in MACHINES:
        curves, data = [], ""
        for scheme, colour in SCHEMES.items():
            for network, rate in RATES.items():
                curves.append(f"'-' with lines lw 2 dt {dashes[network]} lc rgb '{colour}' title '{NAMES[scheme]}, {network}'")
                numbers = counts[model][scheme]
                for n in NODES:
                    whole = step(seconds, numbers, BATCHES, n, rate)
                    data += f"{n} {100 * (1 - exchange(numbers, BATCHES, n, rate) / whole)}\n"
                data += "e\n"
        commands += f"set title '{machine}, {model}, {BATCHES} batches of 512 tokens'\n"
        commands += f"plot {', '.join(curves)}\n{data}"
    PICTURE.parent.mkdir(exist_ok=True)
    subprocess.run(["gnuplot"], input=commands + "unset multiplot\n", text=True, check=True)


def put(text, name, content):
    """The text with what stands between two comments of that name renewed."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, rest = text.split(begin)
    return before + begin + content + end + rest.split(end)[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", required=True, help="the program count_parameters")
    parser.add_argument("--write", action="store_true", help="renew docs/scale.md and its picture")
    arguments = parser.parse_args()
    counts = {model: trained(arguments.counts, model) for _, model, _ in MACHINES}
    if not arguments.write:
        print(sizes(counts) + "\n" + table(counts), end="")
        return
    draw(counts)
    PAGE.write_text(put(put(PAGE.read_text(), "sizes", sizes(counts)), "model", table(counts)))


if __name__ == "__main__":
    main()
