"""What other pages take from the results: tables between two comments, and sentences that quote a figure."""

import itertools
import pathlib
import re
import tomllib

from analysis import BUDGETS, Mean, best_within
from analysis import shares as shares_of
from inference import Estimate
from markdown_text import TITLES, name_list, p_text, per_cent, points, rates_cell, table

QUOTES = pathlib.Path(__file__).resolve().parent / "quotes.toml"


def of_first_targets(plan, sections):
    """TaskResults of all tasks that have figures, for the first targets of the plan."""
    targets = plan.groups[0].candidates[0].targets
    return [sections[task, targets] for task in plan.tasks if sections[task, targets].entries]


def decisions(plan, of_tasks, pooled=()):
    """The best by budget and by task, and the best LoRA. The rows are budgets. `pooled`: of tasks with candidates on other
    targets too, which count there, but not in the mean of the tasks."""
    on_all = {one.task: one for one in pooled}
    columns = [(TITLES[one.task], on_all.get(one.task, one)) for one in of_tasks]
    if len(of_tasks) == len(plan.tasks) and len(of_tasks) > 1:
        columns.append(("Mean", Mean(of_tasks)))
    rows = []
    for part in BUDGETS:
        row = [f"1/{part}: {of_tasks[0].reference.trained // part:,}"]
        for _, results in columns:
            best = [best_within(results, part, is_lora) for is_lora in (False, True)]
            row.append("; ".join(f"{c.label()} {100 * results.shares[c].mean:.0f}" for c in best if c) or "not run")
        rows.append(row)
    return table(["parameters", *(title for title, _ in columns)], rows)


def on_several_tasks(of_tasks):
    """[(candidate, [its Entry, or None, of each task])] of those with figures on two tasks or more, by size."""
    by_candidate = {}
    for i, one in enumerate(of_tasks):
        for entry in one.entries:
            by_candidate.setdefault(entry.candidate, [None] * len(of_tasks))[i] = entry
    several = [(c, entries) for c, entries in by_candidate.items() if sum(map(bool, entries)) > 1]
    return sorted(several, key=lambda one: next(entry.trained for entry in one[1] if entry))


def shares(of_tasks):
    """Share of the reference's gain, by scheme and by task."""
    rows = []
    for candidate, entries in on_several_tasks(of_tasks):
        trained = next(entry.trained for entry in entries if entry)
        row = [candidate.label(), f"{100 * trained / of_tasks[0].reference.trained:.1f} %"]
        for one, entry in zip(of_tasks, entries):
            row.append(per_cent(one.shares[candidate]) if entry else "not run yet")
        rows.append(row)
    return table(["", "parameters of LoRA r = 8", *(TITLES[one.task].lower() for one in of_tasks)], rows)


def rates(of_tasks):
    """The rates of the other tables, by scheme and by task."""
    rows = []
    for candidate, entries in on_several_tasks(of_tasks):
        row = [candidate.label()]
        for entry in entries:
            if not entry:
                row.append("not run yet")
                continue
            row.append(rates_cell(entry))
        rows.append(row)
    return table(["", *(TITLES[one.task].lower() for one in of_tasks)], rows)


def put(text, name, content, page):
    """The page's text with what stands between two comments of that name made again."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{page} must have one line {begin} and one {end}; a table of the results goes between")
    return text[: text.index(begin)] + f"{begin}\n\n{content}\n\n" + text[text.index(end) :]


def with_tables(root, plan, of_tasks, pooled=()):
    """{path: text} of the pages with their tables made again."""
    of_pages = {
        "docs/choosing.md": {"decisions": lambda: decisions(plan, of_tasks, pooled), "rates": lambda: rates(of_tasks)},
        "docs/quality.md": {"shares": lambda: shares(of_tasks)},
    }
    pages = {}
    for page, tables in of_pages.items():
        text = (root / page).read_text()
        for name, make in tables.items():
            text = put(text, name, make() if of_tasks else "No task is done yet.", page)
        pages[root / page] = text
    return pages


def figures(of_tasks, confirmed=(), others=(), pooled=(), at_default=()):
    """{what a sentence writes in braces: the figure}: `TASK SCHEME r=RANK` is the share of the reference's gain in whole
    per cent, `mean SCHEME r=RANK` the mean of the tasks', `TASK SCHEME r=RANK loss` the test loss less that of the smallest
    LoRA which is no smaller, `TASK SCHEME r=RANK against SCHEME r=RANK` the p of the paired t-test, uncorrected, and `TASK SCHEME r=RANK less SCHEME r=RANK` the
    difference of the shares in points, with its interval, for `mean` too;
    `TASK above the frontier` and `TASK below the frontier` are the schemes that Holm's correction leaves there, or "none", and
    `TASK pooled above the frontier` those where all targets count.
    Of a confirmation `confirmed SCHEME r=RANK over SCHEME r=RANK` is how far a pair's first is ahead of its opponent, on the mean
    of the tasks, in points with the interval, `… p` its p after Holm's correction, `confirmed TASK SCHEME r=RANK over SCHEME
    r=RANK` the same of one task in whole points, and `confirmed TASK SCHEME r=RANK share`, of either of a pair, what it keeps in whole per
    cent; TASK may be `mean` there. Of `others`, TaskResults on other targets, `TASK TARGETS SCHEME r=RANK` is the share of the
    gain of LoRA r = 8 on the first targets, `TASK TARGETS SCHEME r=RANK own` of that on their own, and `… less` and `… against` compare with
    a scheme on the first targets. Of `at_default`, default_rates.OfCandidate, `default TASK SCHEME r=RANK` is the share at the
    default rates, and `default mean SCHEME r=RANK` what they lose on the mean of the tasks, in points with the interval."""
    mean = Mean(of_tasks)
    found = {f"mean {c.label()}": f"{100 * share.mean:.0f}" for c, share in mean.shares.items()}
    named = [("mean", mean), *((one.task, one) for one in of_tasks), *((f"{one.task} pooled", one) for one in pooled)]
    for name, results in named:
        sure = [(c, difference.mean) for c, (_, difference, p) in results.against_frontier.items() if p < 0.05]
        for where, sign in (("above", 1), ("below", -1)):
            names = name_list(c.label() for c, difference in sure if sign * difference > 0)
            found[f"{name} {where} the frontier"] = names or "none"
    for a, b in itertools.permutations(mean.candidates, 2):
        found[f"mean {a.label()} less {b.label()}"] = points(Estimate(mean.by_seed[a][seed] - mean.by_seed[b][seed] for seed in mean.by_seed[a]))
    for one in of_tasks:
        for c, share in one.shares.items():
            found[f"{one.task} {c.label()}"] = f"{100 * share.mean:.0f}"
        for pair in one.comparisons:
            found[f"{one.task} {pair.entry.candidate.label()} loss"] = f"{pair.difference.mean:.3f}"
        for a, b in itertools.permutations(one.entries, 2):
            difference = Estimate(one.by_seed[a.candidate][seed] - one.by_seed[b.candidate][seed] for seed in a.losses)
            found[f"{one.task} {a.candidate.label()} against {b.candidate.label()}"] = f"{difference.p:.2g}"
            found[f"{one.task} {a.candidate.label()} less {b.candidate.label()}"] = points(difference)
    for other in others:
        for one in (one for one in of_tasks if one.task == other.task):
            for entry in other.entries:
                name = f"{one.task} {other.targets} {entry.candidate.scheme} r={entry.candidate.rank}"
                by_seed = shares_of(entry, one.reference)
                found[name] = f"{100 * Estimate(by_seed.values()).mean:.0f}"
                found[f"{name} own"] = f"{100 * other.shares[entry.candidate].mean:.0f}"
                for c, theirs in one.by_seed.items():
                    difference = Estimate(by_seed[seed] - theirs[seed] for seed in by_seed)
                    found[f"{name} less {c.label()}"] = points(difference)
                    found[f"{name} against {c.label()}"] = f"{difference.p:.2g}"
    for one in at_default:
        for task, share in one.shares.items():
            found[f"default {task} {one.candidate.label()}"] = f"{100 * share.mean:.0f}"
        if one.mean:
            found[f"default mean {one.candidate.label()}"] = points(one.mean)
    for pair in (pair for one in confirmed for pair in one.pairs):
        name = f"{pair.candidate.label()} over {pair.opponent.label()}"
        found[f"confirmed {name}"] = points(pair.difference)
        found[f"confirmed {name} p"] = p_text(pair.p)
        for task, difference in pair.of_task.items():
            found[f"confirmed {task} {name}"] = f"{100 * difference.mean:+.0f}"
        for one in (pair.kept, pair.opponent_kept):
            for task, share in {**one.of_task, "mean": one.mean}.items():
                found[f"confirmed {task} {one.candidate.label()} share"] = f"{100 * share.mean:.0f}"
    return found


def quoted(sentence, found):
    """The sentence with its figures. `found`: figures()."""

    def figure(name):
        if name[1] not in found:
            raise ValueError(f"{QUOTES.name}: no figure of {name[1]}")
        return found[name[1]]

    return re.sub(r"\{(.*?)\}", figure, sentence)


def missing_quotes(root, text, *of):
    """What `text`, that of quotes.toml, wants on a page and the page does not say: [(page, sentence)]. Line breaks do not
    count. `of`: what figures() takes."""
    found, missing = figures(*of), []
    for one in tomllib.loads(text).get("quotes", []):
        sentence = quoted(one["text"], found)
        if " ".join(sentence.split()) not in " ".join((root / one["page"]).read_text().split()):
            missing.append((one["page"], sentence))
    return missing
