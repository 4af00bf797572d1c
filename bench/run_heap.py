#!/usr/bin/python3
"""Has each allocator build a heap of 1 GiB; keeps what it takes, in build/bench/metadata.json."""
import argparse
import json
import os
import subprocess

import allocators as alloc

HEAP = os.path.join(alloc.OUT, "heap")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--allocators", default=",".join(alloc.ORDER), help="a,b,...")
    options = parser.parse_args()
    results = {}
    for allocator in alloc.find(options.allocators.split(",")):
        alloc.check_binding(allocator, [HEAP])
        run = subprocess.run([HEAP], env=allocator.environment(), capture_output=True, text=True,
                             check=True)
        results[allocator.name] = json.loads(run.stdout)
    with open(os.path.join(alloc.OUT, "metadata.json"), "w") as out:
        json.dump(results, out, indent=1)


main()
