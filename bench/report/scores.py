"""Who is faster: against each baseline the configurations that are won and lost, of those that somebody uses (Row.is_target)."""

from markdown import thread_count
from results import Value

EVEN = 0.03  # a configuration is won or lost if its quartiles are both farther from 1 than this, on one side
CAREFUL = "the better of careful Eigen and OpenBLAS"
PLAIN = "a plain Eigen expression"
EAGER = "PyTorch eager"
PEFT = "PEFT's layer"

# (baseline, what, group of rows, the ratio's name, which rows)
CONTESTS = [
    (CAREFUL, "forward", "grid", "x.vs_peer", lambda r: not r.backward),
    (CAREFUL, "backward", "grid", "x.vs_peer", lambda r: r.backward),
    (PLAIN, "forward", "grid", "x.vs_naive", lambda r: not r.backward),
    (PLAIN, "backward", "grid", "x.vs_naive", lambda r: r.backward),
    (EAGER, "forward", "pytorch", "x.faster", lambda r: r.baseline == "eager" and not r.backward),
    (EAGER, "forward + backward", "pytorch", "x.faster", lambda r: r.baseline == "eager" and r.backward),
    (PEFT, "forward", "pytorch", "x.faster", lambda r: r.baseline == "peft" and not r.backward),
    (PEFT, "forward + backward", "pytorch", "x.faster", lambda r: r.baseline == "peft" and r.backward),
]


class Score:
    """Against one baseline, at one thing, by one build. `ratios`: {configuration: how many times the library is faster}."""

    def __init__(self, baseline, what, build, ratios):
        self.baseline, self.what, self.build, self.ratios = baseline, what, build, ratios
        self.won = sum(value.q1 > 1 + EVEN for value in ratios.values())
        self.lost = sum(value.q3 < 1 - EVEN for value in ratios.values())
        self.even = len(ratios) - self.won - self.lost
        self.over_all = Value.of([value.median for value in ratios.values()])
        self.worst = min(ratios, key=lambda name: ratios[name].median)

    @property
    def figure(self):
        """The median with the quartiles, over the configurations or, where there is one, over its rounds."""
        return self.over_all if len(self.ratios) > 1 else self.ratios[self.worst]


def of_modules(results, build):
    scores = []
    for baseline, what, group, key, chosen in CONTESTS:
        rows = [row for row in results.rows(group, build) if row.is_target and chosen(row)]
        if rows:
            scores.append(Score(baseline, what, build, {row.name: row[key] for row in rows}))
    return scores


def find(scores, baseline, what):
    return next((score for score in scores if (score.baseline, score.what) == (baseline, what)), None)


def of_training(results):
    """The toy's training step: LoRA against PEFT's, TL6 against VeRA."""
    found = {}
    for row in results.tables["train_step_table"]:
        if row["ratio"]:
            scheme, _, what = row["name"].rpartition(": ")
            value = Value(*(float(row[key]) for key in ("ratio_low", "ratio", "ratio_high")))
            found.setdefault(what, {})[scheme or what] = value
    return [Score("transformers + PEFT", f"training: {what}", "gcc", ratios) for what, ratios in found.items()]


def of_engine(results):
    """llama.cpp's time over the engine's, for a token and for what LoRA adds to it. The quartiles are the widest that those
    of both programs allow."""
    rows = results.engine

    def ratio(threads, adapter, column):
        (low, middle, high), (low_, middle_, high_) = (
            [float(rows[program, threads, adapter][column + part]) for part in ("_low", "", "_high")]
            for program in ("llama.cpp", "engine")
        )
        # Overheads are per cent of each program's own token.
        tokens = [float(rows[program, threads, "none"]["ms"]) for program in ("llama.cpp", "engine")]
        scale = tokens[0] / tokens[1] if column == "overhead" else 1
        return Value(scale * low / high_, scale * middle / middle_, scale * high / low_)

    both = [key[1:] for key in rows if key[0] == "llama.cpp" and ("engine", *key[1:]) in rows]
    name = lambda threads, adapter: f"{adapter.replace('lora ', 'r = ')}, {thread_count(threads)}"
    lora = sorted((key for key in both if key[1] != "none"), key=lambda key: (key[0], int(key[1].split()[1])))
    kinds = {
        "a token without adapter": {name(*key): ratio(*key, "ms") for key in both if key[1] == "none"},
        "a token with LoRA": {name(*key): ratio(*key, "ms") for key in lora},
        "what LoRA adds to a token": {name(*key): ratio(*key, "overhead") for key in lora},
    }
    return [Score("llama.cpp", what, "gcc", ratios) for what, ratios in kinds.items() if ratios]
