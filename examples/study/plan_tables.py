"""What the tables of a plan hold. All else is an error that names it: a key that is misspelt would train something else."""

import math

AXES = ("rate", "uv_rate", "b_over_a")
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def _is_whole(value, least):
    return type(value) is int and value >= least


def _is_number(value):
    return type(value) in (int, float) and math.isfinite(value)


def _is_list(value, of, least=1):
    return isinstance(value, list) and len(value) >= least and all(map(of, value))


TEXT = (lambda value: isinstance(value, str) and value.strip() != "", "text")
COUNT = (lambda value: _is_whole(value, 1), "a whole number from 1")
SEED = (lambda value: _is_whole(value, 0), "a whole number from 0")
NUMBER = (_is_number, "a number")
TABLE = (lambda value: isinstance(value, dict), "a table")
TABLES = (lambda value: _is_list(value, lambda one: isinstance(one, dict)), "one table or more")
TEXTS = (lambda value: _is_list(value, TEXT[0]), "one text or more in a list")
SEEDS = (lambda value: _is_list(value, SEED[0]), "one whole number from 0 or more in a list")
RATE = (lambda value: _is_number(value) and value > 0, "a number above 0")
PAIRS = (
    lambda value: _is_list(value, lambda pair: _is_list(pair, TEXT[0], 2) and len(pair) == 2),
    "one or more [SCHEME:RANK, SCHEME:RANK]",
)
MODULE_LIST = (lambda value: _is_list(value, lambda one: one in MODULES), f"one or more of {', '.join(MODULES)} in a list")

TRAINING = {
    "steps": COUNT,
    "batch_tokens": COUNT,
    "products": TEXT,
    "evaluations": COUNT,
    "schedule": TEXT,
    "warm_up": NUMBER,
    "weight_decay": NUMBER,
    "clip": NUMBER,
    "scaling": NUMBER,
}
TRAIN = {"scheme": TEXT, "targets": MODULE_LIST, "layers": SEEDS}


def _check(table, where, required, optional=None):
    allowed = {**required, **(optional or {})}
    if unknown := [key for key in table if key not in allowed]:
        raise ValueError(f"{where}: unknown {', '.join(unknown)}; there are {', '.join(allowed)}")
    if missing := [key for key in required if key not in table]:
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    for key, value in table.items():
        fits, kind = allowed[key]
        if not fits(value):
            raise ValueError(f"{where}: {key} is {value!r}, not {kind}")


def _check_scheme(scheme, where):
    starts = {key: TABLE for key in scheme if key.startswith("start_") and key[6:].isdecimal()}
    _check(scheme, where, {"start": TABLE}, {"about": TEXT, "train": TABLE, "curve": TEXT, **starts})
    _check(scheme["start"], f"{where} start", {"rate": RATE}, dict.fromkeys(AXES[1:], RATE))
    for key in starts:
        _check(scheme[key], f"{where} {key}", {}, dict.fromkeys(scheme["start"], RATE))
    _check(scheme.get("train", {}), f"{where} train", {}, TRAIN)


def _check_block(block, where):
    common = {"name": TEXT, "tasks": TEXTS, "targets": TEXT}
    if "pairs" in block:
        _check(block, where, {**common, "pairs": PAIRS, "seeds": SEEDS}, {"runoff": TABLE, "note": TEXT})
        if "runoff" in block:
            _check(block["runoff"], f"{where} runoff", {"best": COUNT, "seeds": SEEDS})
    else:
        _check(block, where, {**common, "candidates": TEXTS}, {"rates": TEXT})


def check(plan):
    """Raises ValueError if the table, as tomllib reads it, is not that of a plan."""
    tables = {"training": TABLE, "search": TABLE, "final": TABLE, "tasks": TABLE, "schemes": TABLE, "blocks": TABLES}
    _check(plan, "the plan", tables, {"model": TEXT, "cut": TABLES})
    _check(plan["training"], "[training]", TRAINING)
    _check(plan["search"], "[search]", {"trials": COUNT, "seed": SEED}, {"handed_on": COUNT})
    _check(plan["final"], "[final]", {"seeds": SEEDS})
    for kind, of in (("tasks", lambda task, where: _check(task, where, {"window": COUNT})), ("schemes", _check_scheme)):
        _check(plan[kind], f"[{kind}]", {}, dict.fromkeys(plan[kind], TABLE))
        for name, table in plan[kind].items():
            of(table, f"[{kind}.{name}]")
    for i, block in enumerate(plan["blocks"]):
        _check_block(block, f"[[blocks]] {block.get('name', i + 1)}")
    for one in plan.get("cut", []):
        _check(one, "[[cut]]", {"what": TEXT, "why": TEXT})
