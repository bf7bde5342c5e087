"""The search for rates on losses whose optimum is known."""

import math
import unittest

from search import best_of, interior_axes, moved, search, to_point, to_rates


def run(start, trials, loss):
    """(points tried, {point: loss}, batches) of a whole search."""
    losses, batches = {}, 0
    while True:
        wanted, tried = search(start, trials, losses)
        if not wanted:
            return tried, losses, batches
        batches += 1
        for point in wanted:
            assert point not in losses, "a point is tried twice"
            losses[point] = loss(point)


def bowl(*optimum):
    return lambda point: 2 + sum((p - o) ** 2 for p, o in zip(point, optimum)) / 100


class Search(unittest.TestCase):
    def test_rates_lie_on_a_grid_of_eighths_of_a_decade(self):
        self.assertEqual(to_point([1e-2, 0.3, 1]), (-16, -4, 0))
        self.assertEqual(to_rates((-16, -4, 0)), (0.01, 0.3162, 1.0))

    def test_finds_an_interior_optimum_on_each_number_of_axes(self):
        for optimum in ((7,), (-9, 3), (5, -6, 2)):
            tried, losses, _ = run((0,) * len(optimum), 60, bowl(*optimum))
            best = best_of(tried, losses)
            self.assertEqual(best, optimum)
            self.assertTrue(all(interior_axes(best, tried)))

    def test_a_far_optimum_is_not_called_interior(self):
        tried, losses, _ = run((0,), 4, bowl(100))
        best = best_of(tried, losses)
        self.assertEqual(best, (8,))  # 0, -4, 4, 8
        self.assertEqual(interior_axes(best, tried), [False])

    def test_interior_asks_for_both_sides_on_the_axis_itself(self):
        self.assertEqual(interior_axes((0, 0), [(0, 0), (-4, 0), (4, 0), (0, 4), (4, -4)]), [True, False])

    def test_never_spends_more_than_its_trials(self):
        for trials in range(1, 30):
            tried, losses, _ = run((0, 0, 0), trials, bowl(3, -2, 9))
            self.assertLessEqual(len(tried), trials)
            self.assertEqual(len(losses), len(tried))
            self.assertEqual(len(set(tried)), len(tried))

    def test_more_trials_go_on_where_fewer_ended(self):
        some, _, _ = run((0, 0), 7, bowl(9, -3))
        more, _, _ = run((0, 0), 12, bowl(9, -3))
        self.assertEqual(more[:7], some)

    def test_what_is_known_in_part_is_waited_for(self):
        losses = {(0,): 2.0}
        wanted, _ = search((0,), 9, losses)
        self.assertEqual(wanted, [(-4,), (4,)])
        losses[wanted[1]] = 1.0
        self.assertEqual(search((0,), 9, losses), ([(-4,)], [(0,)]))

    def test_runs_that_diverge_are_left(self):
        loss = lambda point: math.inf if point[0] > 2 else bowl(2)(point)
        tried, losses, _ = run((0,), 20, loss)
        self.assertEqual(best_of(tried, losses), (2,))
        tried, losses, _ = run((8,), 5, lambda point: math.inf)
        self.assertIsNone(best_of(tried, losses))

    def test_equal_losses_end(self):
        tried, losses, _ = run((0, 0), 50, lambda point: 1.0)
        self.assertEqual(best_of(tried, losses), (0, 0))
        self.assertLess(len(tried), 50)

    def test_moved(self):
        self.assertEqual(moved((1, 2, 3), 1, -4), (1, -2, 3))


if __name__ == "__main__":
    unittest.main()
