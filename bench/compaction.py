#!/usr/bin/python3
"""Runs the benchmarks of compaction: each allocator in turn, quire with several settings.

Keeps all results in build/bench/compaction.json and has compaction_report.py write
docs/compaction.md from them. One part needs a higher vm.max_map_count than most machines have: it is
set for that part, by root, and put back whatever becomes of this program.
"""
import argparse
import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

import allocators as alloc
import run_micro as micro
import run_programs as run

HERE = os.path.dirname(os.path.abspath(__file__))
MAP_COUNT = "/proc/sys/vm/max_map_count"
COMMON_MAPS, MANY_MAPS = 65530, 1048576
COMPACT_MAPS = 50  # per cent of them that compaction takes, by default
SHARES = [50, 75, 90]
AFTER_LOAD = 5.0  # seconds until redis's memory is taken
LOAD_PAIRS = 8  # of a round: one load differs from the next by more than the bar allows
PRESSURE_HEAP, PRESSURE_LIMIT, PRESSURE_FILE = 32, 72, 120  # MiB
PARTS = ["matching", "sparse", "redis", "postpeak", "stall", "chase", "pressure", "overhead",
         "micro"]


class Variant(alloc.Allocator):
    """An allocator with options."""

    def __init__(self, name, allocator, options="", call="wait"):
        super().__init__(allocator.name, allocator.path)
        self.allocator, self.name, self.options, self.call = allocator, name, options, call

    def preload(self, program_has_its_own=False):
        return self.allocator.preload(program_has_its_own)

    def environment(self, program_has_its_own=False, **more):
        if self.options:
            more.setdefault("QUIRE_CONF", self.options)
        return self.allocator.environment(program_has_its_own, **more)


def has_compact(quire):
    return hasattr(ctypes.CDLL(quire.path), "quire_compact")


def knows_option(quire):
    """What quire says of an option that it does not know it says on standard error."""
    said = subprocess.run(["/bin/true"], env=quire.environment(QUIRE_CONF="compact:off"),
                          capture_output=True, check=True)
    return not said.stderr


def variants(names):
    """{name: Variant}, and in words what this quire lacks."""
    found, lacks = {}, []
    for allocator in alloc.find(names):
        if allocator.name != "quire":
            found[allocator.name] = Variant(allocator.name, allocator)
            continue
        for name, option in (("quire", "auto"), ("quire-aggressive", "aggressive"),
                             ("quire-off", "off")):
            found[name] = Variant(name, allocator, f"compact:{option}")
        if has_compact(allocator):
            found["quire-call"] = Variant("quire-call", allocator, "compact:auto", "compact")
        else:
            lacks.append("it exports no quire_compact: nothing was asked for by a call")
        if not knows_option(allocator):
            lacks.append("it does not know the option compact")
    return found, lacks


# ---- vm.max_map_count ----

def map_count():
    with open(MAP_COUNT) as file:
        return int(file.read())


# Ends when its standard input does, which is when the benchmark closes it or is gone, also by a
# signal that cannot be caught.
RESTORE = 'read line; if [ "$(cat "$1")" = "$2" ]; then echo "$3" >"$1"; fi'


@contextlib.contextmanager
def maps_allowed(wanted):
    """Yields why not, where that is so."""
    before = map_count()
    if before == wanted:
        yield None
        return
    if not os.access(MAP_COUNT, os.W_OK):
        yield f"vm.max_map_count is {before} and only root can make it {wanted}"
        return
    keeper = subprocess.Popen(["/bin/sh", "-c", RESTORE, "sh", MAP_COUNT, str(wanted), str(before)],
                              stdin=subprocess.PIPE, start_new_session=True)
    try:
        with open(MAP_COUNT, "w") as file:
            file.write(str(wanted))
        yield None
    except PermissionError as error:
        yield f"vm.max_map_count can't be set: {error.strerror}"
    finally:
        keeper.stdin.close()
        keeper.wait()


# ---- runs ----

def run_json(variant, program, *arguments):
    """Runs one of the programs to its end. One that found damage has no result."""
    argv = [os.path.join(alloc.OUT, program), *map(str, arguments)]
    done = subprocess.run(argv, env=variant.environment(), capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"bench: {' '.join(argv)} under {variant.name}: status "
                         f"{done.returncode}: {done.stderr or done.stdout}")
    result = json.loads(done.stdout)
    if result["verified"] is not True:
        raise SystemExit(f"bench: {program} under {variant.name} was not verified")
    return result


def sparse_mib(quick):
    return 128 if quick else 1024


def run_matching(quick):
    """What matching alone could reach, without an allocator. No rounds: nothing is timed."""
    tool = os.path.join(alloc.OUT, "matching")
    results = {}

    def ask(*arguments):
        done = subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True,
                              check=True)
        return json.loads(done.stdout)

    for share in SHARES:
        results[str(share)] = {
            "greedy": ask("-m", sparse_mib(quick), "-r", 1, share),
            # The better matcher needs time by the size of the heap; so a part of the heap.
            "better": ask("-m", 64, "-r", 1, "-t", 3 if quick else 60, share),
            **{str(maps): ask("-m", sparse_mib(quick), "-g", maps * COMPACT_MAPS // 100, share)
               for maps in (COMMON_MAPS, MANY_MAPS)}}
    return results


def wait_seconds(variant, quick):
    """compact:auto takes its time; others have given back what they will after ten seconds."""
    return 30 if variant.name == "quire" and not quick else 10


def sparse_arguments(variant, share, quick):
    return ["-m", sparse_mib(quick), "-s", wait_seconds(variant, quick), "-c", variant.call,
            share]


def redis_memory(pid):
    """As memory_now() of memory.c: PSS, and what quire's shared file holds beyond it."""
    pss = run.status_kib(pid, "Pss", "smaps_rollup") * 1024
    shown = run.status_kib(pid, "Pss_Shmem", "smaps_rollup") * 1024
    held = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        directory = f"/proc/{pid}/task/{task}/fd"
        try:
            for name in os.listdir(directory):
                path = os.path.join(directory, name)
                if os.readlink(path).startswith("/memfd:quire"):
                    status = os.stat(path)
                    held[status.st_ino] = status.st_blocks * 512
        except FileNotFoundError:
            continue  # the thread or descriptor is gone
    return {"pss": pss, "held": pss + max(0, sum(held.values()) - shown)}


def match_bitmaps(path, quick):
    """What matching alone would make of a heap whose bitmaps bitmaps.c has written."""
    deadline = time.monotonic() + 30
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: no bitmaps come: {path}")
        time.sleep(0.1)
    done = subprocess.run([os.path.join(alloc.OUT, "matching"), "-b", path, "-t",
                           "5" if quick else "120"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def run_measured(off, redis, quick):
    """The bitmaps of redis's slabs after the load, without compaction, and what matching makes of
    them."""
    with tempfile.TemporaryDirectory(prefix="quire-bench-") as directory:
        path = os.path.join(directory, "bitmaps")
        server = redis.start(Dumping(off, path))
        try:
            empty = redis_memory(server.process.pid)["held"] - redis_info(server, "used_memory")
            load_redis(server, quick)
            held = redis_memory(server.process.pid)["held"]
            os.kill(server.process.pid, signal.SIGUSR2)
            return {**match_bitmaps(path, quick), "held": held, "empty": empty}
        finally:
            server.stop()


def postpeak_arguments(quick):
    return ["-m", 16 if quick else 64, "-s", 11 if quick else 15]


def run_measured_peak(off, quick):
    """The same of the load with a peak, ten seconds after it."""
    with tempfile.TemporaryDirectory(prefix="quire-bench-") as directory:
        path = os.path.join(directory, "bitmaps")
        result = run_json(Dumping(off, path), "postpeak", *postpeak_arguments(quick), "-b")
        return {**match_bitmaps(path, quick), "held": result["held10"], "asked": result["live10"]}


class Dumping(Variant):
    """With bitmaps.so beside it."""

    def __init__(self, variant, path):
        super().__init__(variant.name, variant.allocator, variant.options)
        self.library, self.bitmaps = os.path.join(alloc.OUT, "bitmaps.so"), path

    def environment(self, program_has_its_own=False, **more):
        env = super().environment(program_has_its_own, QUIRE_BITMAPS=self.bitmaps, **more)
        env["LD_PRELOAD"] += " " + self.library
        return env


def redis_divisor(quick):
    return 2 if quick else 1


def redis_load(server, what, divisor):
    done = subprocess.run([os.path.join(alloc.OUT, "redis_load"), server.socket, what,
                           str(divisor)], env=run.alloc_free_environment(), capture_output=True,
                          text=True)
    if done.returncode != 0:
        raise SystemExit(f"bench: redis_load: {done.stderr}")
    return json.loads(done.stdout)


def redis_info(server, field):
    """A number of INFO memory."""
    with run.socket.socket(run.socket.AF_UNIX) as connection:
        connection.connect(server.socket)
        connection.settimeout(60)
        connection.sendall(b"*2\r\n$4\r\nINFO\r\n$6\r\nmemory\r\n")
        answer = connection.makefile("rb")
        text = answer.read(int(answer.readline()[1:])).decode()
    return int(re.search(rf"^{field}:(\d+)", text, re.M)[1])


def load_redis(server, quick):
    for name, value in (("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lru")):
        if server.command("CONFIG", "SET", name, value) != "+OK":
            raise SystemExit(f"bench: redis refuses {name}")
    return redis_load(server, "load", redis_divisor(quick))


def time_load(variant, redis, quick):
    """Only how long the load takes."""
    server = redis.start(variant)
    try:
        cpu = run.cpu_seconds(server.process.pid)
        loaded = load_redis(server, quick)
        return {"seconds": loaded["seconds"], "cpu": run.cpu_seconds(server.process.pid) - cpu}
    finally:
        server.stop()


def run_redis(variant, redis, quick, watch):
    """One load. Where its memory is watched meanwhile its time means nothing, and is not kept."""
    divisor = redis_divisor(quick)
    server = redis.start(variant)
    pid = server.process.pid
    timeline, stop, begin = [], threading.Event(), time.monotonic()

    def sample():
        while not stop.wait(0.2):
            timeline.append([round(time.monotonic() - begin, 2), redis_memory(pid)["held"]])

    sampler = threading.Thread(target=sample)
    try:
        cpu = run.cpu_seconds(pid)
        if watch:
            sampler.start()
        loaded = load_redis(server, quick)
        end = time.monotonic()
        cpu = run.cpu_seconds(pid) - cpu
        time.sleep(max(0, end + AFTER_LOAD - time.monotonic()))
        result = redis_memory(pid)
        if watch:
            time.sleep(5)
            stop.set()
            sampler.join()
            return {"timeline": timeline, "load_ended": round(end - begin, 2)}
        present = redis_load(server, "check", divisor)
        result.update(seconds=loaded["seconds"], cpu=cpu, used=redis_info(server, "used_memory"),
                      present=present["small"] + present["large"])
        # Full, it evicts; and most of what came last must be there, or the memory says nothing.
        if present["large"] < 170000 // divisor * 0.5:
            raise SystemExit(f"bench: redis under {variant.name} kept {present['large']} values "
                             "of 492 bytes")
        return result
    finally:
        stop.set()
        server.stop()


def last_run(path, like, parts):
    """The results of the last run but for these parts, which are run again."""
    try:
        with open(path) as file:
            kept = json.load(file)
    except FileNotFoundError:
        raise SystemExit("bench: --again: there is no run yet whose other parts could be kept")
    for key in ("quick", "rounds"):
        if kept[key] != like[key]:
            raise SystemExit(f"bench: --again: the last run had {key} {kept[key]}, not {like[key]}")
    kept["results"] = {part: runs for part, runs in kept["results"].items()
                       if re.sub("-(watched|time)$", "", part.split("/")[0]) not in parts}
    kept.setdefault("again", {})
    return kept


def stall_arguments(variant, quick):
    return ["-m", 128 if quick else 512, "-s", 5 if quick else 20, "-c", variant.call, 75]


def chase_arguments(variant, quick):
    return ["-m", 128 if quick else 1024, "-s", 1 if quick else 4, "-w",
            5 if quick else wait_seconds(variant, quick), "-c", variant.call, 75]


def run_overhead(variant, program):
    """One of the whole programs of `make bench`: seconds, and those of all its processors."""
    env = program.env
    program.env = {**env, "QUIRE_CONF": variant.options}
    try:
        numbers = program.run(variant)
    finally:
        program.env = env
    return {"wall": sum(numbers["wall"]), "cpu": sum(numbers["cpu"])}


# ---- memory pressure ----

def mount_of(kind, option):
    with open("/proc/mounts") as mounts:
        for line in mounts:
            _, place, found, options = line.split()[:4]
            if found == kind and option in options.split(","):
                return place
    return None


def make_groups(made):
    """Makes control groups with room for PRESSURE_LIMIT, and appends them to made. What the program
    is told of them: memory.high where the kernel has it, else a limit, at which it counts stalls."""
    name = f"quire-bench.{os.getpid()}"
    unified = mount_of("cgroup2", "rw")
    if unified:
        os.mkdir(os.path.join(unified, name))
        made.append(os.path.join(unified, name))
        high = os.path.join(made[0], "memory.high")
        if os.path.exists(high):
            with open(high, "w") as file:
                file.write(str(PRESSURE_LIMIT << 20))
            return ["-e", os.path.join(made[0], "memory.events")]
    old = mount_of("cgroup", "memory")
    if old is None:
        raise OSError(0, "no control group with a memory limit can be made here")
    os.mkdir(os.path.join(old, name))
    made.append(os.path.join(old, name))
    with open(os.path.join(made[-1], "memory.limit_in_bytes"), "w") as file:
        file.write(str(PRESSURE_LIMIT << 20))
    return []


def run_pressure(variant, quick):
    """A result, or in words why there is none."""
    made = []
    # On a disk, since what lies in memory can't be reclaimed.
    read = tempfile.NamedTemporaryFile(dir=alloc.OUT)
    read.write(b"x" * (PRESSURE_FILE << 20))
    read.flush()
    os.fsync(read.fileno())

    def enter():
        for group in made:
            with open(os.path.join(group, "cgroup.procs"), "w") as file:
                file.write(str(os.getpid()))

    try:
        told = make_groups(made)
        argv = [os.path.join(alloc.OUT, "pressure"), "-m", PRESSURE_HEAP, "-n", 5, "-s",
                2 if quick else 10, *told, read.name]
        conf = f"{variant.options},background_threshold:1M"
        done = subprocess.run(list(map(str, argv)), env=variant.environment(QUIRE_CONF=conf),
                              capture_output=True, text=True, preexec_fn=enter)
        if done.returncode != 0:
            return None, f"pressure: {done.stderr.strip()}"
        result = json.loads(done.stdout)
        if result["verified"] is not True:
            raise SystemExit("bench: pressure was not verified")
        return result, None
    except OSError as error:
        return None, f"pressure: {error.strerror}"
    finally:
        read.close()
        for group in reversed(made):
            os.rmdir(group)


def run_pressure_emulated(variant):
    """The same for memory.high, in an emulated machine, where this one's control groups have none.
    It has no disk, so the other process grows, and pressure.c says why by its options memory stays.
    Wake-ups of an idle process aren't counted there: one that polls has some."""
    script = os.path.join(alloc.TOP, "tests", "pressure-system.sh")
    conf = f"{variant.options},background_threshold:1M,decay_ms:3600000"
    done = subprocess.run(["bash", script, "measure", os.path.join(alloc.OUT, "pressure"), conf,
                           "-m", str(PRESSURE_HEAP), "-n", "5", "-s", "0"],
                          env={**os.environ, "QUIRE_LIB": variant.real}, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True)
    said = done.stdout.strip().splitlines() or ["it said nothing"]
    if done.returncode != 0:
        return None, f"pressure, from memory.high: {said[-1]}"
    result = json.loads(said[-1])
    if result["verified"] is not True:
        raise SystemExit("bench: pressure was not verified")
    return {**result, "emulated": True}, None


def verify(found, parts):
    for variant in found.values():
        for program in ("sparse", "postpeak", "stall", "chase", "pressure"):
            # Without arguments, or with wrong ones, they say how they are used and end.
            alloc.check_binding(variant, [os.path.join(alloc.OUT, program), "-?"])
        if "redis" in parts:
            alloc.check_binding(variant, [run.Redis.SERVER, "--version"], True)


def stop_at_signals():
    def end(number, _):
        raise SystemExit(f"bench: ended by signal {number}")

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--allocators", default=",".join(alloc.ORDER), help="a,b,...")
    parser.add_argument("--parts", default=",".join(PARTS), help="a,b,... of " + ", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=0, help="5, or 1 with --quick")
    parser.add_argument("--quick", action="store_true", help="smaller heaps, one round")
    parser.add_argument("--docs", default=os.path.join(alloc.TOP, "docs"))
    parser.add_argument("--again", action="store_true",
                        help="keep the last run's results of the other parts")
    parser.add_argument("--report-only", action="store_true")
    options = parser.parse_args()
    report = [sys.executable, os.path.join(HERE, "compaction_report.py"), options.docs]
    if options.report_only:
        raise SystemExit(subprocess.run(report).returncode)

    parts = options.parts.split(",")
    if set(parts) - set(PARTS):
        raise SystemExit(f"bench: no such part: {', '.join(sorted(set(parts) - set(PARTS)))}")
    rounds = options.rounds or (1 if options.quick else 5)
    quick = options.quick
    found, lacks = variants(options.allocators.split(","))
    verify(found, parts)
    stop_at_signals()
    machine_py = [sys.executable, os.path.join(HERE, "machine.py")]
    before = os.path.join(alloc.OUT, "compaction-machine.json")
    with open(before, "w") as out:
        subprocess.run(machine_py, stdout=out, check=True)
    kept = {"quick": quick, "rounds": rounds, "sparse_mib": sparse_mib(quick),
            "redis_divisor": redis_divisor(quick), "lacks": lacks, "skipped": [], "results": {}}
    output = os.path.join(alloc.OUT, "compaction.json")
    if options.again:
        kept = last_run(output, kept, parts)

    def keep(part, name, result):
        kept["results"].setdefault(part, {}).setdefault(name, []).append(result)

    def save():
        machine = json.loads(subprocess.run(machine_py + [before], capture_output=True,
                                            check=True, text=True).stdout)
        machine["vm.max_map_count"] = str(map_count())
        if options.again:
            kept["again"][", ".join(parts)] = machine
        else:
            kept["machine"] = machine
        with open(output, "w") as out:
            json.dump(kept, out)

    # With more mappings only what uses them is run again.
    meshing = [n for n in found if n.startswith("quire") and n != "quire-off"]
    with_off = [n for n in found if n not in ("quire-aggressive", "quire-call")]
    quires = [n for n in found if n.startswith("quire")]
    on_off = [n for n in ("quire", "quire-off") if n in found]
    whole_programs = run.programs(quick) if "overhead" in parts else []
    micro_names = micro.list_benchmarks("") if "micro" in parts else []

    def in_turn(names, turn):
        return [found[n] for n in alloc.rotated(names, turn)] if names else []

    if "matching" in parts:
        kept["matching"] = run_matching(quick)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="quire-bench-") as directory:
        redis = run.Redis(directory, quick)
        if "matching" in parts and "quire-off" in found:
            kept["measured"] = run_measured(found["quire-off"], redis, quick)
            kept["measured_peak"] = run_measured_peak(found["quire-off"], quick)
        for turn in range(rounds):
            if "sparse" in parts:
                # Half of a heap needs more mappings than are common to be worth a look.
                for maps, names, shares in ((COMMON_MAPS, list(found), SHARES[1:]),
                                            (MANY_MAPS, meshing, SHARES)):
                    with maps_allowed(maps) as why_not:
                        if why_not:
                            if why_not not in kept["skipped"]:
                                kept["skipped"].append(why_not)
                            continue
                        for share in shares:
                            for variant in in_turn(names, turn):
                                keep(f"sparse/{maps}/{share}", variant.name,
                                     run_json(variant, "sparse",
                                              *sparse_arguments(variant, share, quick)))
            if "redis" in parts:
                for variant in in_turn(with_off, turn):
                    keep("redis", variant.name, run_redis(variant, redis, quick, False))
                    if turn == 0:
                        keep("redis-watched", variant.name, run_redis(variant, redis, quick, True))
                for pair in range(1 if quick else LOAD_PAIRS):
                    for variant in in_turn(on_off, pair):
                        keep("redis-time", variant.name, time_load(variant, redis, quick))
            if "postpeak" in parts:
                for variant in in_turn(with_off, turn):
                    keep("postpeak", variant.name,
                         run_json(variant, "postpeak", *postpeak_arguments(quick)))
            if "stall" in parts:
                for variant in in_turn(quires, turn):
                    arguments = stall_arguments(variant, quick)
                    keep("stall", variant.name, run_json(variant, "stall", *arguments))
                    if variant.name == "quire-off":
                        for option, control in (("-b", "busy"), ("-w", "woken")):
                            keep("stall", f"quire-off-{control}",
                                 run_json(variant, "stall", option, *arguments))
            if "chase" in parts:
                for variant in in_turn(quires, turn):
                    keep("chase", variant.name,
                         run_json(variant, "chase", *chase_arguments(variant, quick)))
            if "pressure" in parts and "quire" in found:
                result, why_not = run_pressure(found["quire"], quick)
                ran = [(result, why_not)]
                if result is None or result["kind"] != "memory.high":
                    ran.append(run_pressure_emulated(found["quire"]))
                for result, why_not in ran:
                    if result is not None:
                        keep("pressure", "quire", result)
                    elif why_not not in kept["skipped"]:
                        kept["skipped"].append(why_not)
            for number, program in enumerate(whole_programs):
                for variant in in_turn(on_off, turn + number):
                    keep(f"overhead/{program.name}", variant.name, run_overhead(variant, program))
            for number, name in enumerate(micro_names):
                for variant in in_turn(on_off, turn + number):
                    keep(f"micro/{micro.base_name(name)}", variant.name,
                         micro.run_one(variant, name, 0.03 if quick else 0.1))
            save()
            print(f"compaction: round {turn + 1} of {rounds} done after "
                  f"{time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    raise SystemExit(subprocess.run(report).returncode)


if __name__ == "__main__":
    main()
