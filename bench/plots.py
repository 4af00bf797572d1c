"""Plots of the results, drawn by gnuplot as SVG."""
import os
import subprocess
from statistics import median

import bars

COLOURS = {"quire": "#c0392b", "glibc": "#7f8c8d", "jemalloc": "#2471a3", "tcmalloc": "#b7950b",
           "mimalloc": "#1e8449"}
SHAPES = {"quire": 7, "glibc": 8, "jemalloc": 4, "tcmalloc": 10, "mimalloc": 12}

WIDE_MARKS = [0.25, 0.5, 0.7, 1, 1.4, 2, 4, 8, 16]
NARROW_MARKS = [0.6, 0.85, 1.2, 1.7]


def gnuplot(script):
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def dots(rows, present, title, x_label):
    """Commands that draw one line of dots per row: (name, {allocator: ratio}), first row on top."""
    count = len(rows)
    lines = ["set grid x y lc rgb '#dddddd'",
             f"set yrange [0.3:{count + 0.7}]", "set logscale x 2",
             "set ytics (" + ", ".join(
                 f'"{name}" {count - i}' for i, (name, _) in enumerate(rows)) + ")",
             f"set title '{title}' noenhanced", f"set xlabel '{x_label}' noenhanced"]
    values = [v for _, ratios in rows for v in ratios.values()]
    low, high = max(0.2, min(values) * 0.93), min(20, max(values) * 1.07)
    low_end, high_end = min(low, 0.6), max(high, 1.5)
    marks = WIDE_MARKS if high_end / low_end > 8 else WIDE_MARKS + NARROW_MARKS
    lines.append(f"set xrange [{low_end}:{high_end}]")
    lines.append("set xtics (" + ", ".join(f"'{m:g}' {m}" for m in marks) + ")")
    drawn, data = [], []
    # quire last, so that it lies on top of the others.
    for allocator in sorted(present, key=lambda a: a == "quire"):
        size = 1.1 if allocator == "quire" else 0.8
        drawn.append(f"'-' using 1:2 with points pt {SHAPES[allocator]} ps {size} lw 1.5 "
                     f"lc rgb '{COLOURS[allocator]}' title '{allocator}'")
        for i, (_, ratios) in enumerate(rows):
            if allocator in ratios:
                # What is far outside is drawn on the edge.
                data.append(f"{min(max(ratios[allocator], low), high):.4f} {count - i}")
        data.append("e")
    lines.append("set arrow 1 from 1,graph 0 to 1,graph 1 nohead lc rgb '#2471a3' dt 2")
    return "\n".join(lines) + "\nplot " + ", ".join(drawn) + "\n" + "\n".join(data) + "\n"


def ratios(results, base):
    return {a: median(v) / base for a, v in results.items()}


def micro(directory, results, present):
    rows = [(n, ratios(r, median(r["jemalloc"]))) for n, r in results.items() if "jemalloc" in r]
    height = 110 + 17 * len(rows)
    gnuplot(f"set terminal svg size 860,{height} font 'sans,12' background '#ffffff'\n"
            f"set output '{os.path.join(directory, 'bench-micro.svg')}'\n"
            "set key outside top center horizontal\nset lmargin 28\n"
            + dots(rows, present, "Micro-benchmarks: time of one operation",
                   "ratio to jemalloc, less is better (outside the plot: on its edge)"))


def programs(directory, results, present):
    panels = []
    for what, title in (("wall", "Time"), ("peak", "Peak memory")):
        rows = []
        for name, program in results.items():
            taken = bars.quantity(program, what)
            if "jemalloc" in taken:
                rows.append((name, ratios(taken, median(taken["jemalloc"]))))
        if rows:
            panels.append(dots(rows, present, title, "ratio to jemalloc, less is better"))
    if not panels:
        return
    gnuplot("set terminal svg size 980,440 font 'sans,12' background '#ffffff'\n"
            f"set output '{os.path.join(directory, 'bench-programs.svg')}'\n"
            "set key outside top center horizontal maxrows 1\n"
            f"set multiplot layout 1,{len(panels)}\n" + "\n".join(panels) + "\nunset multiplot\n")
