#!/usr/bin/env python3
"""Times of the same calls by others, in the columns of `gpu_cuda bench`: PyTorch with PEFT's LoRA formula (eager and
torch.compile), two products by cuBLAS into memory allocated before, and Triton kernels as vLLM's shrink and expand are.

    python3 compare.py --out others.csv            on a GPU, with torch (and triton)
    python3 compare.py --device cpu --quick        only that everything runs
"""
import argparse
import csv
import statistics
import sys
import time

import torch

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

COLUMNS = "by,what,type,in,out,rank,tokens,tenants,factors,microseconds,gigabytes_per_second,teraflops".split(",")
COLD_BYTES = 120e6  # as bench.cu


class Lora(torch.nn.Module):
    """What PEFT computes beside the base layer: result + lora_B(lora_A(x)) * scaling."""

    def __init__(self, size, rank, kind, device):
        super().__init__()
        self.A = torch.nn.Linear(size[0], rank, bias=False, device=device, dtype=kind)
        self.B = torch.nn.Linear(rank, size[1], bias=False, device=device, dtype=kind)
        torch.nn.init.normal_(self.B.weight)

    def forward(self, x, y):
        return y + self.B(self.A(x)) * 2.0


def seconds_of(body, calls, device):
    """The median of a call, by events around a CUDA graph where it can be captured, else around the calls."""
    for _ in range(3):
        body()
    if device == "cpu":
        begin = time.perf_counter()
        body()
        return (time.perf_counter() - begin) / calls
    torch.cuda.synchronize()
    run = body
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            body()
        run = graph.replay
    except RuntimeError as error:
        print(f"not captured: {error}", file=sys.stderr)
    times = []
    for _ in range(15):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e-3 / calls)
    return statistics.median(times)


def alone(arguments, write):
    sizes = [(576, 576), (2048, 2048), (4096, 4096), (4096, 11008)]
    ranks, token_counts = [8, 16, 64], [1, 8, 64, 512, 4096]
    if arguments.quick:
        sizes, ranks, token_counts = sizes[:1], [16], [1, 8]
    for name in ["bfloat16", "float32"]:
        kind = getattr(torch, name)
        for size in sizes:
            for rank in ranks:
                for tokens in token_counts:
                    for cold in [False, True]:
                        numbers = rank * sum(size)
                        count = int(COLD_BYTES / (numbers * kind.itemsize)) + 1 if cold and not arguments.quick else 1
                        case(arguments, write, name, kind, size, rank, tokens, cold, count)


def case(arguments, write, name, kind, size, rank, tokens, cold, count):
    device = arguments.device
    layers = [Lora(size, rank, kind, device) for _ in range(count)]
    calls = max(count, 20)
    x = torch.randn(tokens, size[0], device=device, dtype=kind, requires_grad=True)
    y = torch.randn(tokens, size[1], device=device, dtype=kind)
    dy = torch.randn_like(y)

    def products(layer):  # cuBLAS, into memory that is there
        h = torch.empty(tokens, rank, device=device, dtype=kind)

        def call():
            with torch.no_grad():
                torch.mm(x, layer.A.weight.t(), out=h)
                y.addmm_(h, layer.B.weight.t())

        return call

    compiled = torch.compile(lambda layer, x, y: layer(x, y)) if arguments.compile else None
    makers = {"PyTorch eager": lambda layer: lambda: layer(x, y)}
    if compiled:
        makers["torch.compile"] = lambda layer: lambda: compiled(layer, x, y)
    row = dict(type=name.replace("32", ""), rank=rank, tokens=tokens, tenants=1, factors="cold" if cold else "hot")
    row["in"], row["out"] = size

    def all_of(functions, backward):
        def run():
            for n in range(calls):
                out = functions[n % count]()
                if backward:
                    out.backward(dy)

        return run

    for by, make in makers.items():
        functions = [make(layer) for layer in layers]
        for backward in [False, True]:
            write(by=by, what="forward+backward" if backward else "forward",
                  seconds=seconds_of(all_of(functions, backward), calls, device), **row)
    functions = [products(layer) for layer in layers]
    write(by="two products", what="forward", seconds=seconds_of(all_of(functions, False), calls, device), **row)


if triton:

    @triton.jit
    def lora_kernel(x, a, b, y, adapters, features, outputs, rank: tl.constexpr, block: tl.constexpr):
        """A token and its adapter: h = A x, then y += B h, block by block."""
        token = tl.program_id(0)
        adapter = tl.load(adapters + token)
        ranks = tl.arange(0, rank)
        h = tl.zeros([rank], dtype=tl.float32)
        for begin in range(0, features, block):
            i = begin + tl.arange(0, block)
            numbers = tl.load(x + token * features + i, mask=i < features, other=0).to(tl.float32)
            rows = tl.load(a + (adapter * rank + ranks[:, None]) * features + i[None, :],
                           mask=i[None, :] < features, other=0).to(tl.float32)
            h += tl.sum(rows * numbers[None, :], 1)
        for begin in range(0, outputs, block):
            i = begin + tl.arange(0, block)
            columns = tl.load(b + (adapter * rank + ranks[:, None]) * outputs + i[None, :],
                              mask=i[None, :] < outputs, other=0).to(tl.float32)
            to = y + token * outputs + i
            before = tl.load(to, mask=i < outputs, other=0).to(tl.float32)
            tl.store(to, (before + tl.sum(columns * h[:, None], 0)).to(y.dtype.element_ty), mask=i < outputs)


def tenants(arguments, write):
    width, rank, tokens, calls = 4096, 16, 64, 20
    if arguments.quick:
        width = 256
    kind, device = torch.bfloat16, arguments.device
    for count in [1, 8, 64]:
        x = torch.randn(tokens, width, device=device, dtype=kind)
        y = torch.randn(tokens, width, device=device, dtype=kind)
        a = torch.randn(count, rank, width, device=device, dtype=kind)
        b = torch.randn(count, rank, width, device=device, dtype=kind)
        row = dict(type="bfloat16", rank=rank, tokens=tokens, tenants=count, factors="hot")
        row["in"] = row["out"] = width
        each = tokens // count

        def loop():
            for _ in range(calls):
                for n in range(count):
                    part = slice(n * each, (n + 1) * each)
                    y[part] += (x[part] @ a[n].t()) @ b[n]

        write(by="PyTorch eager", what="LoRAs of their own, a loop", seconds=seconds_of(loop, calls, device), **row)
        if triton and device != "cpu":
            adapters = torch.arange(tokens, device=device) % count

            def kernel():
                for _ in range(calls):
                    lora_kernel[(tokens,)](x, a, b, y, adapters, width, width, rank=rank, block=512)

            write(by="Triton", what="LoRAs of their own", seconds=seconds_of(kernel, calls, device), **row)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--out", default="-", help="the CSV; - is standard output")
    parser.add_argument("--quick", action="store_true", help="few and small sizes")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="without torch.compile")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("compare.py: PyTorch finds no CUDA device", file=sys.stderr)
        return 77
    file = sys.stdout if arguments.out == "-" else open(arguments.out, "w", newline="")
    with file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()

        def write(seconds, **row):
            table.writerow({**row, "microseconds": f"{1e6 * seconds:.3f}"})
            file.flush()

        alone(arguments, write)
        tenants(arguments, write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
