"""The tables of the page, one function for each group of measurements."""

from markdown import NAMES, table


def grid_section(results, group, build):
    """A table for each direction: share of the roofline, and times faster than the better peer."""
    rows = results.rows(group, build)
    tokens = sorted({r.T for r in rows})
    parts = []
    for backward in (False, True):
        cells = {}
        for r in (r for r in rows if r.backward == backward):
            scheme = r.name.split("/")[1]
            label = (scheme, r.d_in, r.d_out, r.r)
            cells.setdefault(label, {})[r.T] = f"{r['x.share'].median:.2f} · {r['x.vs_peer'].median:.2f}×"
        if not cells:
            continue
        head = ["backward" if backward else "forward", "r", *(f"T = {T}" for T in tokens)]
        body = []
        for (scheme, d_in, d_out, rank), of_tokens in sorted(cells.items()):
            shape = str(d_in) if d_in == d_out else f"{d_in} → {d_out}"
            name = shape if scheme == "tl6" else f"{scheme} {shape}"
            body.append([name, rank, *(of_tokens.get(T, "") for T in tokens)])
        parts.append(table(head, body))
    return "\n\n".join(parts)


def ratio_section(results, group, times, ratios):
    """Times and ratios of every row of a group, builds side by side."""
    builds = [b for b in results.builds() if results.rows(group, b)]
    if not builds:
        return ""
    columns = [*(f"{name}, µs" for name in times), *ratios]
    rows = {}
    for row in results.rows(group):
        numbers = [f"{row[f'us.{t}'].median:.4g}" for t in times]
        rows.setdefault(row.name, {})[row.build] = numbers + [row[f"x.{ratio}"] for ratio in ratios]
    blank = [""] * len(columns)
    head = [group, *(f"{NAMES[build]}: {column}" for build in builds for column in columns)]
    return table(head, [[name, *sum((by.get(b, blank) for b in builds), [])] for name, by in rows.items()])


def types_section(results, build):
    kinds = ("bfloat16", "half", "float_bfloat16", "float_half")
    head = [f"types ({NAMES[build]})", "float, µs", *(f"× {kind}" for kind in kinds), "float is bound by"]
    rows = [
        [r.name, f"{r['us.float'].median:.4g}", *(r[f"x.{kind}"] for kind in kinds),
         "memory" if r["memory_bound"] else "arithmetic"]
        for r in results.rows("types", build)
    ]  # fmt: skip
    return table(head, rows) if rows else ""


def batch_section(results, build):
    """A table for each kind of adapters: cost against one adapter, and times faster than a loop over adapters."""
    rows = results.rows("batch", build)
    parts = []
    for kind in ("tenants", "own"):
        cells = {}
        for row in (r for r in rows if r.name.startswith(kind)):
            figure = f"{row['x.vs_one'].median:.2f} · {row['x.vs_loop'].median:.2f}×"
            cells.setdefault((row.d_in, row.r, row.T, row.adapters), {})[row.threads] = (row, figure)
        body = []
        for (d, rank, tokens, adapters), of_threads in sorted(cells.items()):
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


def tenants_section(results):
    """What resident adapters take, from the counts and as measured."""
    rows = results.rows("tenants")[:8]  # the same in every build
    names = {"lora": "LoRA", "tl6": "TL6", "u_and_v": "TL6, A and B shared", "u": "the same without v"}
    lora = {row.r: row["numbers"] for row in rows if row.name.startswith("lora/")}
    head = ["a tenant has", "r", "its numbers", "of LoRA's", "heap", "resident", "measured with", "10,000 take", "shared by all"]
    body = [
        [names[row.name.split("/")[0]], row.r, bytes_text(row["numbers"]), f"{100 * row['numbers'] / lora[row.r]:.3g} %",
         bytes_text(row["heap"]), bytes_text(row["resident"]), f"{row['tenants']:.0f}",
         bytes_text(1e4 * row["heap"]), bytes_text(row["shared"]) if row["shared"] else "–"]
        for row in rows if row.r in lora
    ]  # fmt: skip
    return table(head, body) if body else ""


def peers_section(results):
    """A table for each direction; in each cell how many times faster than eager, and than PEFT's layer."""
    rows = results.rows("peers")
    if not rows:
        return "Not measured in this run."
    parts = []
    for direction in ("forward", "both"):
        cells = {}
        for r in (r for r in rows if r.name.split("/")[1] == direction):
            cells.setdefault((r.name.split("/")[2], r.d_in, r.r), {}).setdefault(r.T, {})[r.peer] = r["x.faster"].median
        tokens = sorted({T for of_tokens in cells.values() for T in of_tokens})
        body = [
            [scheme, d, rank, *(" · ".join(f"{x:.1f}×" for x in of_tokens.get(T, {}).values()) for T in tokens)]
            for (scheme, d, rank), of_tokens in sorted(cells.items())
        ]
        parts.append(table([direction, "d", "r", *(f"T = {T}" for T in tokens)], body))
    return "\n\n".join(parts)
