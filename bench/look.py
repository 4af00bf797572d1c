#!/usr/bin/python3
"""What looking costs: how long `quire map` takes to read a large heap, and what a program loses while it is
looked at ten times a second.

    bench/look.py [--mib N] [--rounds N]

Prints medians of `rounds` (at least 5). The program works for a second unwatched and a second watched in turn,
so that what else the machine does falls on both; the ratio is of the medians, beside it the spread of the
rounds' own ratios. A recorder takes a part of the machine, whoever it looks at: so in a third second it looks at
another process with such a heap, and what being looked at costs is the difference."""
import argparse
import json
import os
import subprocess
import sys
import tempfile
from statistics import median

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.join(HERE, "..", "build")
QUIRE = os.path.join(BUILD, "quire")
WORK_MS = 1000


def start(mib):
    environment = dict(os.environ, LD_PRELOAD=os.path.abspath(os.path.join(BUILD, "libquire.so")),
                       QUIRE_CONF="compact:off")
    target = subprocess.Popen([os.path.join(BUILD, "bench", "look"), str(mib)], env=environment, text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if target.stdout.readline() != "ready\n":
        sys.exit("look.py: the program to be looked at did not start")
    return target


def work(target):
    target.stdin.write(f"{WORK_MS}\n")
    target.stdin.flush()
    return int(target.stdout.readline())


def read_once(target):
    out = subprocess.run([QUIRE, "map", "--json", str(target.pid)], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def watched(target, seen):
    """The same second with a recorder of `seen` beside it. It must have looked, or nothing was measured."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "look.qrec")
        recorder = subprocess.Popen([QUIRE, "record", "--every", "100", "-o", path, str(seen.pid)],
                                    stderr=subprocess.PIPE, text=True)
        count = work(target)
        recorder.send_signal(2)
        said = recorder.communicate()[1]
        if recorder.returncode != 0:
            sys.exit(f"look.py: quire record failed: {said}")
        return count, int(said.split()[0])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mib", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=7)
    choices = parser.parse_args()
    rounds = max(5, choices.rounds)
    target, other = start(choices.mib), start(choices.mib)
    try:
        maps = [read_once(target) for _ in range(rounds)]
        work(target)
        alone, beside, elsewhere, looks = [], [], [], []
        for _ in range(rounds):
            alone.append(work(target))
            count, n = watched(target, target)
            beside.append(count)
            looks.append(n)
            elsewhere.append(watched(target, other)[0])
    finally:
        for process in (target, other):
            process.stdin.close()
            process.wait()
    ratios = sorted(a / b for a, b in zip(alone, beside))
    print(f"a heap of {maps[-1]['frames'] * 4096 / 2**30:.2f} GiB, {maps[-1]['frames']} frames, "
          f"{maps[-1]['runs']['slabs']} slabs; medians of {rounds}")
    print(f"reading its map takes       {median(m['took_us'] for m in maps) / 1000:.1f} ms")
    print(f"work unwatched / watched    {median(alone) / median(beside):.3f}  "
          f"(rounds {ratios[0]:.3f} to {ratios[-1]:.3f}; {median(looks):.0f} snapshots a second)")
    print(f"another watched / watched   {median(elsewhere) / median(beside):.3f}")


if __name__ == "__main__":
    main()
