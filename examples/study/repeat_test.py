"""What a run in PyTorch takes over from finetune: the order of the examples, the draws, the schedule."""

import unittest

import repeat
from plan import Plan
from plan_test import TEXT


class Repeat(unittest.TestCase):
    def test_bits_are_those_of_splitmix64(self):
        # The first outputs of the published generator with the seed 0, which adds its constant before each.
        constant = 0x9E3779B97F4A7C15
        expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
        self.assertEqual([repeat.mix(i * constant & repeat.MASK) for i in range(3)], expected)

    def test_draws_are_uniform(self):
        values = repeat.uniform(7, 4096)
        self.assertTrue(all(-1 <= value < 1 for value in values))
        # The mean has a standard deviation of 1 / √(3·4096) = 0.009, that of squares one of √(4/45 / 4096) = 0.0047.
        self.assertLess(abs(sum(values) / 4096), 4 * 0.009)
        self.assertLess(abs(sum(value * value for value in values) / 4096 - 1 / 3), 4 * 0.0047)

    def test_an_order_for_each_seed_and_epoch(self):
        orders = [repeat.epoch_order(50, seed, epoch) for seed in (1, 2) for epoch in (0, 1)]
        for order in orders:
            self.assertEqual(sorted(order), list(range(50)))
        self.assertEqual(len({tuple(order) for order in orders}), 4)

    def test_batches_are_filled_and_begin_again(self):
        examples = [(list(range(n)), 1) for n in (3, 4, 5, 6)]  # predict 2, 3, 4 and 5 tokens: 14
        feed = repeat.batches(examples, 5, seed=1)
        seen = []
        while sum(len(batch) for batch in seen) < 8:
            seen.append(next(feed))
        for batch in seen:
            self.assertLessEqual(sum(len(tokens) - 1 for tokens, _ in batch), 5)
        lengths = [len(tokens) for batch in seen for tokens, _ in batch]
        self.assertEqual(sorted(lengths[:4]), [3, 4, 5, 6])
        self.assertEqual(sorted(lengths[4:]), [3, 4, 5, 6])

    def test_what_a_row_trains(self):
        plan = Plan(
            TEXT + '[schemes.lora_down]\nstart = { rate = 1e-2 }\ntrain = { scheme = "lora", targets = ["down_proj", "v_proj"], layers = [3] }\n'
        )
        of = lambda scheme, targets: repeat.what_trains({"scheme": scheme, "targets": targets}, plan)
        self.assertEqual(of("lora_down", "qkv"), ("lora", ["v_proj", "down_proj"], [3]))
        self.assertEqual(of("tl6", "qkv"), ("tl6", ["q_proj", "k_proj", "v_proj"], None))
        self.assertEqual(len(of("lora", "all")[1]), 7)

    def test_the_schedule(self):
        factors = [repeat.rate_factor(step, 60, 3) for step in range(60)]
        self.assertEqual(factors[:4], [0.25, 0.5, 0.75, 1.0])
        self.assertAlmostEqual(factors[-1], 0.1)
        self.assertAlmostEqual(factors[31], 0.1 + 0.45)  # half way between steps 3 and 59
        self.assertEqual(factors[3:], sorted(factors[3:], reverse=True))


if __name__ == "__main__":
    unittest.main()
