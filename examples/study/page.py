"""The text of docs/results.md and what draws its pictures; every figure comes from the plan and the CSV beside it."""

import default_rates
import pictures
from analysis import Mean, Pooled, TaskResults
from confirmations import Confirmed, picture, section
from markdown_text import TITLES, name_list, table
from progress import Progress
from tables import bar_text, budget_table, frontier_section, mean_table, pooled_table, task_table, verdict

ABOUT = {
    "code": "the next token of Eigen's headers",
    "docstring": "a Python function, and the first line of its docstring; loss on the answer",
    "translation": "messages of Django, English to German; loss on the answer",
}

TITLE = "# Which scheme suits which task\n"
HEAD = f"""{TITLE}
Written by `script/study report` from [results.csv](../examples/study/results/results.csv) and
[plan.toml](../examples/study/plan.toml). How it is measured and run again: [examples/study](../examples/study/README.md).
"""

HOW = """## How to read it

Every scheme and rank had its rates of A, B and of u, v searched on the select split, at most {trials} trials each,
LoRA included (the rates of its A and B apart, as in LoRA+). A trial is a whole run. On its first task a candidate's
search starts at the optimum of earlier trials, on the second and third at that of the task before. At the best rates it
then ran with {seeds} other seeds. {defaults}A seed fixes the order of the data and the random initialisation, so that runs of one
seed are a pair. Each was measured on the test split once, at the step with the best select loss.

- *Test loss* is in nats a token: the mean over seeds ± half its 95 % interval. *Gain* is the base model's test loss less that.
- *Share* is the gain in per cent of that of LoRA r = 8 with the same seed: the mean over seeds with its 95 % interval
  (Student's t).
- *Next larger LoRA* is the smallest LoRA on all modules of the table that is no smaller than the scheme. The difference is over
  the same pairs: below 0 the scheme's loss is lower.
- *Within a budget*: both were picked by these test results, so their difference is biased.
- *LoRA's frontier*: the best LoRA of at most the scheme's size, on all modules or on some. It is the best by the test losses that
  it is then compared by, which favours LoRA; it may be far smaller, which favours the scheme. The difference is in points of the
  share.
- *p* is of the paired t-test of one comparison, as its interval is; *Holm* corrects it for all comparisons of its table, each table
  by itself, and decides who is called worse or better. With {seeds} seeds and many comparisons it finds large differences alone:
  "not told apart" does not mean equal.
- A star: a better rate may lie beyond the tested range.
"""
DEFAULTS = """Where it also ran at `finetune`'s default rates, with the same seeds,
these are one more trial: the tables have the rates with the lower mean select loss (‡: the default). """
# Of this project's own study.
GREW = """The plan grew as results came in, so most candidates were chosen with the test losses of others in view. That favours what
looks best here, LoRA's frontier and tied schemes alike. The confirmation has seeds of its own: it avoids the luck of
seeds, but not that of the test texts."""


def search_text(sections):
    """How sure the rates are that all else takes as given."""
    entries = [entry for of_task in sections for entry in of_task.searched.values()]
    close = sum(entry.lead < entry.select_deviation for entry in entries)
    return (
        f"**Intervals and p take the rates as given.** The search had one seed. In {close} of {len(entries)} searches the best rates led "
        "the next best by less than the standard deviation of one seed's select loss, so where a larger rank comes out worse than "
        "a smaller one of its scheme, it may be the search's doing."
    )


def targets_text(targets):
    return {"qkv": "q, k and v", "all": "all seven matrices"}[targets]


def targets_of(plan):
    return list(dict.fromkeys(candidate.targets for group in plan.groups for candidate in group.candidates))


def state_section(progress, sections):
    counts = progress.counts()
    done, planned = (sum(values) for values in zip(*counts.values()))
    text = f"**{done} of {planned} planned runs are done**: {counts['search'][0]} of the search, "
    text += f"{counts['final'][0]} with the final seeds."
    if not any(of_task.entries for of_task in sections):
        text += (
            " No task has LoRA r = 8, the reference, with all its seeds, so this page has no figures yet and supports no "
            "advice."
        )
    for of_task in sections:
        if of_task.no_gain:
            seeds = name_list(map(str, of_task.no_gain))
            text += f" On {TITLES[of_task.task].lower()}, {targets_text(of_task.targets)}, LoRA r = 8 gained nothing with seed {seeds}: no shares."
    return text


def schemes_table(plan):
    """What each name stands for, and the options of finetune train that have it."""
    rows = []
    for name, scheme in plan.schemes.items():
        train = scheme.get("train", {})
        options = f"--scheme {train.get('scheme', name)}"
        options += "".join(f" --{option} {','.join(map(str, train[option]))}" for option in ("targets", "layers") if option in train)
        rows.append([name, scheme.get("about", ""), f"`{options}`"])
    return table(["name", "what it is", "`finetune train`"], rows)


def data_table(about):
    rows = []
    for task, made in about.items():
        count = lambda kind: (
            " + ".join(str(made[kind][part]) for part in ("train", "select", "test")) if kind in made else ""
        )
        rows.append([f"{TITLES[task]}: {ABOUT[task]}", made["package"], count("files"), count("examples"),
                     f"{made['train_tokens']:,}", made["data"]])  # fmt: skip
    head = ["task", "made of", "files: train + select + test", "examples", "tokens in train", "hash"]
    return table(head, rows)


def cost_table(progress):
    rows = []
    for task in progress.plan.tasks:
        row = [TITLES[task]]
        for stage in ("search", "final"):
            mine = [r for r in progress.results.values() if (r["task"], r["stage"]) == (task, stage)]
            row += [
                len(mine),
                sum(r["status"] != "ok" for r in mine),
                f"{sum(float(r['cpu_seconds']) for r in mine) / 3600:.1f}",
            ]
        rows.append(row)
    made = table(["", "trials", "diverged", "processor hours", "final runs", "diverged", "processor hours"], rows)
    return made + "\n\nRuns that a change of the plan left unused are counted here, but nowhere else."


def arithmetic_text(progress):
    """How many kinds of rounding the results have; a task has one for each finetune, processor and library."""
    fixed, kinds = progress.fixed, {}
    rows = [row for row in progress.results.values() if fixed.get(row["task"]) == {name: row[name] for name in ("data", "model")}]
    for row in rows:
        kinds.setdefault(row["task"], {}).setdefault(row["arithmetic"], []).append(row)
    mixed = {task: of_task for task, of_task in kinds.items() if len(of_task) > 1}
    if not mixed:
        return ""
    counts = [f"{TITLES[task]} {' + '.join(str(len(runs)) for runs in of_task.values())}" for task, of_task in mixed.items()]
    text = f"Runs were made on machines, or with versions, that round differently: {', '.join(counts)}. Within one of these a "
    text += "run repeats to the bit; between two it differs by rounding, and a pair of one seed may have one of each. "
    for task, of_task in mixed.items():
        few = min(of_task.values(), key=len)
        finals = sorted({(row["scheme"], int(row["rank"]), int(row["seed"])) for row in few if row["stage"] == "final"})
        if finals:
            names = name_list(f"{scheme} r={rank} seed {seed}" for scheme, rank, seed in finals)
            text += f"On {TITLES[task].lower()} the final runs of the smaller part are {names}. "
    if any(row["commit"].endswith("-dirty") for row in rows):
        text += "Some runs were made with builds of uncommitted changes (`-dirty` in the CSV)."
    return text


def cut_section(progress, sections):
    lines = [f"- {one['what'][0].upper()}{one['what'][1:]}: {one['why']}." for one in progress.plan.cut]
    for of_task in sections:
        where = f"{TITLES[of_task.task]}, {targets_text(of_task.targets)}"
        if of_task.missing:
            names = name_list(c.label() for c in of_task.missing) if of_task.has_begun else "all candidates"
            lines.append(f"- Planned, but not finished: {where}: {names}.")
        if of_task.diverged:
            lines.append(
                f"- Diverged with a final seed or in all of its search, and left out of the tables: {where}: "
                + f"{name_list(c.label() for c in of_task.diverged)}."
            )
    for task, labels in default_rates.missing(progress).items():
        lines.append(f"- Planned, but not finished: {TITLES[task]}, at the default rates: {name_list(labels)}.")
    return "\n".join(lines) or "Nothing."


def limits(plan, about, model):
    """`model`: its name, unless it is what the file says."""
    first = next(iter(about.values()), {})
    types = f" ({first['model_types']})" if "model_types" in first else ""
    return (
        f"One model, {model or first.get('model_name', 'unknown')}{types}, {plan.training['steps']} steps of "
        f"{plan.training['batch_tokens']} tokens at most, products in {plan.training['products']}. Other sizes, longer "
        "runs and other families may order the schemes otherwise. The base has probably seen these packages before: the "
        "gains are those of getting used to a kind of text, not of learning it. A seed chooses which of the training texts are "
        "read, their order, and the draws; the select and test texts and the rates stay. So an interval says what another seed "
        "would give, not what another corpus would."
    )


def make_sections(plan, rows, about):
    """(Progress, {(task, targets): TaskResults})."""
    fixed = {task: {name: made[name] for name in ("data", "model")} for task, made in about.items()}
    progress = Progress(plan, fixed, rows)
    sections = {
        (task, targets): TaskResults(progress, task, targets) for targets in targets_of(plan) for task in plan.tasks
    }
    return progress, sections


def pooled_of(plan, sections):
    """Pooled, of each task with entries on the first targets and on others."""
    first = targets_of(plan)[0]
    tasks = [task for task in plan.tasks if sections[task, first].entries]
    pools = [[sections[task, targets] for targets in targets_of(plan) if sections[task, targets].entries] for task in tasks]
    return [Pooled(of_task) for of_task in pools if len(of_task) > 1]


def confirmed_of(progress, sections, targets):
    """Confirmed, for each of the plan's confirmations on these targets."""
    references = {one.task: one.reference for (_, of), one in sections.items() if of == targets and one.entries}
    return [Confirmed(progress, one, references) for one in progress.plan.confirmations if one.targets() == targets]


def make_page(progress, sections, about, head=HEAD):
    """(the page, {name of a picture: what draws it})."""
    plan = progress.plan
    parts, drawn = [head, state_section(progress, sections.values())], {}
    if any(of_task.entries for of_task in sections.values()):
        has_defaults = any(candidate.default_rates for group in plan.groups for candidate in group.candidates)
        parts.append(HOW.format(trials=plan.trials, seeds=len(plan.seeds), defaults=DEFAULTS if has_defaults else "").strip())
        parts.append(search_text(sections.values()))
        parts.append(GREW if head == HEAD else "")
    for targets in targets_of(plan):
        with_figures = [sections[task, targets] for task in plan.tasks if sections[task, targets].entries]
        mean = Mean(with_figures) if len(with_figures) == len(plan.tasks) else None
        if mean:
            name = f"mean-{targets}.svg"
            entries = [(*plan.in_picture(c), mean.trained[c], mean.shares[c]) for c in mean.candidates]
            drawn[name] = pictures.frontier(f"mean of tasks: {targets_text(targets)}, and fewer or other modules", entries, plan.curves())
            parts += [
                f"## The mean of the tasks: {targets_text(targets)}, and fewer or other modules",
                f"![frontier](results/{name})",
                mean_table(mean),
                bar_text(mean),
                budget_table(mean),
                frontier_section(mean),
            ]
        for i, confirmed in enumerate(confirmed_of(progress, sections, targets)):
            name = f"confirmation-{targets}-{i + 1}.svg"
            if confirmed.pairs:
                drawn[name] = picture(confirmed)
            parts.append(section(confirmed, name))
        parts.append(default_rates.section(plan, default_rates.of_plan(progress, sections, targets)))
        for of_task in with_figures:
            name = f"{of_task.task}-{targets}.svg"
            entries = [(*plan.in_picture(e.candidate), e.trained, of_task.shares[e.candidate])
                       for e in of_task.entries]  # fmt: skip
            drawn[name] = pictures.frontier(f"{TITLES[of_task.task]}: {targets_text(targets)}, and fewer or other modules", entries, plan.curves())
            parts += [f"## {TITLES[of_task.task]}: {targets_text(targets)}, and fewer or other modules",
                      f"The base's test loss is {of_task.reference.base:.4f}.",
                      f"![frontier](results/{name})", task_table(of_task), verdict(of_task),
                      budget_table(of_task), frontier_section(of_task)]  # fmt: skip
    for pooled in pooled_of(plan, sections):
        name = f"{pooled.task}-pooled.svg"
        first, others = targets_of(plan)[0], "on other modules"
        drawn_as = lambda c: plan.in_picture(c) if c.targets == first else (others, f"{c.scheme} {c.rank}")
        entries = [(*drawn_as(e.candidate), e.trained, pooled.shares[e.candidate]) for e in pooled.entries]
        drawn[name] = pictures.frontier(f"{TITLES[pooled.task]}, all targets", entries, [*plan.curves(), others])
        parts += [f"## {TITLES[pooled.task]}: all targets together",
                  f"Shares are of the gain of LoRA r = 8 on {targets_text(first)}. Candidates on others:",
                  pooled_table(pooled, first), f"![frontier](results/{name})",
                  budget_table(pooled), frontier_section(pooled)]  # fmt: skip
    if drawn:
        parts += ["## The schemes", schemes_table(plan)]
    if about:
        parts += ["## Data", data_table(about), "## What it cost", cost_table(progress), arithmetic_text(progress)]
    parts += ["## What was cut", cut_section(progress, sections.values()), "## Limits", limits(plan, about, plan.table.get("model") if head == HEAD else None)]
    return "\n\n".join(part.strip() for part in parts if part) + "\n", drawn
