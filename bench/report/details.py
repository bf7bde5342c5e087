"""The long tables, one function for each group of measurements."""

import fits
import targets
from markdown import NAMES, table, thread_count


def grid(results, group, build):
    """A table for each direction: share of the roofline, and times as fast as the better baseline."""
    rows = results.rows(group, build)
    tokens = sorted({r.T for r in rows})
    parts = []
    for backward in (False, True):
        lines = {}
        for r in (r for r in rows if r.backward == backward):
            scheme = r.name.split("/")[1]
            label = (scheme, r.d_in, r.d_out, r.r)
            lines.setdefault(label, {})[r.T] = f"{r['x.share'].median:.2f} · {r['x.vs_peer'].median:.2f}×"
        if not lines:
            continue
        head = ["backward" if backward else "forward", "r", *(f"T = {T}" for T in tokens)]
        body = []
        for (scheme, d_in, d_out, rank), of_tokens in sorted(lines.items()):
            shape = str(d_in) if d_in == d_out else f"{d_in} → {d_out}"
            name = shape if scheme == "tl6" else f"{scheme} {shape}"
            body.append([name, rank, *(of_tokens.get(T, "") for T in tokens)])
        parts.append(table(head, body))
    return "\n\n".join(parts)


RATIOS = {"tied_faster": "times as fast tied", "faster": "times as fast", "slower": "odd over round"}


def ratios(results, group, times, ratios):
    """Times and ratios of every row of a group, builds side by side."""
    builds = [b for b in results.builds() if results.rows(group, b)]
    if not builds:
        return ""
    columns = [*(f"{name}, µs" for name in times), *(RATIOS.get(ratio, ratio) for ratio in ratios)]
    rows = {}
    for row in results.rows(group):
        numbers = [f"{row[f'us.{t}'].median:.4g}" for t in times]
        rows.setdefault(row.name, {})[row.build] = numbers + [row[f"x.{ratio}"] for ratio in ratios]
    blank = [""] * len(columns)
    head = ["configuration", *(f"{NAMES[build]}: {column}" for build in builds for column in columns)]
    return table(head, [[name, *sum((by.get(b, blank) for b in builds), [])] for name, by in rows.items()])


def types(results, build):
    kinds = ("bfloat16", "half", "float_bfloat16", "float_half")
    heads = ("bfloat16", "half", "bfloat16 activations", "half activations")
    head = [f"configuration ({NAMES[build]})", "float, µs", *heads, "float is bound by"]
    rows = [
        [r.name, f"{r['us.float'].median:.4g}", *(r[f"x.{kind}"] for kind in kinds),
         "memory" if r["memory_bound"] else "arithmetic"]
        for r in results.rows("types", build)
    ]  # fmt: skip
    return table(head, rows) if rows else ""


def batch(results, build):
    """A table for each kind of adapters: cost against one adapter, and times as fast as a loop over adapters."""
    rows = results.rows("batch", build)
    parts = []
    for kind in ("tenants", "own"):
        lines = {}
        for row in (r for r in rows if r.name.startswith(kind)):
            figure = f"{row['x.vs_one'].median:.2f} · {row['x.vs_loop'].median:.2f}×"
            lines.setdefault((row.d_in, row.r, row.T, row.adapters), {})[row.threads] = (row, figure)
        body = []
        for (d, rank, tokens, adapters), of_threads in sorted(lines.items()):
            row = next(iter(of_threads.values()))[0]
            figures = [of_threads[t][1] if t in of_threads else "" for t in (1, 2)]
            plan = f"{row['us.plan'].median:.2g}"
            body.append([d, rank, tokens, adapters, f"{row['us.batch'].median:.4g}", *figures, plan])
        if body:
            title = "one A and B, own u and v" if kind == "tenants" else "own A, B, u and v"
            head = [f"{title} ({NAMES[build]}): width", "r", "tokens", "adapters", "µs", "one thread", "two threads", "plan, µs"]
            parts.append(table(head, body))
    return "\n\n".join(parts)


def bytes_text(count):
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} bytes"


TENANTS = {"lora": "LoRA", "tl6": "TL6", "u_and_v": "TL6, A and B shared", "u": "the same without v"}


def tenants(results):
    """What resident adapters take, from the counts and as measured."""
    rows = results.rows("tenants")[:8]  # the same in every build
    lora = {row.r: row["numbers"] for row in rows if row.name.startswith("lora/")}
    head = ["a tenant has", "r", "its parameters", "of LoRA's", "heap", "resident", "measured with", "10,000 take", "shared by all"]
    body = [
        [TENANTS[row.name.split("/")[0]], row.r, bytes_text(row["numbers"]), f"{100 * row['numbers'] / lora[row.r]:.3g} %",
         bytes_text(row["heap"]), bytes_text(row["resident"]), f"{row['tenants']:.0f}",
         bytes_text(1e4 * row["heap"]), bytes_text(row["shared"]) if row["shared"] else "–"]
        for row in rows if row.r in lora
    ]  # fmt: skip
    return table(head, body) if body else ""


def pytorch(results):
    """A table for each direction: how many times as fast as eager, and as PEFT's layer."""
    rows = results.rows("pytorch")
    if not rows:
        return "Not measured in this run."
    parts = []
    for direction, title in (("forward", "forward"), ("both", "forward + backward")):
        lines = {}
        for r in (r for r in rows if r.name.split("/")[1] == direction):
            lines.setdefault((r.name.split("/")[2], r.d_in, r.r), {}).setdefault(r.T, {})[r.baseline] = r["x.faster"].median
        tokens = sorted({T for of_tokens in lines.values() for T in of_tokens})
        body = [
            [scheme, d, rank, *(" · ".join(f"{x:.1f}×" for x in of_tokens.get(T, {}).values()) for T in tokens)]
            for (scheme, d, rank), of_tokens in sorted(lines.items())
        ]
        parts.append(table([title, "d", "r", *(f"T = {T}" for T in tokens)], body))
    return "\n\n".join(parts)


def limits(results):
    """The machine's peak and bandwidths, as every build reaches them."""
    head, rows = ["limit"], {}
    for build in results.builds():
        head.append(NAMES[build])
        for row in results.rows("machine", build):
            if row.name == "fma":
                name, figure = "multiply-add", f"{row['GFLOP_per_s']:.0f} GFLOP/s"
            else:
                name = f"{row.name}, {row['KiB']:.0f} KiB: read / update"
                figure = f"{row['read_GB_per_s']:.0f} / {row['update_GB_per_s']:.0f} GB/s"
            rows.setdefault(name, []).append(figure)
    return table(head, [[name, *figures] for name, figures in rows.items()])


def scores(found):
    """[(build, score)]: against whom what is won and lost."""
    body = []
    for build, s in found:
        lost = f"**{s.lost}**" if s.lost else "–"
        at = f"{s.ratios[s.worst].median:.2f} at {s.worst}" if len(s.ratios) > 1 else ""
        body.append([s.baseline.removeprefix("the ").removeprefix("a "), s.what, NAMES[build], s.figure, s.won or "–",
                     s.even or "–", lost, at])  # fmt: skip
    head = ["against", "at", "build", "times as fast: median (quartiles)", "won", "even", "lost", "worst configuration"]
    return table(head, body, 3)


def side(row, name):
    """'1684 (1671–1696) ms'"""
    text = row[name]
    if text and row[f"{name}_low"]:
        text += f" ({row[f'{name}_low']}–{row[f'{name}_high']})"
    return f"{text} {row['unit']}".strip() if text else ""


def ratio(row):
    return row["ratio"] + (f" ({row['ratio_low']}–{row['ratio_high']})" if row["ratio_low"] else "")


def comparison(rows, theirs):
    """Rows of a training table."""
    body = []
    for row in rows:
        other = side(row, "theirs")
        name = row["baseline"].replace("torch", "PyTorch").replace("avx2 ", "").replace("checkpoint", "with recomputation")
        body.append([row["name"], side(row, "ours"), f"{other}, {name}" if other and name else other or name,
                     ratio(row), row["target"], row["verdict"]])  # fmt: skip
    return table(["", "tiedlora", theirs, "ratio", "target", ""], body, 3)


def peaks(results):
    rows = results.tables["train_step_memory"]
    shapes = list(dict.fromkeys(row["tokens"] for row in rows))
    lines = {}
    for row in rows:
        lines.setdefault(row["program"], []).extend([row["mib"], row["mib_recomputed"]])
    head = ["peak memory, MiB", *(text for shape in shapes for text in (f"{shape} tokens", "with recomputation"))]
    name = lambda key: key.replace("torch", "PyTorch,") if key.startswith("torch") else f"tiedlora, {key.replace('f32', 'float32')}"
    return table(head, [[name(key), *figures] for key, figures in lines.items()])


def growth(results):
    names = {"none": "step without adapter"}
    body = [
        [axis, names.get(column, column if "share" in column else f"{column} step"),
         f"{a:.2f} + {b:.4g}·{axis}", f"{100 * off:.0f} %"]
        for axis, column, a, b, off in fits.lines(results.growth)
    ]  # fmt: skip
    return table(["over", "of", "line, ms", "farthest"], body, 2)


def engine(results):
    rows = results.engine
    spread = lambda row, key: f"{float(row[key]):.1f} ({float(row[key + '_low']):.1f}–{float(row[key + '_high']):.1f})"
    body = []
    for threads in sorted({key[1] for key in rows}):
        bare = [f"{spread(rows[program, threads, 'none'], 'ms')} ms" for program in ("engine", "llama.cpp")]
        body.append([thread_count(threads), "none", bare[0], "", bare[1]])
        for rank in (8, 16, 32):
            figures = [f"+ {spread(rows[program, threads, f'{scheme} {rank}'], 'overhead')} %" for program, scheme in
                       (("engine", "lora"), ("engine", "tl6"), ("llama.cpp", "lora"))]  # fmt: skip
            body.append([thread_count(threads), rank, *figures])
    return table(["threads", "r", "engine, LoRA", "engine, TL6", "llama.cpp, LoRA"], body)


def verdicts(results):
    body = [
        [v.what.removeprefix("the "), v.target, NAMES[build], v.seen, f"**{v.stands}**" if v.is_missed else v.stands]
        for build, v in targets.every(results)
    ]
    return table(["what", "target", "build", "measured", ""], body, 5)


def information(results):
    found = [(b, one) for b in results.native_builds() for one in targets.information(results, b)]
    body = [[what, NAMES[build], seen] for build, (what, seen) in targets.side_by_side(found, lambda one: one[0])]
    return table(["what", "build", "measured"], body, 3)
