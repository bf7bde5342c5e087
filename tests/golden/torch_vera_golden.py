"""The frozen A and B that PEFT's VeRA draws from its projection_prng_key: torch_vera.golden.

Read from a real PEFT model. A case C has the metas C.key, C.rank, C.max_in, C.max_out and, for the model it came from,
C.modules (each in x out). Small cases hold C.A (rank, max_in) and C.B (max_out, rank), to be compared bit for bit.
Every case has the metas C.A.fnv1a and C.B.fnv1a: 64-bit FNV-1a over the bytes of the float32 values in that order,
little endian, as 16 hexadecimal digits.
"""

import numpy
import peft
import torch
from torch import nn

from golden_file import GoldenFile

CASES = {  # key, rank, modules as (in, out), whether the values are stored
    "key_0": (0, 4, [(8, 6)], True),
    "key_1": (1, 1, [(1, 17)], True),
    "unequal": (1234, 5, [(16, 16), (16, 8), (24, 16), (8, 33)], True),
    "key_32_bit": (2**32 - 1, 3, [(7, 9)], True),
    "key_64_bit": (2**40 + 1234, 3, [(7, 9)], True),  # the generator takes the low 32 bits: key 1234
    "large": (42, 64, [(512, 1536)], False),
}


def projections(key, rank, modules):
    """(A, B) of a PEFT VeRA model over linears of these shapes."""
    model = nn.ModuleDict({f"linear{i}": nn.Linear(*sizes, bias=False) for i, sizes in enumerate(modules)})
    config = peft.VeraConfig(r=rank, projection_prng_key=key, target_modules=list(model))
    vera = peft.get_peft_model(model, config).base_model
    return vera.vera_A["default"].numpy(), vera.vera_B["default"].numpy()


def fnv1a(array):
    state = 0xCBF29CE484222325
    for byte in array.astype("<f4").tobytes():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    return f"{state:016x}"


def files():
    golden = GoldenFile("torch_vera.golden", "A and B of PEFT's VeRA.", operations=0)
    golden.meta("cases", " ".join(CASES))
    for name, (key, rank, modules, stored) in CASES.items():
        A, B = projections(key, rank, modules)
        assert A.dtype == B.dtype == numpy.float32 and A.shape[0] == B.shape[1] == rank
        golden.meta(f"{name}.key", key)
        golden.meta(f"{name}.rank", rank)
        golden.meta(f"{name}.max_in", A.shape[1])
        golden.meta(f"{name}.max_out", B.shape[0])
        golden.meta(f"{name}.modules", " ".join(f"{i}x{o}" for i, o in modules))
        golden.meta(f"{name}.A.fnv1a", fnv1a(A))
        golden.meta(f"{name}.B.fnv1a", fnv1a(B))
        if stored:
            golden.add(f"{name}.A", A, exact=True)
            golden.add(f"{name}.B", B, exact=True)
    return [golden]


PACKAGES = (torch, peft)
