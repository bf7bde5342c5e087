"""The splits: whole files, shares, and near-copies on one side."""

import hashlib
import unittest

from splits import PARTS, allot, jaccard, shingles, split_examples, split_texts


class Splits(unittest.TestCase):
    def test_allots_by_what_is_lacking(self):
        sizes = {f"f{i:02}": 100 + i for i in range(40)}
        parts = allot(sizes)
        total = sum(sizes.values())
        for part, share in (("train", 0.7), ("select", 0.1), ("test", 0.2)):
            self.assertAlmostEqual(sum(sizes[f] for f in parts if parts[f] == part) / total, share, delta=0.03)
        self.assertEqual(allot(dict(reversed(sizes.items()))), parts)

    def test_jaccard_by_hand(self):
        self.assertEqual(jaccard({1, 2, 3}, {2, 3, 4}), 0.5)
        self.assertEqual(jaccard(set(), set()), 0)
        self.assertEqual(shingles("A, b!\n c"), {"a b c"})

    def test_near_copies_of_files_stay_together(self):
        line = "a line of file number {} which is line {} of it"
        texts = {f"f{i}": "\n".join(line.format(i, k) for k in range(20)) for i in range(20)}
        for i in range(0, 20, 2):  # nearly the file before it
            texts[f"g{i}"] = texts[f"f{i}"].replace("line 3 of it", "line three of it")
        parts = split_texts(texts)
        part_of = {name: part for part in PARTS for name in parts[part]}
        self.assertEqual(len(part_of), len(texts))
        for i in range(0, 20, 2):
            self.assertEqual(part_of[f"f{i}"], part_of[f"g{i}"])
        self.assertTrue(all(parts[part] for part in PARTS))

    def test_examples_like_those_of_a_later_part_are_left_out(self):
        own = lambda file, i: (hashlib.sha256(f"{file} {i}".encode()).hexdigest(), f"answer {file} {i}")
        files = {f"f{k}": [own(k, i) for i in range(10)] for k in range(10)}
        first = split_examples(files)
        test_question, test_answer = first["test"][0]
        part_of = {q: part for part in PARTS for q, _ in first[part]}
        train_file = next(f for f in files if part_of.get(files[f][0][0]) == "train")
        files[train_file][1] = ("!" + test_question, "another answer")  # the same but for a sign
        files[train_file][2] = ("something else altogether, of no one's", test_answer)
        second = split_examples(files)
        self.assertEqual(second["test"], first["test"])
        train = second["train"]
        self.assertNotIn(("!" + test_question, "another answer"), train)
        self.assertNotIn(test_answer, [answer for _, answer in train])
        answers = [answer for part in PARTS for _, answer in second[part]]
        self.assertEqual(len(set(answers)), len(answers))


if __name__ == "__main__":
    unittest.main()
