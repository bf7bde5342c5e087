"""The text format of the golden files: writing, reading and comparing.

A file is lines of three kinds, and the values that follow a tensor line:

    # a comment
    meta <key> <value to the end of the line>
    tensor <name> <dim> ...
    <values in C order, at most 8 a line>

Float32 is written with 9 significant digits and float64 with 17: both come back bit for bit.
tests/support/golden.hpp reads the same format in C++.
"""

import platform
from importlib import metadata

import numpy
import torch

VALUES_PER_LINE = 8


class GoldenFile:
    """One golden file in memory.

    `operations` is how many roundings lie one after another between the inputs and a computed value. Independent
    roundings add up as a random walk, so two correct runs (other hardware, another order of summation) may differ by
    4 * sqrt(operations) * eps * max|tensor|; the 4 covers the spread over many values. Tensors added with exact=True
    (inputs, tokens, random bits) have to agree in every bit.
    """

    def __init__(self, name, title, operations):
        self.name = name
        self.title = title
        self.operations = operations
        self.metas = {}
        self.tensors = {}  # name -> numpy array
        self.exact = set()

    def meta(self, key, value):
        if isinstance(value, bool):
            value = int(value)
        assert key not in self.metas, key
        self.metas[key] = str(value)

    def add(self, name, values, exact=False):
        array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else numpy.asarray(values)
        assert name not in self.tensors and " " not in name, name
        assert numpy.isfinite(array).all(), name
        self.tensors[name] = numpy.atleast_1d(array).copy()
        if exact:
            self.exact.add(name)

    def text(self, versions):
        lines = [f"# {self.title}", f"# Made by tests/golden/make_golden.py with {versions}."]
        lines += [f"meta {key} {value}" for key, value in self.metas.items()]
        for name, array in self.tensors.items():
            lines.append(" ".join(["tensor", name, *map(str, array.shape)]))
            values = [format_value(value) for value in array.ravel()]
            for begin in range(0, len(values), VALUES_PER_LINE):
                lines.append(" ".join(values[begin : begin + VALUES_PER_LINE]))
        return "\n".join(lines) + "\n"

    def differences(self, metas, tensors):
        """What differs in a file as read by read(), as a list of sentences; empty when it agrees."""
        found = [f"{kind} {key}: only in the committed file" for kind, key in surplus(self, metas, tensors)]
        for key, value in self.metas.items():
            if metas.get(key) != value:
                found.append(f"meta {key}: committed {metas.get(key)}, made {value}")
        for name, array in self.tensors.items():
            if name not in tensors or tensors[name].shape != array.shape:
                found.append(f"tensor {name}: missing, or of another shape")
                continue
            committed = tensors[name].astype(array.dtype).astype(numpy.float64)
            error = numpy.abs(committed - array.astype(numpy.float64)).max(initial=0.0)
            tolerance = 0.0 if name in self.exact else self.tolerance(array)
            if not error <= tolerance:
                found.append(f"tensor {name}: differs by {error:.3g}, tolerance {tolerance:.3g}")
        return found

    def tolerance(self, array):
        if array.dtype.kind != "f":
            return 0.0
        return 4 * self.operations**0.5 * numpy.finfo(array.dtype).eps * float(numpy.abs(array).max(initial=0.0))


def format_value(value):
    if value.dtype == numpy.float32:
        return f"{value:.9g}"
    if value.dtype == numpy.float64:
        return f"{value:.17g}"
    return str(int(value))


def surplus(golden, metas, tensors):
    yield from (("meta", key) for key in metas if key not in golden.metas)
    yield from (("tensor", name) for name in tensors if name not in golden.tensors)


def read(path):
    """The metas (strings) and the tensors (float64) of a golden file."""
    metas, tensors, shapes, name = {}, {}, {}, None
    for line in path.read_text().splitlines():
        word, _, rest = line.partition(" ")
        if word == "#":
            continue
        if word == "meta":
            key, _, value = rest.partition(" ")
            metas[key] = value
        elif word == "tensor":
            name, *dims = rest.split()
            shapes[name], tensors[name] = tuple(map(int, dims)), []
        else:
            tensors[name] += map(float, line.split())
    return metas, {name: numpy.array(values).reshape(shapes[name]) for name, values in tensors.items()}


class Dice:
    """Random inputs as multiples of 1/256, all below 10: short and exact in decimal text and in every float type."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, shape, low, high, dtype=torch.float32):
        steps = torch.randint(round(low * 256), round(high * 256) + 1, shape, generator=self.generator)
        return steps.to(dtype) / 256

    def integers(self, shape, end):
        return torch.randint(0, end, shape, generator=self.generator)


def versions(*modules):
    """The versions that a file's comment names: `python 3.11, torch 2.13.0, ...`."""
    names = [f"python {platform.python_version()}"]
    return ", ".join(names + [f"{module.__name__} {metadata.version(module.__name__).partition('+')[0]}" for module in modules])
