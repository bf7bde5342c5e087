"""What follows from a plan: which runs, in which order, under which keys."""

import pathlib
import unittest

from plan import Candidate, Plan
from progress import Progress

TEXT = """
[training]
steps = 10
batch_tokens = 64
products = "f32"
evaluations = 2
schedule = "cosine"
warm_up = 0.05
weight_decay = 0.01
clip = 1.0
scaling = 1.0
[search]
trials = 3
seed = 9
[final]
seeds = [1, 2]
[tasks.code]
window = 16
[tasks.docstring]
window = 32
[schemes.lora]
start = { rate = 1e-2, b_over_a = 1 }
start_1 = { rate = 1e-1 }
[schemes.tl6]
start = { rate = 1e-3, uv_rate = 1e-1, b_over_a = 1 }
[schemes.vera]
start = { rate = 1e-1 }
[[blocks]]
name = "first"
tasks = ["code", "docstring"]
targets = "qkv"
candidates = ["lora:8", "tl6:4"]
[[blocks]]
name = "second"
tasks = ["code"]
targets = "qkv"
candidates = ["lora:1", "tl6:4", "vera:16"]
"""
# A confirmation, to be added to that.
AGAIN = """[[blocks]]
name = "again"
tasks = ["code"]
targets = "qkv"
seeds = [7, 8]
pairs = [["tl6:4", "lora:2"]]
"""
FIXED = {task: {"data": f"d-{task}", "model": "m"} for task in ("code", "docstring")}


def finish(progress, cell, loss=2.0):
    progress.results[cell.key] = {"select_loss": str(loss), "stage": cell.stage, "status": "ok"}


class PlanTest(unittest.TestCase):
    def setUp(self):
        self.plan = Plan(TEXT)

    def expect_refusals(self, text, changes):
        """Of the plan after each of the changes: (what is replaced where it is first, by what, what the error says)."""
        for old, new, part in changes:
            self.assertIn(old, text)
            with self.assertRaisesRegex(ValueError, part):
                Plan(text.replace(old, new, 1))

    def test_blocks_expand_in_order_and_a_candidate_comes_once(self):
        labels = [(group.task, [candidate.label() for candidate in group.candidates]) for group in self.plan.groups]
        first = ["lora r=8", "tl6 r=4"]
        self.assertEqual(labels, [("code", first), ("docstring", first), ("code", ["lora r=1", "vera r=16"])])

    def test_the_committed_plan_is_one(self):
        plan = Plan((pathlib.Path(__file__).parent / "plan.toml").read_text())
        self.assertIn(Candidate("lora", 8, "qkv"), plan.groups[0].candidates)
        self.assertGreaterEqual(len(plan.seeds), 5)
        for group in plan.groups:
            for candidate in group.candidates:
                self.assertTrue(candidate.default_rates or plan.axes(candidate))

    def test_rates_as_options_of_finetune(self):
        tl6, lora1, vera = Candidate("tl6", 4, "qkv"), Candidate("lora", 1, "qkv"), Candidate("vera", 16, "qkv")
        self.assertEqual(self.plan.start(tl6), (-24, -8, 0))
        self.assertEqual(self.plan.rates(tl6, (-24, -8, 4)), {"rate": 1e-3, "uv_rate": 0.1, "b_rate": 0.003162})
        self.assertEqual(self.plan.rates(lora1, self.plan.start(lora1)), {"rate": 0.1, "b_rate": 0.1})
        self.assertEqual(self.plan.rates(vera, self.plan.start(vera)), {"rate": 0.1})

    def test_default_rates_are_not_searched(self):
        block = 'name = "default"\ntasks = ["code"]\ntargets = "qkv"\nrates = "default"\ncandidates = ["tl6:4"]\n'
        plan = Plan(f"{TEXT}[[blocks]]\n{block}")
        progress = Progress(plan, FIXED, {})
        self.assertEqual(progress.counts(), {"search": [0, 18], "final": [0, 12 + 2]})
        default = Candidate("tl6", 4, "qkv", default_rates=True)
        cells = [cell for cell in progress.ready() if cell.candidate == default]
        self.assertEqual([(cell.stage, cell.seed) for cell in cells], [("final", 1), ("final", 2)])
        self.assertFalse({"rate", "uv_rate", "b_rate"} & dict(cells[0].settings).keys())
        self.expect_refusals(f"{TEXT}[[blocks]]\n{block}" + AGAIN, (
            ('rates = "default"', 'rates = "best"', 'default: rates may be "default"'),
            ('seeds = [7, 8]', 'seeds = [7, 8]\nrates = "default"', "again: unknown rates"),
        ))  # fmt: skip

    def test_pairs_run_with_seeds_of_their_own(self):
        pairs = 'name = "again"\ntasks = ["docstring", "code"]\ntargets = "qkv"\nseeds = [7, 8, 3]\npairs = [["tl6:4", "lora:2"]]\n'
        plan = Plan(TEXT + "[[blocks]]\n" + pairs)
        tl6, lora2 = Candidate("tl6", 4, "qkv"), Candidate("lora", 2, "qkv")
        self.assertEqual([(c.tasks, c.pairs, c.seeds) for c in plan.confirmations],
                         [(["docstring", "code"], [(tl6, lora2)], [7, 8, 3])])  # fmt: skip
        self.assertNotIn(lora2, plan.candidates("code"))
        self.assertEqual([plan.tasks_before("code", c) for c in (tl6, lora2)], [[], ["docstring"]])
        progress, order = Progress(plan, FIXED, {}), []
        while ready := progress.ready():
            order.append(ready[0])
            finish(progress, ready[0])
        # Three trials more for LoRA r = 2 on two tasks, and three seeds of two candidates on two tasks.
        self.assertEqual(progress.counts(), {"search": [18 + 6, 18 + 6], "final": [12 + 12, 12 + 12]})
        self.assertEqual(len({cell.key for cell in order}), 24 + 24)
        finals = [(cell.task, cell.candidate, cell.seed) for cell in order if cell.stage == "final"][12:]
        self.assertEqual(finals, [(t, c, s) for t in ("docstring", "code") for s in (7, 8, 3) for c in (tl6, lora2)])
        self.expect_refusals(TEXT + "[[blocks]]\n" + pairs, (
            ('["tl6:4", "lora:2"]', '["tl6:4"]', r"\[\[blocks\]\] again: pairs is .*, not one or more"),
            ('[["tl6:4", "lora:2"]]', "[]", "not one or more"),
            ("[7, 8, 3]", "[7, 8, 2]", "not be used elsewhere"),
            ("[7, 8, 3]", "[7, 8, 9]", "not be used elsewhere"),
            ("[7, 8, 3]", "[7, 8, 8]", "differ from each other"),
            ("[7, 8, 3]", "[7]", "two at least"),
            ('"lora:2"', '"lora"', "SCHEME:RANK"),
        ))  # fmt: skip

    def test_how_a_plan_is_written_changes_no_key(self):
        def keys(text):
            return [cell.key for cell in Progress(Plan(text), FIXED, {}).ready()]

        on_v = TEXT.replace("[schemes.vera]", '[schemes.vera]\ntrain = { scheme = "vera", layers = [1] }')
        self.assertEqual(keys(on_v), keys(on_v.replace('scheme = "vera", layers = [1]', 'layers = [1], scheme = "vera"')))
        self.assertEqual(keys(TEXT), keys(TEXT.replace("clip = 1.0", "clip = 1")))

    def test_a_scheme_may_be_another_on_some_modules(self):
        text = TEXT.replace("[schemes.tl6]", '[schemes.lora_v]\ntrain = { scheme = "lora", targets = ["v_proj"] }\ncurve = "some"\n'
                            "start = { rate = 1e-2 }\n[schemes.tl6]")  # fmt: skip
        plan = Plan(text)
        self.assertEqual([plan.trains_lora(Candidate(name, 1, "qkv")) for name in ("lora_v", "lora", "tl6")], [True, True, False])
        self.assertEqual(plan.in_picture(Candidate("lora_v", 1, "qkv")), ("some", "lora_v 1"))
        self.assertEqual(plan.in_picture(Candidate("tl6", 4, "qkv")), ("tl6", "4"))
        with self.assertRaisesRegex(ValueError, r"\[schemes.lora_v\] train: targets is \['w_proj'\], not one or more of q_proj, k_proj"):
            Plan(text.replace('"v_proj"', '"w_proj"'))

    def test_a_key_holds_all_that_decides_the_bits_and_nothing_else(self):
        candidate, point = Candidate("tl6", 4, "qkv"), (-24, -8, 0)
        key = lambda plan=self.plan, task="code", seed=1, point=point, candidate=candidate, **fixed: plan.cell(
            "final", task, candidate, seed, point, {**FIXED["code"], **fixed}
        ).key
        one_layer = 'train = { scheme = "tl6", layers = [1] }\nstart = { rate = 1e-3'
        one_layer = Plan(TEXT.replace("start = { rate = 1e-3", one_layer))
        self.assertEqual(
            dict(one_layer.cell("final", "code", candidate, 1, point, FIXED["code"]).settings)["layers"], [1]
        )
        on_v = 'train = { scheme = "tl6", targets = ["v_proj"] }\nstart = { rate = 1e-3'
        on_v = Plan(TEXT.replace("start = { rate = 1e-3", on_v))
        self.assertEqual(
            dict(on_v.cell("final", "code", candidate, 1, point, FIXED["code"]).settings)["targets"], ["v_proj"]
        )
        others = [key(plan=one_layer), key(plan=on_v), key(task="docstring"), key(seed=2), key(point=(-23, -8, 0)), key(candidate=Candidate("tl6", 8, "qkv")),
                  key(candidate=Candidate("tl6", 4, "all")), key(data="e"), key(model="n")]  # fmt: skip
        for old, new in (
            ("steps = 10", "steps = 11"),
            ("0.01", "0.02"),
            ('"f32"', '"bf16"'),
            ("window = 16", "window = 17"),
        ):
            others.append(key(plan=Plan(TEXT.replace(old, new, 1))))
        self.assertEqual(len({key(), *others}), 1 + len(others))
        for old, new in (
            ("trials = 3", "trials = 30"),
            ("seeds = [1, 2]", "seeds = [1, 2, 3]"),
            ('"first"', '"other"'),
        ):
            self.assertEqual(key(plan=Plan(TEXT.replace(old, new, 1))), key())

    def test_refusals(self):
        self.expect_refusals(TEXT, (
            ('"lora:8"', '"lora"', "SCHEME:RANK"),
            ('"tl6:4"', '"tl7:4"', "tl7:4"),
            ('["code", "docstring"]', '["poems"]', "tasks.poems"),
            ("seeds = [1, 2]", "seeds = [1, 9]", "must differ"),
            ("seeds = [1, 2]", "seeds = [1]", "two at least"),
            ("steps = 10\n", "", r"\[training\] lacks steps"),
            # What is misspelt would train something else.
            ("[schemes.vera]", "[schemes.vera]\ntrain = { layer = [1] }", r"\[schemes.vera\] train: unknown layer; there are scheme, targets, layers"),
            ("[schemes.vera]", '[schemes.vera]\ntrain = { targets = ["w_proj"] }', "train: targets is .*, not one or more of q_proj"),
            ("uv_rate = 1e-1", "uvrate = 1e-1", r"\[schemes.tl6\] start: unknown uvrate; there are rate, uv_rate, b_over_a"),
            ("start_1 =", "strat_1 =", r"\[schemes.lora\]: unknown strat_1"),
            ("{ rate = 1e-1 }", "{ rate = 0 }", "start_1: rate is 0, not a number above 0"),
            ("trials = 3", "trials = 3\nhanded_onn = 2", "unknown handed_onn"),
            ("clip = 1.0", "clip = 1.0\nstep = 3", r"\[training\]: unknown step"),
            ("steps = 10", 'steps = "10"', "steps is '10', not a whole number from 1"),
            ("window = 16", "windw = 16", r"\[tasks.code\]: unknown windw"),
            ('name = "second"', 'name = "second"\nseeds = [5, 6]', r"\[\[blocks\]\] second: unknown seeds"),
            ('name = "first"\n', "", r"\[\[blocks\]\] 1 lacks name"),
            ("[final]", "[finale]", "unknown finale"),
        ))  # fmt: skip


if __name__ == "__main__":
    unittest.main()
