"""The beginning of the page: pictures, who is faster, the machine, targets."""

import pathlib

import scores
import verdicts
from markdown import NAMES, table
from results import NATIVE


def opening(drawn):
    """The pictures that say most."""
    parts = []
    if peers := next((name for name in drawn if name.startswith("peers")), None):
        parts.append(f"![times faster than each peer, every cell]({peers})\n\nEach point is a cell, each box the median and the "
                     "quartiles over the cells; above the line the library is faster. One thread, float32.")  # fmt: skip
    if "step.svg" in drawn:
        parts.append("![a training step beside PyTorch and PEFT](step.svg)\n\nA step of fine-tuning a small Llama, two threads: "
                     "[below](#a-training-step).")  # fmt: skip
    return "\n\n".join(parts)


def cpu_model():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def machine_section(results):
    context = results.contexts[results.builds()[0]]
    caches = ", ".join(f"L{c['level']} {c['type'].lower()} {c['size'] // 1024} KiB"
                       for c in context["caches"])  # fmt: skip
    lines = [
        f"{cpu_model()}, {context['num_cpus']} cores, {caches}. Measured on {context['date'][:10]}, on one core "
        "pinned, hot data unless it says cold.",
        "",
    ]
    for build in results.builds():
        c = results.contexts[build]
        lines.append(f"- {NAMES[build]}: {c['compiler']}, `{c['flags'].strip()}`, kernels `{c['kernels']}`, "
                     f"{c['rounds']} rounds")  # fmt: skip
    lines.append(f"- Eigen {context['eigen']}; OpenBLAS: {context['openblas']}")
    if results.peers:
        lines.append(f"- PyTorch {results.peers['torch']}, PEFT {results.peers['peft']}")
    return "\n".join(lines)


def limits_section(results):
    """The machine's peak and bandwidths, as every build reaches them."""
    head, rows = ["limit"], {}
    for build in results.builds():
        head.append(NAMES[build])
        for row in results.rows("machine", build):
            if row.name == "fma":
                figure = f"{row['GFLOP_per_s']:.0f} GFLOP/s"
            else:
                figure = f"{row['read_GB_per_s']:.0f} / {row['update_GB_per_s']:.0f} GB/s"
            kib = "" if row.name == "fma" else f", {row['KiB']:.0f} KiB: read / update"
            rows.setdefault(row.name + kib, []).append(figure)
    return table(head, [[name, *figures] for name, figures in rows.items()])


def native_builds(results):
    return [build for build in results.builds() if build in NATIVE]


def side_by_side(pairs, key):
    """[(build, one)] with both compilers' lines for one thing together."""
    order = list(dict.fromkeys(key(one) for _, one in pairs))
    return sorted(pairs, key=lambda pair: order.index(key(pair[1])))


def scores_section(results, section):
    """Against whom what is won and lost."""
    found = [(b, score) for b in native_builds(results) for score in scores.of_cells(results, b)]
    found = side_by_side(found, lambda score: (score.peer, score.what))
    found += [("gcc", s) for s in scores.of_training(section) + scores.of_engine(results.folder / "engine.csv")]
    head = "| against | at | build | times faster: median (quartiles) over the cells | won | even | lost | worst cell |"
    lines = [head, "|---|---|---|---|---:|---:|---:|---|"]
    for build, s in found:
        even = len(s.ratios) - s.won - s.lost
        lost = f"**{s.lost}**" if s.lost else "–"
        figure = s.over_cells if len(s.ratios) > 1 else s.ratios[s.worst]
        at = f"{s.ratios[s.worst].median:.2f} at {s.worst}" if len(s.ratios) > 1 else ""
        lines.append(f"| {s.peer} | {s.what} | {NAMES[build]} | {figure} | {s.won or '–'} | {even or '–'} | {lost} | {at} |")
    return "\n".join(lines)


def verdict_section(results, section):
    found = []
    for build in native_builds(results):
        for part in (verdicts.peer_verdicts, verdicts.memory_verdicts):
            found += [(build, v) for v in part(results, build)]
    found = side_by_side(found, lambda v: (v.what, v.target))
    engine = verdicts.engine_verdicts(results.folder / "engine.csv")
    found += [("gcc", v) for v in verdicts.training_verdicts(section) + engine]
    lines = ["| what | target | build | seen | |", "|---|---|---|---|---|"]
    for build, v in found:
        stands = v.stands.replace("MISSED", "**MISSED**")
        lines.append(f"| {v.what} | {v.target} | {NAMES[build]} | {v.seen} | {stands} |")
    return "\n".join(lines)


def information_section(results, section):
    found = [(b, one) for b in native_builds(results) for one in verdicts.information(results, b, section)]
    lines = ["| what | build | seen |", "|---|---|---|"]
    for build, (what, seen) in side_by_side(found, lambda one: one[0]):
        lines.append(f"| {what} | {NAMES[build]} | {seen} |")
    return "\n".join(lines)
