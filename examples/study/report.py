"""Makes docs/results.md and its pictures, and the tables of other pages, from the plan and the CSV."""

import pathlib
import shutil
import tempfile

import default_rates
import excerpts
import pictures
import results
from page import TITLE, confirmed_of, make_page, make_sections, pooled_of, targets_of

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESULTS = pathlib.Path(__file__).resolve().parent / "results"


def read_folder(folder, plan):
    """(rows, what the manifest says of each task) of a folder of results."""
    for name in ("manifest.json", "results.csv"):
        if not (folder / name).exists():
            made_by = "report --work" if folder == RESULTS else "run"
            raise ValueError(f"{folder / name} does not exist; script/study {made_by} makes it")
    about = results.read_json(folder / "manifest.json")
    return results.read(folder / "results.csv"), {task: about[task] for task in plan.tasks if task in about}


def of_own_study(options, plan):
    """The page and pictures of a work folder, in a folder of one's own."""
    if not options.work or options.check:
        raise ValueError("--page needs --work, the folder with the results, and takes no --check")
    rows, about = read_folder(options.work, plan)
    progress, sections = make_sections(plan, rows, about)
    page, drawn = make_page(progress, sections, about, TITLE)
    for name, one in drawn.items():
        (options.page / "results").mkdir(parents=True, exist_ok=True)
        pictures.draw(options.page / "results" / name, one)
    options.page.mkdir(parents=True, exist_ok=True)
    results.write_whole(options.page / "results.md", page)
    print(f"{options.page / 'results.md'}: {len(drawn)} pictures")
    return 0


def command(options, plan):
    if options.page:
        return of_own_study(options, plan)
    if options.work and options.check:
        raise ValueError("--check compares the pages with the committed results; leave out --work")
    rows, about = read_folder(options.work or RESULTS, plan)
    progress, sections = make_sections(plan, rows, about)
    page, drawn = make_page(progress, sections, about)
    path = ROOT / "docs" / "results.md"
    of_tasks = excerpts.of_first_targets(plan, sections)
    pooled = pooled_of(plan, sections)
    pages = {path: page, **excerpts.with_tables(ROOT, plan, of_tasks, pooled)}
    confirmed = confirmed_of(progress, sections, targets_of(plan)[0])
    others = [one for (_, targets), one in sections.items() if targets != targets_of(plan)[0] and one.entries]
    at_default = default_rates.of_plan(progress, sections, targets_of(plan)[0])
    quotes = excerpts.missing_quotes(ROOT, excerpts.QUOTES.read_text(), of_tasks, confirmed, others, pooled, at_default)
    for where, sentence in quotes:
        print(f"{where} must say: {sentence}")
    if options.check:
        old = [one for one in pages if not one.exists() or one.read_text() != pages[one]]
        for one in old:
            print(f"{one.relative_to(ROOT)} is out of date: run script/study report")
        if not old and not quotes:
            print("docs/results.md, and what other pages take from it, are what the results give")
        return 1 if old or quotes else 0
    if options.work:  # what was read: a study that runs may have added to it meanwhile
        results.write_whole(RESULTS / "results.csv", results.to_text(rows))
        results.write_json(RESULTS / "manifest.json", about)
    with tempfile.TemporaryDirectory() as made:  # the old ones stay where drawing fails
        for name, one in drawn.items():
            pictures.draw(pathlib.Path(made) / name, one)
        folder = ROOT / "docs" / "results"
        shutil.rmtree(folder, ignore_errors=True)
        for name in drawn:
            folder.mkdir(exist_ok=True)
            shutil.copy(pathlib.Path(made) / name, folder)
    for one, text in pages.items():
        results.write_whole(one, text)
    print(f"{path}: {len(drawn)} pictures")
    return 1 if quotes else 0
