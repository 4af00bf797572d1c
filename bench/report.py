#!/usr/bin/python3
"""Makes docs/bench.md and its plots from the results in build/bench, without running anything.

usage: report.py [DIRECTORY]: where to write, instead of docs

The text of bench/notes.md, where there is such a file, follows the table of bars: it is the place
to say why a bar is missed.
"""
import json
import os
import sys
from statistics import median

import allocators as alloc
import bars
import plots

HERE = os.path.dirname(os.path.abspath(__file__))

GROUPS = [
    ("pair/", "malloc and free at once", "pair/SIZE"),
    ("aligned/", "posix_memalign, 16 at a time, and free", "aligned/ALIGNMENT/SIZE"),
    ("live", "a random live block freed and a new one allocated and written to, from a set of that "
             "many; live2: two threads, a set each", "live/SIZES/BLOCKS"),
    ("batch/", "that many blocks allocated, then freed in the same or the opposite order",
     "batch/SIZES/BLOCKS/ORDER"),
    ("handover/", "one thread allocates, the other frees, through a ring of that many places",
     "handover/SIZES/RING"),
    ("churn/", "a thread that lives to allocate and free that many blocks", "churn/BLOCKS"),
    ("large/", "malloc, a write to each page, free", "large/SIZE"),
    ("calloc/", "calloc, a write to each page where touched, free", "calloc/SIZE/HOW"),
    ("realloc/", "one realloc of a block that grows by doubling or by 4 KiB", "realloc/HOW/LAST"),
]


def load(name):
    path = os.path.join(alloc.OUT, name)
    if not os.path.exists(path):
        return {}
    with open(path) as file:
        return json.load(file)


def table(header, rows, words=0):
    """All columns but the first are of numbers, except the last `words`."""
    numbers = len(header) - 1 - words
    lines = ["| " + " | ".join(header) + " |",
             "|---|" + "---:|" * numbers + "---|" * words]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def nanoseconds(value):
    if value < 1000:
        return f"{value:.1f} ns"
    if value < 1e6:
        return f"{value / 1e3:.1f} us"
    return f"{value / 1e6:.1f} ms"


def seconds(value):
    return f"{value * 1e3:.2f} ms" if value < 0.1 else f"{value:.2f} s"


def mib(kib):
    return f"{kib / 1024:.1f} MiB"


def spread(values):
    """Half the range of the middle values over the median: how far to trust a ratio."""
    ordered = sorted(values)
    cut = len(ordered) // 5
    middle = ordered[cut:len(ordered) - cut] if cut else ordered
    return (middle[-1] - middle[0]) / 2 / median(ordered)


def ratio_row(name, results, present, show):
    """Ratios of medians to jemalloc's, its own value, and quire against the best peer."""
    base = median(results["jemalloc"])
    row = [name, show(base)]
    for other in present:
        if other == "jemalloc":
            continue
        ratio = f"{median(results[other]) / base:.2f}" if other in results else "-"
        row.append(f"**{ratio}**" if other == "quire" else ratio)
    if "quire" in results:
        best = bars.fastest_peer(results)
        row.append(f"{bars.to_fastest(results):.2f} ({best})")
    row.append(f"{100 * max(spread(v) for v in results.values()):.0f} %")
    return row


def ratio_header(first, present, best):
    return ([first, "jemalloc"] + [n for n in present if n != "jemalloc"]
            + ([f"quire / {best} peer"] if "quire" in present else []) + ["spread"])


def present_in(results):
    names = {a for r in results.values() for a in r}
    return [n for n in alloc.ORDER if n in names]


def micro_section(micro):
    results = micro["results"]
    present = present_in(results)
    out = [f"""## Micro-benchmarks

Time of one operation: jemalloc's as measured, the others' as ratios to it, so below 1 is faster.
Medians of {micro['rounds']} rounds; each result is of a process of its own. Sizes `log` are 16 to
1,024 bytes, every power of two as likely as every other; `mixed` has 4 % of 1 to 8 KiB and 1 % of
8 to 64 KiB besides. *Spread* is the widest of the row: half the range of an allocator's rounds
(without the outermost fifth on each side) over its median.

![micro-benchmarks](bench-micro.svg)
"""]
    for prefix, text, form in GROUPS:
        rows = [ratio_row(n, r, present, nanoseconds) for n, r in results.items()
                if n.startswith(prefix)]
        if rows:
            out.append(f"`{form}`: {text}.\n\n" + table(ratio_header("", present, "fastest"), rows))
    return "\n".join(out)


def program_table(programs, what, best, show):
    rows, picked = [], {}
    for name, program in programs.items():
        results = bars.quantity(program, what)
        if "jemalloc" in results:
            picked[name] = results
    present = present_in(picked)
    rows = [ratio_row(name, r, present, show) for name, r in picked.items()]
    if rows and "quire" in present:
        kept = bars.whole_programs(picked)
        mean = ["geometric mean (without true, tiny, idle)", ""]
        for other in present:
            if other != "jemalloc" and kept:
                mean.append("%.2f" % bars.geometric_mean(
                    median(r[other]) / median(r["jemalloc"]) for r in kept.values()))
        if kept:
            to_best = bars.geometric_mean(map(bars.to_fastest, kept.values()))
            rows.append(mean + [f"{to_best:.2f}", ""])
    return table(ratio_header("", present, best), rows) if rows else ""


def idle_table(programs):
    out = []
    for name, program in programs.items():
        points = [p for p in ("loaded", "idle1", "idle5", "idle12")
                  if any(p in numbers for numbers in program.values())]
        if len(points) < 2 and name != "python3-idle":
            continue
        titles = {"loaded": "with the data", "idle1": "1 s after", "idle5": "5 s after",
                  "idle12": "12 s after"}
        rows = []
        for allocator in alloc.ORDER:
            if allocator in program:
                numbers = program[allocator]
                rows.append([allocator, mib(median(numbers["peak"]))]
                            + [mib(median(numbers[p])) if p in numbers else "-" for p in points])
        out.append(table([name, "peak (RSS)"] + [titles[p] for p in points], rows))
    return "\n".join(out)


def program_section(programs):
    results = programs["results"]
    return f"""## Whole programs

Medians of {programs['rounds']} rounds in which the allocators took turns; jemalloc's as measured,
the others' as ratios to it. `true` is /bin/true, `tiny` a program that allocates 200 small blocks.
`python3-malloc` is the same script as `python3` with PYTHONMALLOC=malloc, so that every object
comes from malloc.
`gcc` and `g++` are the compilers proper on 300 functions of C and on the C++ library's headers with
templates. `redis` is the time of a fixed number of requests, 16 in a pipeline, over a Unix socket.

![whole programs](bench-programs.svg)

Wall-clock time:

{program_table(results, "wall", "fastest", seconds)}
Processor time, user and system (redis: the server's):

{program_table(results, "cpu", "fastest", seconds)}
Peak resident memory:

{program_table({n: p for n, p in results.items() if n != "python3-idle"}, "peak", "smallest", mib)}
### Memory after the load has gone

Proportional set size. redis drops all keys (FLUSHALL; for jemalloc, and for it alone, redis then
asks the allocator to purge); python3-idle drops everything it built, with PYTHONMALLOC=malloc. Then
both idle.

{idle_table(results)}"""


def metadata_section(metadata):
    rows = []
    for name in alloc.ORDER:
        if name in metadata:
            m = metadata[name]
            rows.append([name, f"{m['live'] / 2**20:.0f} MiB", f"{m['pss'] / 2**20:.0f} MiB",
                         f"{m['pss'] / m['live']:.3f}",
                         f"{100 * m['metadata'] / m['live']:.2f} %" if "metadata" in m else "-"])
    return f"""## A heap of 1 GiB of mixed sizes

A program allocates blocks of the `mixed` sizes until 1 GiB is asked for, and writes to all of it.
Memory is what the kernel says the program holds (PSS); metadata is what quire's own statistics say
its memmap, descriptors and caches hold.

{table(["", "asked for", "held", "held / asked for", "metadata / asked for"], rows)}"""


def notes(name):
    """What is to be said by hand, after the table of bars; nothing where there is no such file."""
    path = os.path.join(HERE, name)
    if not os.path.exists(path):
        return ""
    with open(path) as file:
        return "\n" + file.read().strip() + "\n"


def bars_section(checked):
    rows = [[b.text, f"{b.limit:.2f} {b.unit}", f"{b.value:.2f} {b.unit}", b.verdict(), b.where()]
            for b in checked]
    return ("## The bars\n\nWhat quire is to reach, and what it reached in this run. A *peer* is "
            "one of Debian's jemalloc, tcmalloc and mimalloc; ratios are of medians, judged as "
            "printed.\n\n"
            + table(["", "at most", "measured", "", ""], rows, 2) + notes("notes.md"))


def header(machine, micro, programs):
    rows = [[k, v] for k, v in machine.items() if isinstance(v, str)]
    rows += [[k, v] for k, v in machine.get("allocators", {}).items()]
    rows += [[k, v] for k, v in machine.get("programs", {}).items()]
    rows.append(["rounds", f"{micro.get('rounds', 0)} of micro-benchmarks, "
                           f"{programs.get('rounds', 0)} of programs"])
    quick = "" if not programs.get("quick") else (
        "\n**A quick run: smaller loads and few rounds, for a rough look only.**\n")
    return ("# Benchmarks\n\nWritten by `make bench`; the sources are in `bench/`. The allocators "
            "run in turn, one program at a time, and every program is checked to take malloc "
            "from the allocator that it is said to be on.\n" + quick + "\n"
            + "| | |\n|---|---|\n" + "".join(f"| {k} | {v} |\n" for k, v in rows))


def main():
    directory = sys.argv[1] if len(sys.argv) > 1 else os.path.join(alloc.TOP, "docs")
    os.makedirs(directory, exist_ok=True)
    machine, micro = load("machine.json"), load("micro.json")
    programs, metadata = load("programs.json"), load("metadata.json")
    sections = [header(machine, micro, programs)]
    checked = []
    if micro and "quire" in present_in(micro["results"]):
        checked += bars.micro_bars(micro["results"])
    if programs and "quire" in present_in(programs["results"]):
        checked += bars.program_bars(programs["results"])
    checked += bars.metadata_bars(metadata)
    if checked:
        sections.append(bars_section(checked))
    if micro:
        sections.append(micro_section(micro))
        plots.micro(directory, micro["results"], present_in(micro["results"]))
    if programs:
        sections.append(program_section(programs))
        plots.programs(directory, bars.whole_programs(programs["results"]),
                       present_in(programs["results"]))
    if metadata:
        sections.append(metadata_section(metadata))
    with open(os.path.join(directory, "bench.md"), "w") as out:
        out.write("\n".join(sections))
    for bar in checked:
        print(f"{bar.text}: {bar.value:.2f} {bar.unit}, at most {bar.limit:.2f}: {bar.verdict()}")
        if bar.where():
            print(f"    {bar.where()}")


if __name__ == "__main__":
    main()
