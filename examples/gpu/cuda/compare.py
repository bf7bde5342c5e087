#!/usr/bin/env python3
"""Times of the same calls by others, in the columns of `gpu_cuda bench`: PyTorch with PEFT's LoRA formula (eager and
torch.compile), products by cuBLAS into memory allocated before, and Triton kernels as vLLM's shrink and expand are.

    python3 compare.py --out others.csv            on a GPU, with torch (and triton)
    python3 compare.py --device cpu --quick        only that everything runs, and computes the same; the Triton kernels, too,
                                                   with TRITON_INTERPRET=1
"""
import argparse
import csv
import os
import statistics
import sys
import time

try:
    import torch
except ImportError:
    torch = None
try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

COLUMNS = "by,what,type,in,out,rank,tokens,tenants,factors,microseconds,gigabytes_per_second,teraflops".split(",")
COLD_BYTES = 120e6  # as bench.cu


def lora(x, y, a, b):
    """What PEFT computes beside the base layer: result + lora_B(lora_A(x)) * scaling."""
    linear = torch.nn.functional.linear
    return y + linear(linear(x, a), b) * 2.0


def seconds_of(body, calls, device):
    """The median of a call, by events around a CUDA graph where it can be captured, else around the calls."""
    if device == "cpu":
        body()
        begin = time.perf_counter()
        body()
        return (time.perf_counter() - begin) / calls
    # autograd sums gradients in the stream in which it did so first: warm up in the one that is captured.
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            body()
    torch.cuda.synchronize()
    run = body
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            body()
        run = graph.replay
    except RuntimeError as error:
        print(f"not captured: {error}", file=sys.stderr)
    times = []
    for n in range(18):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        if n >= 3:  # as bench.cu
            times.append(begin.elapsed_time(end) * 1e-3 / calls)
    return statistics.median(times)


def alone(arguments, write):
    sizes = [(576, 576), (2048, 2048), (4096, 4096), (4096, 11008)]
    ranks, token_counts = [8, 16, 64], [1, 8, 64, 512, 4096]
    if arguments.quick:
        sizes, ranks, token_counts = [(96, 64)], [16], [1, 8]
    for name in ["bfloat16", "float32"]:
        kind = getattr(torch, name)
        for size in sizes:
            for rank in ranks:
                for tokens in token_counts:
                    for cold in [False, True]:
                        numbers = rank * sum(size)
                        count = int(COLD_BYTES / (numbers * kind.itemsize)) + 1 if cold else 1
                        if arguments.quick:
                            count = min(count, 2)
                        case(arguments, write, name, kind, size, rank, tokens, cold, count)


class Products:
    """Forward and backward by cuBLAS, every product into memory that is there: the least that PyTorch can do. Modules have
    the same activations, as in bench.cu: with their own, these would come from memory here and from L2 there."""

    def __init__(self, x, y, dy, rank):
        self.x, self.y, self.dy, self.dx = x.detach(), y.clone(), dy, torch.zeros_like(x)
        self.h, self.dh = x.new_empty(x.shape[0], rank), x.new_empty(x.shape[0], rank)

    @staticmethod
    def module(a, b):
        """Its factors and gradients."""
        return a.detach(), b.detach(), torch.zeros_like(a), torch.zeros_like(b)

    def __call__(self, module, backward):
        a, b, da, db = module
        torch.mm(self.x, a.t(), out=self.h)
        self.y.addmm_(self.h, b.t(), alpha=2.0)
        if backward:
            torch.mm(self.dy, b, out=self.dh)
            self.dh.mul_(2.0)
            db.addmm_(self.dy.t(), self.h, alpha=2.0)
            da.addmm_(self.dh.t(), self.x)
            self.dx.addmm_(self.dh, a)


def case(arguments, write, name, kind, size, rank, tokens, cold, count):
    device = arguments.device

    def random(*shape):
        return torch.randn(*shape, device=device, dtype=kind)

    factors = [(random(rank, size[0]).requires_grad_(), random(size[1], rank).requires_grad_()) for _ in range(count)]
    calls = max(count, 20)
    x = random(tokens, size[0]).requires_grad_()
    y, dy = random(tokens, size[1]), random(tokens, size[1])
    row = dict(type=name.replace("32", ""), rank=rank, tokens=tokens, tenants=1, factors="cold" if cold else "hot")
    row["in"], row["out"] = size

    functions = {"PyTorch eager": lora}
    if arguments.compile:
        torch.compiler.reset()  # else another shape makes it compile for all shapes, and after eight not at all
        functions["torch.compile"] = torch.compile(lora, dynamic=False)
    for by, function in functions.items():

        def forward():
            with torch.no_grad():
                for n in range(calls):
                    function(x, y, *factors[n % count])

        def forward_and_backward():
            for n in range(calls):
                function(x, y, *factors[n % count]).backward(dy)

        write(by=by, what="forward", seconds=seconds_of(forward, calls, device), **row)
        write(by=by, what="forward+backward", seconds=seconds_of(forward_and_backward, calls, device), **row)

    products, modules = Products(x, y, dy, rank), [Products.module(a, b) for a, b in factors]
    for backward, what in [(False, "forward"), (True, "forward+backward")]:

        def run():
            for n in range(calls):
                products(modules[n % count], backward)

        write(by="two products", what=what, seconds=seconds_of(run, calls, device), **row)
    if arguments.quick:
        check_products(x, y, dy, rank, factors)


def check_products(x, y, dy, rank, factors):
    """That both ways compute the same, with the error of a bfloat16, of modules one after the other."""
    result = y
    for tensor in [x, *(factor for module in factors for factor in module)]:
        tensor.grad = None
    for a, b in factors:
        result = lora(x, result, a, b)
    result.backward(dy)
    products, modules = Products(x, y, dy, rank), [Products.module(a, b) for a, b in factors]
    for module in modules:
        products(module, True)
    pairs = [(products.y, result), (products.dx, x.grad)]
    for (a, b), (_, _, da, db) in zip(factors, modules):
        pairs += [(da, a.grad), (db, b.grad)]
    for mine, autograds in pairs:
        error = (mine.float() - autograds.detach().float()).abs().max() / autograds.detach().float().abs().max()
        if not error < 2.0**-5:
            sys.exit(f"compare.py: products and autograd differ by {error}")


if triton:

    @triton.jit
    def shrink_kernel(x, a, h, adapters, features, rank: tl.constexpr, block: tl.constexpr, splits: tl.constexpr):
        """h of a token += A x of its adapter, over a part of the features."""
        token, split = tl.program_id(0), tl.program_id(1)
        adapter = tl.load(adapters + token)
        ranks = tl.arange(0, rank)
        sums = tl.zeros([rank], dtype=tl.float32)
        for begin in range(split * block, features, splits * block):
            i = begin + tl.arange(0, block)
            numbers = tl.load(x + token * features + i, mask=i < features, other=0).to(tl.float32)
            rows = tl.load(a + (adapter * rank + ranks[:, None]) * features + i[None, :],
                           mask=i[None, :] < features, other=0).to(tl.float32)
            sums += tl.sum(rows * numbers[None, :], 1)
        tl.atomic_add(h + token * rank + ranks, sums)

    @triton.jit
    def expand_kernel(h, b, y, adapters, features, rank: tl.constexpr, block: tl.constexpr):
        """y of a token += B h of its adapter, for a block of the features; B is [features, rank], as in PEFT."""
        token = tl.program_id(0)
        adapter = tl.load(adapters + token)
        ranks = tl.arange(0, rank)
        i = tl.program_id(1) * block + tl.arange(0, block)
        numbers = tl.load(h + token * rank + ranks)
        rows = tl.load(b + (adapter * features + i[:, None]) * rank + ranks[None, :],
                       mask=i[:, None] < features, other=0).to(tl.float32)
        to = y + token * features + i
        before = tl.load(to, mask=i < features, other=0).to(tl.float32)
        tl.store(to, (before + tl.sum(rows * numbers[None, :], 1)).to(y.dtype.element_ty), mask=i < features)


def lora_by_triton(x, a, b, h, y, adapters):
    """x and y are [tokens, features], a [adapters, rank, features], b [adapters, features, rank], h floats."""
    block, splits = 256, 8
    tokens, rank = h.shape
    h.zero_()
    shrink_kernel[(tokens, splits)](x, a, h, adapters, x.shape[1], rank=rank, block=block, splits=splits)
    expand_kernel[(tokens, triton.cdiv(y.shape[1], block))](h, b, y, adapters, y.shape[1], rank=rank, block=block)


def tenants(arguments, write):
    width, rank, tokens, calls = 4096, 16, 64, 20
    if arguments.quick:
        width = 320
    kind, device = torch.bfloat16, arguments.device
    for count in [1, 8, 64]:
        x = torch.randn(tokens, width, device=device, dtype=kind)
        y = torch.randn(tokens, width, device=device, dtype=kind)
        a = torch.randn(count, rank, width, device=device, dtype=kind)
        b = torch.randn(count, width, rank, device=device, dtype=kind)
        row = dict(type="bfloat16", rank=rank, tokens=tokens, tenants=count, factors="hot")
        row["in"] = row["out"] = width
        each = tokens // count

        def add_loop(y):
            for n in range(count):
                part = slice(n * each, (n + 1) * each)
                y[part] += (x[part] @ a[n].t()) @ b[n].t()

        def loop():
            for _ in range(calls):
                add_loop(y)

        write(by="PyTorch eager", what="LoRAs of their own, a loop", seconds=seconds_of(loop, calls, device), **row)
        if not triton or device == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
            continue
        adapters = torch.arange(tokens, device=device) // each
        h = torch.empty(tokens, rank, device=device, dtype=torch.float32)
        if arguments.quick:
            by_loop, by_triton = torch.zeros_like(y), torch.zeros_like(y)
            add_loop(by_loop)
            lora_by_triton(x, a, b, h, by_triton, adapters)
            error = (by_loop.float() - by_triton.float()).abs().max() / by_loop.float().abs().max()
            if not error < 2.0**-5:
                sys.exit(f"compare.py: Triton and the loop differ by {error}")
            if device == "cpu":  # an interpreter has no times
                continue

        def kernels():
            for _ in range(calls):
                lora_by_triton(x, a, b, h, y, adapters)

        write(by="Triton", what="LoRAs of their own", seconds=seconds_of(kernels, calls, device), **row)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--out", default="-", help="the CSV; - is standard output")
    parser.add_argument("--quick", action="store_true", help="few and small sizes")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="without torch.compile")
    arguments = parser.parse_args()
    if not torch:
        print("compare.py: needs PyTorch (pip install torch)", file=sys.stderr)
        return 77
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
