"""Every function of tiedlora.h through ctypes, as a program without a C compiler has them: results against
DIR/expected.bin (expected.cpp), bit by bit; what is refused; and that the library shows what the header declares
and nothing else.

    python3 tests/c/interface_test.py LIBRARY GOLDEN DIR
"""

import ctypes
import pathlib
import re
import struct
import subprocess
import sys
import threading
from ctypes import byref, c_char_p, c_double, c_float, c_int, c_int64, c_size_t, c_ssize_t, c_void_p

library, golden, folder = map(pathlib.Path, sys.argv[1:])
header = (pathlib.Path(__file__).resolve().parents[2] / "c/tiedlora.h").read_text()
tl = ctypes.CDLL(str(library.resolve()))
F32, F16, BF16 = range(3)
IN, ROWS, RANK, TOKENS, MODULE = 24, 16, 4, 5, 2


class Tokens(ctypes.Structure):  # tl_input and tl_output
    _fields_ = [("size", c_size_t), ("data", c_void_p), ("type", c_int), ("width", c_ssize_t), ("count", c_ssize_t),
                ("stride", c_ssize_t), ("rows", ctypes.POINTER(c_ssize_t))]


class Options(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("scale", c_double), ("token_scale", ctypes.POINTER(c_float)), ("overwrite", c_int),
                ("ith", c_ssize_t), ("nth", c_ssize_t), ("scratch", c_void_p), ("scratch_bytes", c_size_t)]


class LoadOptions(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("type", c_int), ("partial", c_int), ("gguf", c_int), ("heads", c_ssize_t),
                ("kv_heads", c_ssize_t)]


class Module(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("name", c_char_p), ("kind", c_char_p), ("input", c_char_p), ("layer", c_int),
                ("in_features", c_ssize_t), ("out_features", c_ssize_t), ("rank", c_ssize_t), ("scaling", c_double),
                ("backward_needs_x", c_int)]


declared = set(re.findall(r"^TL_API [^;(]*?\b(tl_\w+)\(", header, re.M))
handle = ctypes.POINTER(c_void_p)
tokens = ctypes.POINTER(Tokens)
for name in declared:
    getattr(tl, name)  # or AttributeError
tl.tl_last_error.restype = tl.tl_adapter_base_model.restype = c_char_p
tl.tl_adapter_count.restype = tl.tl_modules_count.restype = c_ssize_t
tl.tl_adapter_count.argtypes = tl.tl_adapter_base_model.argtypes = tl.tl_modules_free.argtypes = [c_void_p]
tl.tl_adapter_free.argtypes = tl.tl_set_free.argtypes = tl.tl_plan_free.argtypes = [c_void_p]
tl.tl_modules_add.argtypes = [c_void_p, c_char_p, c_int, c_char_p, c_char_p, c_ssize_t, c_ssize_t, c_void_p]
tl.tl_adapter_new.argtypes = [c_void_p, c_char_p, c_ssize_t, c_double, c_int, handle]
tl.tl_adapter_initialize.argtypes = [c_void_p, ctypes.c_uint64]
tl.tl_adapter_load.argtypes = [c_char_p, c_void_p, ctypes.POINTER(LoadOptions), handle]
tl.tl_adapter_module.argtypes = [c_void_p, c_ssize_t, ctypes.POINTER(Module)]
tl.tl_adapter_trainable.argtypes = [c_void_p, handle, ctypes.POINTER(c_ssize_t)]
tl.tl_forward.argtypes = [c_void_p, c_ssize_t, tokens, tokens, tokens, ctypes.POINTER(Options)]
tl.tl_backward.argtypes = [c_void_p, c_ssize_t, tokens, tokens, tokens, c_void_p, tokens, ctypes.POINTER(Options)]
tl.tl_merge.argtypes = [c_void_p, c_ssize_t, c_void_p, c_int] + 4 * [c_ssize_t] + [c_double]
tl.tl_set_new.argtypes = [c_void_p, c_int, handle]
tl.tl_set_add.argtypes = [c_void_p, c_void_p, ctypes.POINTER(c_int64)]
tl.tl_plan_new.argtypes = [c_void_p, handle]
tl.tl_plan_assign.argtypes = [c_void_p, c_void_p, c_ssize_t, ctypes.POINTER(c_int64), ctypes.POINTER(c_float)]
tl.tl_plan_forward.argtypes = tl.tl_forward.argtypes

faults = []
expected = (folder / "expected.bin").read_bytes()
at = 0


def ok(status):
    if status != 0:
        faults.append(f"status {status}: {tl.tl_last_error().decode()}")


def refused(code, phrase, status):
    if status != code or phrase not in tl.tl_last_error().decode():
        faults.append(f"status {status}, not {code} with {phrase!r}: {tl.tl_last_error().decode()}")


def same(what, array):
    global at
    found = bytes(array)
    if found != expected[at:at + len(found)]:
        faults.append(f"{what} differs")
    at += len(found)


def numbers(kind, n, seed):
    """Number i of an array: exact in all three types."""
    values = [((i * 37 + seed * 11) % 129 - 64) / 64 for i in range(n)]
    packed = struct.pack(f"={n}{'e' if kind == F16 else 'f'}", *values)
    if kind == BF16:
        packed = b"".join(packed[4 * i + 2:4 * i + 4] for i in range(n))
    return (ctypes.c_char * len(packed)).from_buffer_copy(packed)


def view(array, kind, width, count):
    return Tokens(ctypes.sizeof(Tokens), ctypes.addressof(array), kind, width, count, width, None)


def new(make, *arguments):
    made = c_void_p()
    ok(make(*arguments, byref(made)))
    return made


def trained(adapter, size):
    data, count = c_void_p(), c_ssize_t()
    ok(tl.tl_adapter_trainable(adapter, byref(data), byref(count)))
    return (ctypes.c_char * (count.value * size)).from_address(data.value)


modules = new(tl.tl_modules_new)
for layer in range(2):
    for kind, out in (("q", ROWS), ("k", 8)):
        ok(tl.tl_modules_add(modules, f"layers.{layer}.{kind}".encode(), layer, None, b"x", IN, out, None))

adapter = new(tl.tl_adapter_new, modules, b"tl6", RANK, 0.5, F32)
ok(tl.tl_adapter_initialize(adapter, 3))
same("a new adapter", trained(adapter, 4))
tl.tl_adapter_free(adapter)

file = str(folder / "adapter.safetensors").encode()
for P in (F32, F16, BF16):
    adapter = new(tl.tl_adapter_load, file, None, LoadOptions(ctypes.sizeof(LoadOptions), P, 0, 0, 0, 0))
    for X in (F32, F16, BF16):
        x, y, dy, dx = (numbers(X, TOKENS * n, seed) for n, seed in ((IN, 1), (ROWS, 2), (ROWS, 3), (IN, 4)))
        h, gradients = (c_float * (TOKENS * RANK))(), (c_float * 248)()
        xs, ys, hs = view(x, X, IN, TOKENS), view(y, X, ROWS, TOKENS), view(h, F32, RANK, TOKENS)
        ok(tl.tl_forward(adapter, MODULE, xs, ys, hs, None))
        options = Options(ctypes.sizeof(Options), 0.5, None, 0, 0, 1, None, 0)
        dys, dxs = view(dy, X, ROWS, TOKENS), view(dx, X, IN, TOKENS)
        ok(tl.tl_backward(adapter, MODULE, xs, hs, dys, gradients, dxs, options))
        for what, array in (("h", h), ("y", y), ("gradients", gradients), ("dx", dx)):
            same(f"{what} of parameters {P}, tokens {X}", array)
    weight = numbers(P, ROWS * IN, 5)
    ok(tl.tl_merge(adapter, MODULE, weight, P, ROWS, IN, IN, 1, 0.75))
    same(f"a merged weight of {P}", weight)
    tl.tl_adapter_free(adapter)

tied = new(tl.tl_adapter_load, file, modules, None)
lora = new(tl.tl_adapter_new, modules, b"lora", 2, 1, F32)
array = trained(lora, 4)
ctypes.memmove(array, numbers(F32, len(array) // 4, 7), len(array))
adapters, a, b = new(tl.tl_set_new, modules, F32), c_int64(), c_int64()
ok(tl.tl_set_add(adapters, tied, byref(a)))
ok(tl.tl_set_add(adapters, lora, byref(b)))
plan = new(tl.tl_plan_new, adapters)
ids = (c_int64 * TOKENS)(a.value, -1, b.value, a.value, b.value)
ok(tl.tl_plan_assign(plan, adapters, TOKENS, ids, (c_float * TOKENS)(1, 1, 0.5, 0.25, 1)))
x, y, h = numbers(F32, TOKENS * IN, 1), numbers(F32, 7 * 20, 2), (c_float * (TOKENS * RANK))()
ys = view(y, F32, ROWS, TOKENS)
ys.stride, ys.rows = 20, (c_ssize_t * TOKENS)(6, 0, 2, 5, 3)
ok(tl.tl_plan_forward(plan, MODULE, view(x, F32, IN, TOKENS), ys, view(h, F32, RANK, TOKENS), None))
same("y of a batch", y)
tl.tl_plan_free(plan)
tl.tl_set_free(adapters)
tl.tl_adapter_free(tied)
tl.tl_adapter_free(lora)

adapter = new(tl.tl_adapter_load, str(golden / "peft/lora").encode(), None, None)
same("a PEFT folder's parameters", trained(adapter, 4))
module = Module(ctypes.sizeof(Module))
ok(tl.tl_adapter_module(adapter, 0, byref(module)))
if not module.name.endswith(module.kind) or module.rank <= 0:
    faults.append(f"module 0 of a PEFT folder is {module.name}, {module.kind}, rank {module.rank}")
tl.tl_adapter_free(adapter)
adapter = new(tl.tl_adapter_load, str(golden / "gguf/llama_f16.gguf").encode(), None,
              LoadOptions(ctypes.sizeof(LoadOptions), F16, 0, 0, 0, 0))
same("a GGUF file's parameters", trained(adapter, 2))
if at != len(expected):
    faults.append(f"{at} of {len(expected)} bytes were compared")

nothing = c_void_p()
refused(-1, "path is NULL", tl.tl_adapter_load(None, None, None, byref(nothing)))
refused(-2, "nowhere", tl.tl_adapter_load(b"/nowhere", None, None, byref(nothing)))
refused(-1, "adapter is NULL", tl.tl_forward(None, 0, xs, ys, None, None))
refused(-1, "module 99", tl.tl_forward(adapter, 99, xs, ys, None, None))

# Each thread has its own last error.
texts = []



def fail_elsewhere():
    texts.append(tl.tl_last_error())
    tl.tl_adapter_load(b"/elsewhere", None, None, byref(c_void_p()))
    texts.append(tl.tl_last_error())


thread = threading.Thread(target=fail_elsewhere)
thread.start()
thread.join()
if texts[0] != b"" or b"elsewhere" not in texts[1] or b"module 99" not in tl.tl_last_error():
    faults.append(f"last errors of two threads: {texts}, {tl.tl_last_error()}")
tl.tl_adapter_free(adapter)
tl.tl_modules_free(modules)

symbols = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
exported = {line.split()[-1] for line in symbols.splitlines()}
if exported != declared:
    faults.append(f"exported, but not declared or the other way round: {sorted(exported ^ declared)}")

print("\n".join(faults) or f"{len(declared)} functions, {len(expected)} bytes hold")
sys.exit(1 if faults else 0)
