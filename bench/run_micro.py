#!/usr/bin/python3
"""Runs the micro-benchmarks under each allocator in turn and keeps every result.

Each benchmark of each round is a process of its own, so that none inherits the heap that another
left behind; the allocators take turns on one benchmark before the next begins, so that a slow
minute of the machine falls on all of them. The results go to build/bench/micro.json.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import time

import allocators as alloc

MICRO = os.path.join(alloc.OUT, "micro")


def base_name(full):
    """The name without what the library appends: /iterations:N, /real_time, /threads:N."""
    return re.sub(r"/(iterations:\d+|real_time|threads:\d+)", "", full)


def list_benchmarks(pattern):
    listing = subprocess.run([MICRO, "--benchmark_list_tests"], capture_output=True, text=True,
                             check=True).stdout.split()
    return [name for name in listing if re.search(pattern, base_name(name))]


def run_one(allocator, full, min_time):
    """Nanoseconds per operation."""
    run = subprocess.run(
        [MICRO, f"--benchmark_filter=^{re.escape(full)}$", "--benchmark_format=json",
         f"--benchmark_min_time={min_time}"],
        env=allocator.environment(), capture_output=True, text=True, timeout=300)
    if run.returncode != 0:
        raise SystemExit(f"bench: {full} under {allocator.name} ended with {run.returncode}:\n"
                         f"{run.stderr}")
    report = json.loads(run.stdout)
    provider = report["context"]["malloc"]
    if os.path.realpath(provider) != allocator.real:
        raise SystemExit(f"bench: malloc came from {provider}, not from {allocator.real}")
    (result,) = report["benchmarks"]
    if result.get("error_occurred"):
        raise SystemExit(f"bench: {full} under {allocator.name}: {result['error_message']}")
    return 1e9 / result["items_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--filter", default="", help="regular expression on the benchmarks' names")
    parser.add_argument("--allocators", default=",".join(alloc.ORDER), help="a,b,...")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--min-time", type=float, default=0.1, help="seconds of a result")
    parser.add_argument("--output", default=os.path.join(alloc.OUT, "micro.json"))
    options = parser.parse_args()

    taking_part = alloc.find(options.allocators.split(","))
    names = list_benchmarks(options.filter)
    if not names:
        raise SystemExit("bench: no benchmark has such a name")
    results = {base_name(n): {a.name: [] for a in taking_part} for n in names}
    started = time.monotonic()
    for turn in range(options.rounds):
        for number, full in enumerate(names):
            for allocator in alloc.rotated(taking_part, turn + number):
                nanoseconds = run_one(allocator, full, options.min_time)
                results[base_name(full)][allocator.name].append(nanoseconds)
        print(f"micro-benchmarks: round {turn + 1} of {options.rounds} done after "
              f"{time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    with open(options.output, "w") as out:
        json.dump({"rounds": options.rounds, "min_time": options.min_time, "results": results}, out,
                  indent=1)


if __name__ == "__main__":
    main()
