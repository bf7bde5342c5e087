"""Steps of finetune in one process and in two, on a machine that is quiet.

    python3 bench/cases/scale/measure.py --program build/demo/bin/finetune --model model.gguf --data chat.jsonl
    sudo python3 bench/cases/scale/measure.py … --rate 100mbit     # two network namespaces, tc between them

The configurations take turns, each with the same steps of the same batches: one process with one thread, one with two, two
processes with one thread each, and these with MPI's own order of additions. Medians and quartiles of seconds a step
over the rounds, and what two processes gain. With --rate, as root, the two run in network namespaces of their own and
talk through a link of that rate (tc's words: 1gbit, 100mbit), as two machines would; what the exchange then adds to a
step is printed beside bytes / rate of bench/cases/scale/model.py.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

from model import bytes_sent

SPACES, LINKS, ADDRESSES = ["tlscale0", "tlscale1"], ["tls0", "tls1"], ["10.77.0.1", "10.77.0.2"]
UNITS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
       "OMPI_MCA_hwloc_base_binding_policy": "none"}  # fmt: skip


def run(*command):
    subprocess.run(command, check=True)


class Network:
    """Two namespaces and the link between them; mpirun starts the second process through `agent`."""

    def __init__(self, rate, folder):
        self.agent = folder / "agent.sh"
        self.agent.write_text("#!/bin/sh\n# What mpirun takes for ssh: HOST COMMAND.\nshift\n"
                              f"exec ip netns exec {SPACES[1]} unshare --uts "
                              f"sh -c \"hostname {SPACES[1]}; $*\"\n")  # fmt: skip
        self.agent.chmod(0o755)
        self.rate = rate

    def __enter__(self):
        try:
            self.build()
        except subprocess.CalledProcessError:
            self.__exit__()
            raise
        return self

    def build(self):
        for space in SPACES:
            run("ip", "netns", "add", space)
        run("ip", "link", "add", LINKS[0], "netns", SPACES[0], "type", "veth",
            "peer", "name", LINKS[1], "netns", SPACES[1])  # fmt: skip
        for space, link, address in zip(SPACES, LINKS, ADDRESSES):
            run("ip", "-n", space, "addr", "add", address + "/24", "dev", link)
            for device in [link, "lo"]:
                run("ip", "-n", space, "link", "set", device, "up")
            run("ip", "netns", "exec", space, "tc", "qdisc", "add", "dev", link, "root", "tbf", "rate", self.rate,
                "burst", "256kb", "latency", "50ms")  # fmt: skip

    def __exit__(self, *_):
        for space in SPACES:
            subprocess.run(["ip", "netns", "del", space])

    def mpirun(self):
        options = ["--mca", "plm_rsh_agent", str(self.agent), "--mca", "btl", "tcp,self", "--host",
                   ",".join(address + ":1" for address in ADDRESSES)]  # fmt: skip
        for layer in ["btl_tcp", "oob_tcp"]:
            options += ["--mca", layer + "_if_include", "10.77.0.0/24"]
        inside = f'hostname {SPACES[0]}; exec mpirun "$@"'
        return ["ip", "netns", "exec", SPACES[0], "unshare", "--uts", "sh", "-c", inside, "sh", *options]


def seconds_a_step(arguments, launcher, processes, threads, more, folder):
    out = folder / "out"
    subprocess.run(["rm", "-rf", out], check=True)
    command = [*launcher, "-n", processes] if processes > 1 else []
    command += [arguments.program, "train", "--model", arguments.model, "--data", arguments.data, "--out", out,
                "--scheme", arguments.scheme, "--rank", arguments.rank, "--steps", arguments.steps, "--accumulate",
                arguments.accumulate, "--batch-tokens", arguments.batch_tokens, "--held-out", 0, "--threads", threads,
                *more]  # fmt: skip
    done = subprocess.run([str(word) for word in command], env=os.environ | MPI, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    record = json.loads((out / "run.json").read_text())
    return record["training"]["seconds_per_step"], record["adapter"]["trained_numbers"]


def quartiles(values):
    if len(values) == 1:
        return f"{values[0]:.3f}"
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--scheme", default="lora")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--accumulate", type=int, default=4)
    parser.add_argument("--batch-tokens", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", help="of the link between two network namespaces: 10mbit, 1gbit")
    arguments = parser.parse_args()
    sides = {
        "1 process, 1 thread": (1, 1, []),
        "1 process, 2 threads": (1, 2, []),
        "2 processes, 1 thread": (2, 1, []),
        "2 processes, 1 thread, --fast-reduce": (2, 1, ["--fast-reduce"]),
    }
    times = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)

        def race(launcher):
            for _ in range(arguments.rounds):
                for side, (processes, threads, more) in sides.items():
                    seconds, numbers = seconds_a_step(arguments, launcher, processes, threads, more, folder)
                    times[side].append(seconds)
            return numbers

        if arguments.rate:
            with Network(arguments.rate, folder) as network:
                numbers = race(network.mpirun())
        else:
            numbers = race(["mpirun"])
    for side, values in times.items():
        print(f"{side:38} {quartiles(values)} s a step")
    gains = [one / two for one, two in zip(times["1 process, 1 thread"], times["2 processes, 1 thread"])]
    print(f"{'2 processes against 1':38} {quartiles(gains)} times as fast")
    sent = bytes_sent(numbers, arguments.accumulate, 2)
    print(f"Each of two sends {sent / 2**20:.3g} MiB a step", end="")
    if arguments.rate:
        unit = arguments.rate.lstrip("0123456789.")
        seconds = sent * 8 / (float(arguments.rate.removesuffix(unit)) * UNITS[unit])
        added = [two - one / 2 for one, two in zip(times["1 process, 1 thread"], times["2 processes, 1 thread"])]
        print(f": {seconds:.3f} s at {arguments.rate}; two took longer than half a step of one by {quartiles(added)} s",
              end="")  # fmt: skip
    print()


if __name__ == "__main__":
    main()
