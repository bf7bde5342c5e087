"""Student's t against scipy 1.15 (stats.t, stats.ttest_rel, special.betainc) and values worked out by hand."""

import unittest

from inference import Estimate, holm, incomplete_beta, t_quantile, t_two_sided


class Inference(unittest.TestCase):
    def test_incomplete_beta_is_scipys(self):
        for a, b, x, value in ((2, 3, 0.4, 0.5248), (0.5, 2, 0.01, 0.1495), (15, 0.5, 0.99, 0.5860649647763355)):
            self.assertAlmostEqual(incomplete_beta(a, b, x), value, delta=1e-12)
        self.assertEqual((incomplete_beta(2, 3, 0), incomplete_beta(2, 3, 1)), (0, 1))

    def test_quantiles_are_scipys(self):
        for freedom, value in (
            (1, 12.706204736174694),
            (4, 2.7764451051977934),
            (9, 2.262157162798205),
            (30, 2.0422724563012378),
        ):
            self.assertAlmostEqual(t_quantile(freedom), value, delta=1e-9)

    def test_tails_are_scipys(self):
        for t, freedom, value in (
            (0.5, 4, 0.6433299631818633),
            (2.776, 4, 0.05002277831997642),
            (-10, 4, 0.000562003622715991),
            (3, 1, 0.20483276469913345),
            (50, 4, 9.57445365696969e-07),
        ):
            self.assertAlmostEqual(t_two_sided(t, freedom) / value, 1, delta=1e-10)
        self.assertEqual(t_two_sided(0, 4), 1)

    def test_an_interval_over_pairs_is_scipys(self):
        one, other = (0.11, 0.08, 0.15, 0.09, 0.12), (0.10, 0.085, 0.12, 0.07, 0.09)
        estimate = Estimate(a - b for a, b in zip(one, other))
        self.assertAlmostEqual(estimate.p, 0.06244960020616308, delta=1e-12)
        self.assertAlmostEqual(estimate.low, -0.0014168533299198233, delta=1e-12)
        self.assertAlmostEqual(estimate.high, 0.03541685332991981, delta=1e-12)

    def test_by_hand(self):
        estimate = Estimate([1, 2, 3])  # deviation 1, error 1/√3, t of 2 degrees 4.302653
        self.assertAlmostEqual(estimate.mean, 2)
        self.assertAlmostEqual(estimate.half, 4.302652729911275 / 3**0.5, delta=1e-9)

    def test_without_spread(self):
        self.assertEqual((Estimate([1, 1]).half, Estimate([1, 1]).p, Estimate([0, 0]).p), (0, 0, 1))
        with self.assertRaises(ValueError):
            Estimate([1])

    def test_holm_by_hand(self):
        # Sorted 0.01, 0.02, 0.04, 0.5: times 4, 3, 2, 1, never falling, at most 1.
        self.assertEqual(holm([0.04, 0.01, 0.5, 0.02]), [0.08, 0.04, 0.5, 0.06])
        self.assertEqual(holm([0.6, 0.7]), [1, 1])
        self.assertEqual(holm([]), [])


if __name__ == "__main__":
    unittest.main()
