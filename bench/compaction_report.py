#!/usr/bin/python3
"""Makes docs/compaction.md and its plots from build/bench/compaction.json, without running anything.

usage: compaction_report.py [DIRECTORY]: where to write, instead of docs

The text of bench/compaction-notes.md follows the table of bars, as notes.md does in report.py.
"""
import os
import sys
from statistics import geometric_mean, median

import allocators as alloc
import plots
from bars import Bar
from report import load, notes, table

ORDER = ["quire", "quire-aggressive", "quire-call", "quire-off", "quire-off-busy",
         "quire-off-woken", "glibc", "jemalloc", "tcmalloc", "mimalloc"]
COLOURS = {**plots.COLOURS, "quire-off": "#e59866", "quire-off-busy": "#7f8c8d",
           "quire-off-woken": "#17202a", "quire-aggressive": "#8e44ad", "quire-call": "#d81b60"}
# When the memory of each kind of run is judged, and by which bar: {(maps, share): times live}.
JUDGED_AT = {"quire": 30, "quire-aggressive": 10, "quire-call": 10}
SPARSE_BARS = {("65530", 90): 2.2, ("65530", 75): 3.0, ("1048576", 90): 1.25,
               ("1048576", 75): 1.35, ("1048576", 50): 1.5}


def middle(results, of):
    """Median of a quantity over the rounds."""
    return median(of(r) for r in results)


def named(results):
    return [n for n in ORDER if n in results]


def mib(value):
    return f"{value / 2**20:.1f} MiB"


def ratio(results, part, whole):
    return middle(results, lambda r: r[part] / r[whole])


def microseconds(ns):
    return f"{ns / 1e3:.1f} us" if ns < 1e6 else f"{ns / 1e6:.2f} ms"


# ---- bars ----

def sparse_bars(results):
    checked, missing = [], []
    for (maps, share), limit in SPARSE_BARS.items():
        runs = results.get(f"sparse/{maps}/{share}", {})
        for name, seconds in JUDGED_AT.items():
            text = f"sparse, {share} % freed, {maps} mappings, {name} after {seconds} s, to live"
            key = f"held{seconds}"
            if name in runs and key in runs[name][0]:
                checked.append(Bar(text, limit, ratio(runs[name], key, "live")))
            else:
                missing.append(text)
    return checked, missing


def overheads(results):
    """{program: {"wall" and "cpu": compact:auto to compact:off, the median of the rounds' ratios}}"""
    found = {}
    for part, runs in results.items():
        if part.startswith("overhead/") and {"quire", "quire-off"} <= set(runs):
            pairs = list(zip(runs["quire"], runs["quire-off"]))
            found[part.split("/")[1]] = {k: median(on[k] / off[k] for on, off in pairs)
                                         for k in ("wall", "cpu")}
    return found


def micro_overheads(results):
    """{benchmark: time with compact:auto to compact:off, the median of the rounds' ratios}"""
    return {part.removeprefix("micro/"):
            median(on / off for on, off in zip(runs["quire"], runs["quire-off"]))
            for part, runs in results.items()
            if part.startswith("micro/") and {"quire", "quire-off"} <= set(runs)}


def load_ratios(results, key):
    """Of redis's loads, compact:auto to the compact:off beside it, in order of size."""
    runs = results.get("redis-time", {})
    if not {"quire", "quire-off"} <= set(runs):
        return []
    return sorted(on[key] / off[key] for on, off in zip(runs["quire"], runs["quire-off"]))


def overhead_bars(results):
    checked, missing = [], []
    found = overheads(results)
    for key, text in (("wall", "time"), ("cpu", "processor time")):
        text = f"whole programs, {text}, compact:auto to compact:off"
        if found:
            checked.append(Bar(text, 1.01, geometric_mean(r[key] for r in found.values())))
        else:
            missing.append(text)
    found = micro_overheads(results)
    if found:
        checked.append(Bar("micro-benchmarks, compact:auto to compact:off", 1.01,
                           geometric_mean(found.values())))
    else:
        missing.append("micro-benchmarks, compact:auto to compact:off")
    return checked, missing


def bars(results):
    checked, missing = sparse_bars(results)
    more, lacking = overhead_bars(results)
    checked += more
    missing += lacking
    redis = results.get("redis", {})
    for other in ("jemalloc", "glibc"):
        text = f"redis, memory 5 s after the load, to {other}"
        if "quire" in redis and other in redis:
            checked.append(Bar(text, 0.65, middle(redis["quire"], lambda r: r["held"])
                               / middle(redis[other], lambda r: r["held"])))
        else:
            missing.append(text)
    ratios = load_ratios(results, "seconds")
    if ratios:
        checked.append(Bar("redis, time of the load, to compact:off", 1.02, median(ratios)))
    else:
        missing.append("redis, time of the load, to compact:off")
    if "quire" in results.get("postpeak", {}):
        checked.append(Bar("post-peak, memory after 10 s, to live", 1.3,
                           ratio(results["postpeak"]["quire"], "held10", "live10")))
    else:
        missing.append("post-peak, memory after 10 s, to live")
    stall = results.get("stall", {})
    for name in named(stall):
        if name.startswith("quire-off"):
            continue
        for key, limit, text, pick in (("p9999", 200, "p99.99 access", median),
                                       ("max_entered", 1000, "longest access", median),
                                       ("max_entered", 1000, "longest access of all rounds", max)):
            note = ", ".join(f"{label}: {pick(r[key] for r in stall[control]) / 1e3:.1f} us"
                             for control, label in (("quire-off", "off"), ("quire-off-busy", "busy"))
                             if control in stall)
            if key == "max_entered" and "quire-off-woken" in stall:
                woken = pick(r["max_waited"] for r in stall["quire-off-woken"])
                note += f", woken: {woken / 1e3:.1f} us"
            checked.append(Bar(f"stall, {name}, {text}", limit,
                               pick(r[key] for r in stall[name]) / 1e3, note, "us"))
    if not stall:
        missing.append("stall, p99.99 and longest access")
    for name, runs in results.get("chase", {}).items():
        if name == "quire-off":
            continue
        if not meshed(runs):
            missing.append(f"chase, {name}: nothing was meshed")
            continue
        checked.append(Bar(f"chase, {name}, time of a step, to before", 1.05,
                           ratio(runs, "after_ns", "before_ns")))
        checked.append(Bar(f"chase, {name}, host memory not PMD-mapped", 20,
                           100 - 100 * ratio(runs, "shared_pmd", "shared_held"), unit="%"))
    pressure = results.get("pressure", {}).get("quire", [])
    for kind in ("memory.high", "stalls"):
        runs = [r for r in pressure if r["kind"] == kind]
        times = [t for r in runs for t in answers(r)]
        if times:
            note = f"longest: {max(times) / 1e6:.1f} ms"
            if any(r.get("emulated") for r in runs):
                note += "; in an emulated machine"
            checked.append(Bar(f"pressure, from {kind} to the end of a pass, median", 100,
                               median(times) / 1e6, note, "ms"))
        elif kind == "memory.high" or not pressure:
            missing.append(f"pressure, from {kind} to the end of a pass")
    idle = [r for r in pressure if r["seconds"] > 0]
    if idle:
        checked.append(Bar("wake-ups of an idle process", 0, max(r["wakeups"] for r in idle),
                           f"in {idle[0]['seconds']} s", ""))
    else:
        missing.append("wake-ups of an idle process")
    if "chase" not in results:
        missing.append("chase, time of a step and host memory that is PMD-mapped")
    return checked, missing


def meshed(runs):
    return all(r["shared_held"] > 0 for r in runs)


def bars_section(checked, missing):
    rows = [[b.text, f"{b.limit:.2f} {b.unit}", f"{b.value:.2f} {b.unit}", b.verdict(), b.where()]
            for b in checked]
    text = ("## The bars\n\nWhat compaction is to reach, and what it reached in this run: medians of "
            "the rounds, judged as printed. Beside a stall is what the same program saw without "
            "compaction, alone, beside a thread that keeps a processor busy, and how long it took "
            "to run when another thread woke it.\n\n"
            + table(["", "at most", "measured", "", ""], rows, 2))
    if missing:
        text += "\nNot measured in this run: " + "; ".join(missing) + ".\n"
    return text + notes("compaction-notes.md")


# ---- sections ----

def sparse_section(results, matching, size):
    out = [f"""## A sparse heap

{size} MiB of objects of 18 sizes from 16 to 1,024 bytes, as many of each, a share of them freed at random,
then quiet. Memory is the proportional set size without what the process held before, and what quire's
shared file holds and nobody maps, over the bytes that live as they were asked for. All live objects
were compared with what was written. *Matching* is what could be reached if nothing but the matching of
random bitmaps stood in the way (`bench/matching.c`): *discard*, empty frames given back and no more;
*greedy*, single frames, all hosts looked at; *better*, the same by a slow search on 64 MiB, and in
brackets what greedy reaches there; *bound*, live bytes packed without a gap; *limited*, greedy with the
best run length for each size, if half of the allowed mappings were guests of one mapping each.
"""]
    for maps in ("65530", "1048576"):
        for share in (50, 75, 90):
            runs = results.get(f"sparse/{maps}/{share}")
            if not runs:
                continue
            rows = []
            for name in named(runs):
                rounds = runs[name]
                row = [name, f"{ratio(rounds, 'full', 'live'):.2f} x"]
                row += [f"{ratio(rounds, k, 'live'):.2f} x" if k in rounds[0] else "-"
                        for k in ("freed", "held5", "held10", "held30")]
                row += [f"{middle(rounds, lambda r: r['mappings']):.0f}",
                        microseconds(middle(rounds, lambda r: r["call_ns"]))
                        if rounds[0]["call_ns"] else "-"]
                rows.append(row)
            out.append(f"**{share} % freed, vm.max_map_count {maps}:**\n\n" + table(
                ["", "full", "freed", "after 5 s", "10 s", "30 s", "mappings", "call"], rows))
            if matching:
                m = matching[str(share)]
                out.append(f"Matching: discard {m['greedy']['discard']:.2f} x, greedy "
                           f"{m['greedy']['greedy']:.2f} x ({m['greedy']['guests']} guests), better "
                           f"{m['better']['better']:.3f} x ({m['better']['greedy']:.3f} x), bound "
                           f"{m['greedy']['bound']:.2f} x, limited {m[maps]['greedy']:.2f} x "
                           f"({m[maps]['guests']} guests).\n")
    if len(out) == 1:
        return ""
    out.append("![sparse heap](compaction-sparse.svg)\n")
    return "\n".join(out)


def redis_section(results, divisor, measured):
    runs = results.get("redis")
    if not runs:
        return ""
    base = middle(runs["jemalloc"], lambda r: r["held"]) if "jemalloc" in runs else None
    time = middle(runs["jemalloc"], lambda r: r["seconds"]) if "jemalloc" in runs else None
    rows = []
    for name in named(runs):
        held = middle(runs[name], lambda r: r["held"])
        seconds = middle(runs[name], lambda r: r["seconds"])
        rows.append([name, mib(held), f"{held / base:.2f}" if base else "-",
                     mib(middle(runs[name], lambda r: r["used"])), f"{seconds:.2f} s",
                     f"{seconds / time:.2f}" if time else "-",
                     f"{middle(runs[name], lambda r: r['cpu']):.2f} s"])
    return f"""## Redis

Debian's redis-server with `maxmemory 100mb` and `allkeys-lru`; {700000 // divisor:,} values of 240 bytes
and then {170000 // divisor:,} of 492 under other keys, pipelined over a Unix socket. Memory is taken 5 s after the load; the
values that redis kept were then read back and compared. The plot is of a run of its own, in which the
memory was read all the time.

""" + table(["", "memory", "to jemalloc", "used, says redis", "load", "to jemalloc", "CPU"],
            rows) + pairs_text(results) + redis_matched(runs, measured) + \
        "\n![redis](compaction-redis.svg)\n"


def pairs_text(results):
    """How long the load takes with compaction."""
    times, cpu = load_ratios(results, "seconds"), load_ratios(results, "cpu")
    if not times:
        return ""
    first, last = times[len(times) // 4], times[-1 - len(times) // 4]
    return f"""
*Time of the load*: {len(times)} loads with compact:auto and as many with compact:off, in turn. The time of the one
to the other is {median(times):.3f} in the median, and for half of the pairs between {first:.2f} and {last:.2f}; their processor
time {median(cpu):.3f}.
"""


def matched(measured, program):
    """What matching alone makes of the bitmaps of a program, in words."""
    def frames(key):
        return mib(measured[key] * 4096)

    return f"""
*What there was to be saved*: the bitmaps of {program}, matched without an
allocator (`bench/bitmaps.c`, `bench/matching.c`): each frame of slots up to 3.5 KiB with any others in which slots begin at the
same offsets. Its slabs have {frames("frames")}, in which {mib(measured["live"])} live. Discarding what is empty leaves
{frames("discard")}, greedy matching of single frames {frames("greedy")}, slow search {frames("better")}; without a gap
it would be {frames("bound")}. """


def share_saved(measured, runs, key):
    saved = measured["held"] - middle(runs["quire"], lambda r: r[key])
    possible = (measured["frames"] - measured["better"]) * 4096
    return f"""Compaction saved {mib(saved)} of the {mib(possible)} that the slow search does:
{100 * saved / possible:.0f} %. """


def best_and_packed(measured, base):
    """What the slow search, and packing without a gap, would make of the whole."""
    rest = measured["held"] - measured["frames"] * 4096
    return rest, *((rest + measured[k] * 4096) / base for k in ("better", "bound"))


def redis_matched(runs, measured):
    if not measured:
        return ""
    text = matched(measured, "a redis under `quire-off` after the same load")
    if "quire" in runs:
        text += share_saved(measured, runs, "held")
    if "jemalloc" in runs:
        rest, best, packed = best_and_packed(measured, middle(runs["jemalloc"], lambda r: r["held"]))
        text += f"""With the {mib(rest)} that this redis has beside the slabs, slow search would make
{best:.2f} of jemalloc's memory, and no gap at all {packed:.2f}.
"""
    least = measured["empty"] + middle(runs["quire"], lambda r: r["used"]) if "quire" in runs else 0
    shares = [f"{least / middle(runs[n], lambda r: r['held']):.2f} of {n}'s"
              for n in ("jemalloc", "glibc") if least and n in runs]
    if shares:
        text += f"""
*What no allocator can go below*: a redis without data holds {mib(measured["empty"])} beside what it counts as used, its program
and libraries mostly. With what it counts as used after the load that is {mib(least)}: {" and ".join(shares)}.
"""
    return text + "\n"


def peak_matched(runs, measured):
    if not measured:
        return ""
    text = matched(measured, "such a run under `quire-off`, ten seconds after the peak")
    if "quire" in runs:
        text += share_saved(measured, runs, "held10")
    rest, best, packed = best_and_packed(measured, measured["asked"])
    return text + f"""With the {mib(rest)} that it has beside
the slabs, tables most of all, slow search would make {best:.2f} times what lives, and no gap at all {packed:.2f}: slots are up to an
eighth larger than what was asked for, and what threads have in their caches counts as living here.
"""


def postpeak_section(results, measured):
    runs = results.get("postpeak")
    if not runs:
        return ""
    rows = [[n, mib(middle(runs[n], lambda r: r["peak_live"])),
             mib(middle(runs[n], lambda r: r["live10"])),
             mib(middle(runs[n], lambda r: r["held10"])), f"{ratio(runs[n], 'held10', 'live10'):.2f}",
             f"{middle(runs[n], lambda r: r['mappings']):.0f}"] for n in named(runs)]
    return """## After a peak

Four threads with blocks of 16 bytes to 64 KiB and mixed lifetimes, a peak of ten times the steady
state, and the steady state again, which goes on while memory is watched. The peak is over when the
last thread is back at its steady state; 10 s later:

""" + table(["", "live at the peak", "live", "memory", "memory / live", "mappings"], rows) + \
        peak_matched(runs, measured) + "\n![after a peak](compaction-postpeak.svg)\n"


def over(run, ns):
    """Accesses that took longer, by the buckets that end beyond."""
    return sum(count for end, count in run["histogram"] if end > ns)


def stall_section(results):
    runs = results.get("stall")
    if not runs:
        return ""
    rows = [[n] + [microseconds(middle(runs[n], lambda r, k=k: r[k]))
                   for k in ("p50", "p99", "p9999")]
            + [microseconds(max(r["max_entered"] for r in runs[n])),
               microseconds(median(r["max_entered"] for r in runs[n])),
               microseconds(max(r["max_waited"] for r in runs[n])),
               microseconds(median(r["max_waited"] for r in runs[n])),
               f"{middle(runs[n], lambda r: r['slept']):.0f}",
               microseconds(max(r["max"] for r in runs[n])),
               f"{sum(over(r, 1e6) for r in runs[n])}",
               f"{middle(runs[n], lambda r: r['preempted']):.0f}",
               f"{middle(runs[n], lambda r: r['before']) / 2**20:.0f}",
               f"{middle(runs[n], lambda r: r['after']) / 2**20:.0f}"] for n in named(runs)]
    millions = min(sum(r["accesses"] for r in rs) for rs in runs.values()) / 1e6
    return f"""## Stalls

A thread reads and writes random live objects of a heap of which 75 % were freed, and each access is
timed. *off* is the same without compaction, *off-busy* the same with a thread beside it that keeps the
other processor busy and touches nothing, and in *off-woken* it sleeps between the accesses until another
thread wakes it: what they show is the machine's own doing. The percentiles are medians of the rounds.
Compaction can keep a thread waiting only where it faults, sleeps or loses its processor; the *longest*
is of accesses among which (64 together) it did, of all rounds and the median of the rounds' longest,
and these two are what the bars are about. *Waited* is of those among which it faulted or slept: what moving
memory can do, without what the scheduler does; of *off-woken* it is the time from the other thread's
call to the kernel until it ran. *slept*, how often. The longest of *any* has what a shared machine does
to all its threads in it, and so has *over 1 ms*: how many of all rounds'
{millions:.0f} million accesses and more took longer. *preempted*, how often the thread lost its processor;
memory in MiB before and after.

""" + table(["", "p50", "p99", "p99.99", "longest", "median", "waited", "median", "slept",
             "any", "over 1 ms", "preempted", "before", "after"], rows) + \
        "\n![stalls](compaction-stall.svg)\n"


def chase_section(results):
    runs = results.get("chase")
    if not runs:
        return ""
    rows = []
    for name in named(runs):
        r = runs[name]
        rows.append([name, f"{middle(r, lambda x: x['before_ns']):.1f} ns",
                     f"{ratio(r, 'after_ns', 'before_ns'):.2f}", mib(middle(
                         r, lambda x: x["held_begin"])), mib(middle(r, lambda x: x["held_before"])),
                     mib(middle(r, lambda x: x["held_after"])),
                     f"{middle(r, lambda x: x['shared_mappings']):.0f}",
                     f"{100 * ratio(r, 'shared_pmd', 'shared_held'):.0f} %" if meshed(r) else
                     "nothing meshed"])
    return """## Pointer chasing and hugepages

One process follows pointers through the live objects, in random order, before compaction and after it.
Memory is given when the first part begins and ends, and after: where the first two differ, compaction
had begun before it was to. *PMD-mapped* is the share of the shared file's memory that is mapped by
hugepages.

""" + table(["", "step before", "after / before", "at first", "then", "after", "shared mappings",
             "PMD-mapped"], rows)


def answers(run):
    """Nanoseconds until a pass was over; one that never came counts for as long as it was waited for."""
    return [t if t >= 0 else 10e9 for t in run["pass"]]


def pressure_section(results):
    runs = results.get("pressure", {}).get("quire")
    if not runs:
        return ""
    rows = []
    for kind in sorted({r["kind"] for r in runs}):
        of_kind = [r for r in runs if r["kind"] == kind]
        times = [t for r in of_kind for t in answers(r)]
        rows.append([kind + (", emulated" if any(r.get("emulated") for r in of_kind) else ""),
                     str(len(times)), f"{median(times) / 1e6:.1f} ms",
                     f"{max(times) / 1e6:.1f} ms"])
    idle = [r for r in runs if r["seconds"] > 0]
    woken = (f""": its background thread woke up
{max(r["wakeups"] for r in idle)} times in {idle[0]['seconds']} s""" if idle else "")
    kernels = sorted({r["kernel"] for r in runs if r.get("emulated")})
    emulated = f"""
This machine's control groups have no memory.high, so that was measured in an emulated machine
(`tests/pressure-system.sh`), whose processor is ten to twenty times slower. There is no disk in
it, and the other process grows instead. It ran Linux {", ".join(kernels)}; before 6.12 a pass only
discards, so there it has less to do than one that meshes.
""" if kernels else ""
    return f"""## Memory pressure

A process with a sparse heap that has been compacted is left alone{woken}.
Then another process in its control group reads a file that does not fit. *memory.high*: from the
moment when the kernel counts that event until a pass of compaction is over. *stalls*, where control
groups have no memory.high: from the moment when the thread is woken, by the kernel's count of
stalls, which it looks at five times a second.
{emulated}
""" + table(["", "n", "median", "longest"], rows)


# ---- plots ----

def lines_plot(path, title, x_label, y_label, series, log=""):
    """series: {name: [(x, y)]}"""
    script = ["set terminal svg size 860,420 font 'sans,12' background '#ffffff'",
              f"set output '{path}'", f"set title '{title}' noenhanced", "set grid lc rgb '#dddddd'",
              f"set xlabel '{x_label}' noenhanced", f"set ylabel '{y_label}' noenhanced",
              "set key outside right noenhanced"]
    script += [f"set logscale {log}", "set format y '%g'"] if log else ["set yrange [0:*]"]
    drawn, data = [], []
    for name, points in series.items():
        width = 2.5 if name == "quire" else 1.5
        colour = COLOURS[name.split(",")[0]]
        dashes = " dt 2" if name.endswith(", live") else ""
        drawn.append(f"'-' with lines lw {width} lc rgb '{colour}'{dashes} title '{name}'")
        data += [f"{x:.4f} {y:.9g}" for x, y in points] + ["e"]
    plots.gnuplot("\n".join(script) + "\nplot " + ", ".join(drawn) + "\n" + "\n".join(data) + "\n")


def draw(directory, results):
    def path(name):
        return os.path.join(directory, f"compaction-{name}.svg")

    shown = next((results[f"sparse/65530/{s}"] for s in (90, 75, 50)
                  if f"sparse/65530/{s}" in results), {})
    if shown:
        percent = next(iter(shown.values()))[0]["percent"]
        lines_plot(path("sparse"), f"A sparse heap, {percent} % freed, 65,530 mappings: first round",
                   "seconds", "memory / live bytes",
                   {n: [(t, held / shown[n][0]["live"]) for t, held in shown[n][0]["timeline"]]
                    for n in named(shown)})
    watched = results.get("redis-watched", {})
    if watched:
        lines_plot(path("redis"), "Redis: memory during the load and after", "seconds", "MiB",
                   {n: [(t, held / 2**20) for t, held in watched[n][0]["timeline"]]
                    for n in named(watched)})
    peak = results.get("postpeak", {})
    if peak:
        series = {n: [(t, held / 2**20) for t, _, held in peak[n][0]["timeline"]]
                  for n in named(peak)}
        first = named(peak)[0]
        series[f"{first}, live"] = [(t, live / 2**20) for t, live, _ in peak[first][0]["timeline"]]
        lines_plot(path("postpeak"), "A peak of ten times the steady state: first round", "seconds",
                   "MiB", series)
    stall = results.get("stall", {})
    if stall:
        lines_plot(path("stall"), "Time of one access to a sparse heap, all rounds",
                   "microseconds", "share of accesses that take longer",
                   {n: exceeding(stall[n]) for n in named(stall)}, "xy")


def exceeding(runs):
    """[(us, share of accesses that take longer)] of all rounds: tails are rare, so no plain
    histogram shows them. Rounds differ by what a tick is, so buckets are merged by their end."""
    total = sum(r["accesses"] for r in runs)
    counts = {}
    for r in runs:
        for end, count in r["histogram"]:
            counts[end] = counts.get(end, 0) + count
    points, left = [], total
    for end in sorted(counts):
        left -= counts[end]
        if left > 0:
            points.append((end / 1e3, left / total))
    return points


def overhead_section(results):
    found = overheads(results)
    if not found:
        return ""
    rows = [[name, f"{r['wall']:.3f}", f"{r['cpu']:.3f}"] for name, r in found.items()]
    rows.append(["geometric mean"] + [f"{geometric_mean(r[k] for r in found.values()):.3f}"
                                      for k in ("wall", "cpu")])
    return """## What it costs who has no need of it

The whole programs of `make bench`, with compact:auto and compact:off in turn: medians of the rounds' ratios.

""" + table(["", "time", "processor time"], rows) + micro_text(results)


def micro_text(results):
    ranked = sorted(micro_overheads(results).items(), key=lambda item: item[1])
    if not ranked:
        return ""
    (low, least), (high, most) = ranked[0], ranked[-1]
    return f"""
Its {len(ranked)} micro-benchmarks likewise: {geometric_mean(r for _, r in ranked):.3f} in the geometric mean; the middle one is at
{median(r for _, r in ranked):.3f}, the extremes are `{low}` at {least:.2f} and `{high}` at {most:.2f}.
"""


def header(kept):
    machine = kept["machine"]
    rows = [[k, v] for k, v in machine.items() if isinstance(v, str)]
    rows += [[k, v] for k, v in machine["allocators"].items()]
    rows += [["redis", machine["programs"]["redis"]], ["rounds", str(kept["rounds"])]]
    for parts, later in kept.get("again", {}).items():
        rows.append([parts + ", run again", f"{later['date']}, quire {later['allocators']['quire']}"])
    text = ("# Compaction\n\nWritten by `make bench-compaction`; the sources are in `bench/`. The "
            "allocators run in turn, one program at a time. `quire` is compact:auto, the default; "
            "`quire-aggressive` and `quire-off` are the other settings; `quire-call` calls "
            "quire_compact() once instead of waiting (in *stalls*: over and over).\n")
    if kept["quick"]:
        text += "\n**A quick run: smaller heaps, few rounds, for a rough look only.**\n"
    if kept["lacks"]:
        text += "\nOf this build of quire: " + "; ".join(kept["lacks"]) + ".\n"
    if kept["skipped"]:
        text += "\nSkipped: " + "; ".join(kept["skipped"]) + ".\n"
    return text + "\n| | |\n|---|---|\n" + "".join(f"| {k} | {v} |\n" for k, v in rows)


def main():
    directory = sys.argv[1] if len(sys.argv) > 1 else os.path.join(alloc.TOP, "docs")
    os.makedirs(directory, exist_ok=True)
    kept = load("compaction.json")
    if not kept:
        raise SystemExit("bench: there are no results; run make bench-compaction")
    results = kept["results"]
    checked, missing = bars(results)
    sections = [header(kept), bars_section(checked, missing),
                sparse_section(results, kept.get("matching"), kept["sparse_mib"]),
                redis_section(results, kept["redis_divisor"], kept.get("measured")),
                postpeak_section(results, kept.get("measured_peak")), stall_section(results), chase_section(results),
                pressure_section(results), overhead_section(results)]
    draw(directory, results)
    with open(os.path.join(directory, "compaction.md"), "w") as out:
        out.write("\n".join(s for s in sections if s))
    for bar in checked:
        print(f"{bar.text}: {bar.value:.2f} {bar.unit}, at most {bar.limit:.2f}: {bar.verdict()}")
        if bar.note:
            print(f"    {bar.note}")
    for text in missing:
        print(f"not measured: {text}")


if __name__ == "__main__":
    main()
