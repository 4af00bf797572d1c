"""The bars that the project has set itself, checked against the results."""
import math
from statistics import median

from allocators import PEERS


def geometric_mean(values):
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values))


def fastest_peer(results):
    """Name of the peer with the lowest median in {allocator: [values]}."""
    return min((p for p in PEERS if p in results), key=lambda p: median(results[p]))


def to_fastest(results):
    return median(results["quire"]) / median(results[fastest_peer(results)])


def to_jemalloc(results):
    return median(results["quire"]) / median(results["jemalloc"])


def quantity(program, name):
    """{allocator: [values]} of one quantity of a program's results."""
    return {a: numbers[name] for a, numbers in program.items() if name in numbers}


class Bar:
    """One line of the table: `value` must not exceed `limit`. Values are judged as they are
    printed, with two decimals: the third is noise. A bar on each of several things has them in
    `each`, as {name: value}, and its own value is the worst of them."""

    def __init__(self, text, limit, value=None, note="", unit="x", each=None):
        self.text, self.limit, self.unit, self.each = text, limit, unit, each or {}
        self.value = max(self.each.values()) if value is None else value
        self.note = note

    def over(self, value):
        return round(value, 2) > self.limit

    def where(self):
        """What of `each` is over the limit, the worst first; else which comes nearest to it."""
        ranked = sorted(self.each.items(), key=lambda item: -item[1])
        missed = [f"{name} {value:.2f}" for name, value in ranked if self.over(value)]
        if missed:
            return f"{len(missed)} of {len(ranked)}: " + ", ".join(missed)
        return self.note or (f"worst: {ranked[0][0]}" if ranked else "")

    def verdict(self):
        if not self.over(self.value):
            return "met"
        over = self.value - self.limit
        return f"**missed** by {over:.2f} {self.unit}"


def micro_bars(micro):
    ratios = {n: to_fastest(r) for n, r in micro.items() if "quire" in r}
    pairs = {n: r for n, r in ratios.items()
             if n.startswith("pair/") and 16 <= int(n.split("/")[1]) <= 512}
    live = {n: r for n, r in ratios.items() if n.startswith("live/")}
    handover = {n: r for n, r in ratios.items() if n.startswith("handover/")}
    bars = [
        ("malloc+free pair of 16 to 512 bytes, to the fastest peer", 0.85, pairs),
        ("random sizes over live sets of 1 K to 1 M, to the fastest peer", 1.0, live),
        ("two-thread producer/consumer, to the fastest peer", 1.0, handover),
        ("any micro-benchmark, to the fastest peer", 1.15, ratios),
    ]
    return [Bar(text, limit, each=each) for text, limit, each in bars if each]


# `true` and `tiny` have bars of their own; python3-idle is only about memory.
def whole_programs(programs):
    return {n: p for n, p in programs.items() if n not in ("true", "tiny", "python3-idle")}


def program_bars(programs):
    bars = []
    if "true" in programs:
        bars.append(Bar("/bin/true, time to jemalloc", 0.6,
                        to_jemalloc(quantity(programs["true"], "wall"))))
    times = {n: to_jemalloc(quantity(p, "wall")) for n, p in whole_programs(programs).items()}
    if times:
        bars.append(Bar("whole programs, time to jemalloc, each", 1.0, each=times))
        bars.append(Bar("whole programs, time to jemalloc, geometric mean", 0.99,
                        geometric_mean(times.values()), "must be better, so below 1.00"))
        peaks = [to_smallest(quantity(p, "peak")) for p in whole_programs(programs).values()]
        bars.append(Bar("whole programs, peak memory to the smallest peer, geometric mean", 1.05,
                        geometric_mean(peaks)))
    if "tiny" in programs:
        peaks = quantity(programs["tiny"], "peak")
        above = (median(peaks["quire"]) - median(peaks["glibc"])) / 1024
        bars.append(Bar("a tiny program's peak, above glibc's", 1.0, above, unit="MiB"))
    return bars


def to_smallest(results):
    """As to_fastest: the smallest of the peers, glibc not being one."""
    return to_fastest(results)


def metadata_bars(metadata):
    if "quire" not in metadata or "metadata" not in metadata["quire"]:
        return []
    numbers = metadata["quire"]
    share = 100 * numbers["metadata"] / numbers["live"]
    return [Bar("metadata of a 1 GiB heap of mixed sizes", 1.5, share, unit="%")]
