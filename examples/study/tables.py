"""The tables of the page, of a task and of the mean of the tasks, and what they come to in words."""

from analysis import BUDGETS, REFERENCE, best_within
from inference import Estimate
from markdown_text import name_list, p_text, per_cent, points, rate_texts, table


def share_text(candidate, share):
    return "100" if (candidate.scheme, candidate.rank) == REFERENCE else per_cent(share)


def task_table(of_task):
    against = {one.entry.candidate: one for one in of_task.comparisons}
    head = [
        "",
        "parameters",
        "of LoRA r = 8, %",
        "rate of A",
        "rate of B",
        "rate of u, v",
        "test loss",
        "share, %",
        "next larger LoRA",
        "loss less its loss",
        "p",
        "Holm",
    ]
    rows = []
    for entry in of_task.entries:
        loss = Estimate(entry.losses.values())
        row = [entry.candidate.label(), f"{entry.trained:,}", f"{100 * entry.trained / of_task.reference.trained:.1f}"]
        row += [*rate_texts(entry), f"{loss.mean:.4f} ± {loss.half:.4f}"]
        row.append(share_text(entry.candidate, of_task.shares[entry.candidate]))
        if entry.candidate in against:
            one = against[entry.candidate]
            d = one.difference
            row += [f"r = {one.lora.candidate.rank}", f"{d.mean:+.4f} ({d.low:+.4f} to {d.high:+.4f})", p_text(d.p), p_text(one.p)]
        else:
            row += [""] * 4
        rows.append(row)
    return table(head, rows)


def pooled_table(pooled, first):
    """The candidates on other targets than the first."""
    rows = [
        [entry.candidate.label(), f"{entry.trained:,}", f"{100 * entry.trained / pooled.reference.trained:.1f}", per_cent(pooled.shares[entry.candidate])]
        for entry in pooled.entries
        if entry.candidate.targets != first
    ]  # fmt: skip
    return table(["", "parameters", "of LoRA r = 8, %", "share, %"], rows)


def mean_table(mean):
    head = ["", "parameters", "share, %", "next larger LoRA", "difference, % points", "p", "Holm"]
    rows = []
    for candidate in mean.candidates:
        row = [candidate.label(), f"{mean.trained[candidate]:,}", share_text(candidate, mean.shares[candidate])]
        if candidate in mean.differences:
            lora, d = mean.differences[candidate]
            row += [f"r = {lora.rank}", points(d), p_text(d.p), p_text(mean.p[candidate])]
        else:
            row += [""] * 4
        rows.append(row)
    return table(head, rows)


def bar_text(mean):
    """How the schemes stand to what the project reaches for: LoRA's gain for a part of its parameters."""
    reference = next(c for c in mean.candidates if (c.scheme, c.rank) == REFERENCE)
    small = [c for c in mean.candidates if 8 * mean.trained[c] <= mean.trained[reference]]
    if not small:
        return ""
    kept = [f"{c.label()}, {per_cent(mean.shares[c])} %" for c in small if mean.shares[c].mean >= 0.95]
    best = max(small, key=lambda c: mean.shares[c].mean)
    text = "With an eighth of the trainable parameters of LoRA r = 8 or fewer, the mean over the seeds is 95 % of its gain or more for "
    text += f"{name_list(kept)}. " if kept else f"no scheme here; the most is {best.label()}'s, {per_cent(mean.shares[best])} %. "
    pairs = [c for c in mean.differences if mean.differences[c][0].rank <= 4]
    better = [c for c in pairs if mean.p[c] < 0.05 and mean.differences[c][1].mean > 0]
    worse = [c for c in pairs if mean.p[c] < 0.05 and mean.differences[c][1].mean < 0]
    text += "Of the schemes up to the size of LoRA r = 4, against LoRA on all modules of equal or larger size (p < 0.05 after Holm's "
    text += f"correction): {len(worse)} lose, {len(better)} win, {len(pairs) - len(worse) - len(better)} are not told apart."
    return text


def verdict(of_task):
    """Who loses, who wins and what the seeds do not tell apart, the losses first."""
    losers, winners, undecided = [], [], []
    for one in of_task.comparisons:
        size = 100 * one.entry.trained / one.lora.trained
        name = f"{one.entry.candidate.label()} ({one.difference.mean:+.4f} with {size:.0f} % of its parameters)"
        (undecided if one.p >= 0.05 else losers if one.difference.mean > 0 else winners).append(name)
    texts = []
    if losers:
        texts.append(f"**Worse than the next larger LoRA:** {name_list(losers)}.")
    if winners:
        texts.append(f"**Better than the next larger LoRA:** {name_list(winners)}.")
    if undecided:
        which = "The other schemes compared are" if texts else "No scheme compared is"
        texts.append(f"{which} {'not ' if texts else ''}told apart from the next larger LoRA by these seeds.")
    return "\n\n".join(texts)


def budget_table(results):
    """Of a task or of the mean: the best scheme that is not LoRA against the best LoRA, within each budget."""
    rows = []
    for part in BUDGETS:
        scheme, lora = (best_within(results, part, is_lora) for is_lora in (False, True))
        if scheme and lora:
            ours, theirs = results.by_seed[scheme], results.by_seed[lora]
            difference = Estimate(ours[seed] - theirs[seed] for seed in ours)
            rows.append([f"1/{part}", scheme.label(), per_cent(results.shares[scheme]), lora.label(),
                         per_cent(results.shares[lora]), points(difference), p_text(difference.p)])  # fmt: skip
    if not rows:
        return ""
    head = ["budget", "best other than LoRA", "share, %", "best LoRA", "share, %", "difference, % points", "p"]
    return "**Within a budget**, a part of LoRA r = 8's parameters:\n\n" + table(head, rows)


def frontier_section(results):
    """Of a task or of the mean: each scheme against the best LoRA of at most its size."""
    missing = [lora.label() for lora in results.loras if lora not in results.shares]
    lacks = f"Planned here, not finished, and would count: {name_list(missing)}." if missing else ""
    if not results.against_frontier:
        return lacks and f"**LoRA's frontier:** no scheme has a LoRA of its size or smaller here. {lacks}"
    rows, lists = [], {"below": [], "above": []}
    for candidate, (lora, difference, p) in results.against_frontier.items():
        rows.append([candidate.label(), f"{results.trained[candidate]:,}", lora.label(), f"{results.trained[lora]:,}",
                     points(difference), p_text(difference.p), p_text(p)])  # fmt: skip
        if p < 0.05:
            lists["above" if difference.mean > 0 else "below"].append(candidate.label())
    it = "what has run of it" if missing else "it"
    found = "; ".join(f"{where} {it} {name_list(names)}" for where, names in lists.items() if names)
    text = f"**LoRA's frontier:** {found or 'no scheme is told apart from it'}. {lacks}".strip()
    return f"{text}\n\n" + table(["", "parameters", "best LoRA", "parameters", "difference, % points", "p", "Holm"], rows)
