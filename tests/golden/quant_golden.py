"""Rows in the types of GGUF's weights, and their values as the package gguf dequantizes them: quant.golden.

For each type T, in gguf's spelling: T.bytes (blocks, bytes of a block), random except for the half-precision scales, and
T.numbers (blocks, values of a block), float32. The metas `types` and T.id say which there are and GGUF's number for each.

Blocks take their halves from EDGES in turn: the largest and smallest of both signs, the largest and smallest with a leading
one, both zeros. F32, F16 and BF16 have one value a block; theirs are edges of their own and random ones.
"""

import gguf
import numpy
from gguf import GGMLQuantizationType as Type

from golden_file import Dice, GoldenFile

SEED = 61
EDGES = [0x2E66, 0xFBFF, 0x0001, 0x8000, 0x7BFF, 0x8001, 0xB123, 0x0400, 0x83FF, 0x0000]  # 0x2E66 is 0.1
BLOCKS = {  # and where a block's halves lie
    Type.Q8_0: (10, [0]),
    Type.Q4_0: (10, [0]),
    Type.Q4_1: (10, [0, 2]),
    Type.Q5_0: (10, [0]),
    Type.Q5_1: (10, [0, 2]),
    Type.Q4_K: (3, [0, 2]),
    Type.Q5_K: (3, [0, 2]),
    Type.Q6_K: (3, [208]),
}
FLOAT_EDGES = {
    Type.F32: [0x00000000, 0x80000000, 0x00000001, 0x807FFFFF, 0x00800000, 0x7F7FFFFF, 0xFF7FFFFF],
    Type.F16: EDGES,
    Type.BF16: [0x0000, 0x8000, 0x0001, 0x807F, 0x0080, 0x7F7F, 0xFF7F],
}
FLOATS = 53  # no multiple of what a processor converts at once


def random_bytes(dice, count, size):
    return dice.integers((count, size), 256).numpy().astype(numpy.uint8)


def floats(dice, kind):
    """Edges, then random ones that are finite."""
    size = gguf.GGML_QUANT_SIZES[kind][1]
    edges = numpy.array(FLOAT_EDGES[kind], dtype=f"<u{size}").view(numpy.uint8).reshape(-1, size)
    blocks = random_bytes(dice, FLOATS, size)
    blocks[:, -1] &= 0xFB  # one bit of the exponent is 0
    blocks[: len(edges)] = edges
    return blocks


def blocks(dice, kind):
    count, halves = BLOCKS[kind]
    result = random_bytes(dice, count, gguf.GGML_QUANT_SIZES[kind][1])
    for i, place in enumerate(halves):
        # Two halves of a block are different edges.
        scales = numpy.roll(numpy.array(EDGES, dtype="<u2"), -4 * i)[:count]
        result[:, place : place + 2] = scales.view(numpy.uint8).reshape(-1, 2)
    return result


def files():
    dice = Dice(SEED)
    golden = GoldenFile("quant.golden", "Rows in GGUF's types as the package gguf dequantizes them.", operations=0)
    kinds = [*FLOAT_EDGES, *BLOCKS]
    golden.meta("types", " ".join(kind.name for kind in kinds))
    for kind in kinds:
        stored = floats(dice, kind) if kind in FLOAT_EDGES else blocks(dice, kind)
        numbers = gguf.quants.dequantize(stored, kind)
        assert numbers.dtype == numpy.float32 and numbers.shape == (len(stored), gguf.GGML_QUANT_SIZES[kind][0])
        golden.meta(f"{kind.name}.id", kind.value)
        golden.add(f"{kind.name}.bytes", stored, exact=True)
        golden.add(f"{kind.name}.numbers", numbers, exact=True)
    return [golden]


PACKAGES = (gguf,)
