"""Makes docs/benchmarks.md, the pages and the pictures of docs/benchmarks from results.

    python3 bench/report/report.py build/bench/results                # a look at what script/bench has measured
    python3 bench/report/report.py build/bench/results --docs docs    # its results into docs/benchmarks, and the pages
    python3 bench/report/report.py --from docs/benchmarks             # the pages from the committed results
    python3 bench/report/report.py --from docs/benchmarks --check     # whether the pages agree with these results

The first prints who is faster and how the targets stand, and puts CSV files and pictures into RESULTS/numbers.
"""

import argparse
import pathlib
import sys

import collect
import details
import plots
from markdown import wrapped
from page import Page
from results import Results
from subpages import PAGES, all_scores


def pages(folder):
    """{path: text} of every page that the results in `folder` give."""
    results = Results(folder)
    texts = {folder.parent / "benchmarks.md": Page(results).write()}
    texts |= {folder / f"{name}.md": make(results) for name, make in PAGES.items()}
    return {path: wrapped(text) for path, text in texts.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=pathlib.Path, nargs="?", help="what the programs wrote")
    parser.add_argument("--docs", type=pathlib.Path, help="where benchmarks.md and benchmarks/ go")
    parser.add_argument("--from", dest="folder", type=pathlib.Path, metavar="FOLDER", help="the results as they are committed")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page does not agree with the results")
    arguments = parser.parse_args()
    if (arguments.results is None) == (arguments.folder is None) or (arguments.check and not arguments.folder):
        parser.error("either RESULTS or --from, and --check with the latter")
    if arguments.check:
        stale = [path for path, text in pages(arguments.folder).items() if not path.exists() or path.read_text() != text]
        sys.exit("".join(f"{path} does not agree with the results: report.py --from {arguments.folder}\n" for path in stale) or 0)
    folder = arguments.folder
    if not folder:
        folder = arguments.docs / "benchmarks" if arguments.docs else arguments.results / "numbers"
        collect.collect(arguments.results, folder)
    results = Results(folder)
    plots.draw(results, folder)
    if arguments.docs or arguments.folder:
        for path, text in pages(folder).items():
            path.write_text(text)
    print("\n\n".join((details.scores(all_scores(results)), details.verdicts(results), details.information(results))))


if __name__ == "__main__":
    main()
