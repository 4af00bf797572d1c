#!/usr/bin/python3
"""Runs whole programs under each allocator in turn and keeps time and memory of every run.

Programs that end by themselves are started by build/bench/measure, which takes time and peak memory
from the kernel's accounting of the child. redis-server, and a Python that frees everything and then
idles, are watched while they run: their memory is the proportional set size, at the end of the load
and some seconds after it has gone. The results go to build/bench/programs.json.
"""
import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

import allocators as alloc

HERE = os.path.dirname(os.path.abspath(__file__))
MEASURE = os.path.join(alloc.OUT, "measure")
PYTHON = "/usr/bin/python3"
IDLE_SECONDS = [1, 5, 12]


def compiler_proper(driver, name):
    """The compiler behind the driver: the driver itself only starts it."""
    run = subprocess.run([driver, f"-print-prog-name={name}"], capture_output=True, text=True,
                         check=True)
    return run.stdout.strip()


class Program:
    """One that ends by itself. `check` are harmless arguments that make it load and end at once."""

    def __init__(self, name, argv, check, stdin="/dev/null", runs=1, env=None):
        self.name, self.argv, self.check = name, argv, check
        self.stdin, self.runs, self.env = stdin, runs, env or {}
        self.output = None

    def verify(self, allocator):
        alloc.check_binding(allocator, [self.argv[0]] + self.check, **self.env)

    def run(self, allocator):
        with tempfile.NamedTemporaryFile() as output:
            preload = allocator.preload()
            run = subprocess.run(
                [MEASURE, "-n", str(self.runs), "-i", self.stdin, "-o", output.name]
                + (["-p", preload] if preload else []) + ["--"] + self.argv,
                env={**alloc_free_environment(), **self.env}, capture_output=True, text=True)
            if run.returncode != 0:
                raise SystemExit(f"bench: {self.name} under {allocator.name}: {run.stderr}")
            self.compare(allocator, output.read())
        lines = [list(map(int, line.split())) for line in run.stdout.splitlines()]
        return {
            "wall": [line[0] / 1e9 for line in lines],
            "cpu": [(line[1] + line[2]) / 1e6 for line in lines],
            "peak": [line[3] for line in lines],
            "faults": [line[4] for line in lines],
        }

    def compare(self, allocator, output):
        """A fast program with a wrong answer is no result."""
        if self.output is None:
            self.output = output
        elif self.output != output:
            raise SystemExit(f"bench: {self.name} under {allocator.name} printed something else "
                             f"than under the allocator before it")


def alloc_free_environment():
    return {k: v for k, v in os.environ.items()
            if k not in ("LD_PRELOAD", "QUIRE_CONF", "MALLOC_CONF", "PYTHONMALLOC")}


def programs(quick):
    sqlite = os.path.join(HERE, "load", "sqlite.sql")
    if quick:
        text = open(sqlite).read().replace("300000", "60000").replace("400000", "80000")
        sqlite = os.path.join(alloc.OUT, "sqlite-quick.sql")
        with open(sqlite, "w") as out:
            out.write(text)
    subprocess.run([PYTHON, os.path.join(HERE, "load", "make_sources.py"), alloc.OUT,
                    "60" if quick else "300"], check=True)
    python = [PYTHON, os.path.join(HERE, "load", "python_load.py"), "2" if quick else "6"]
    big = os.path.join(alloc.OUT, "big.c")
    heavy = os.path.join(alloc.OUT, "heavy.ii")
    return [
        Program("true", ["/bin/true"], [], runs=40 if quick else 100),
        Program("tiny", [os.path.join(alloc.OUT, "tiny")], [], runs=5 if quick else 20),
        Program("sqlite3", ["/usr/bin/sqlite3", ":memory:"], ["--version"], stdin=sqlite),
        Program("python3", python, ["--version"]),
        Program("python3-malloc", python, ["--version"], env={"PYTHONMALLOC": "malloc"}),
        Program("gcc", [compiler_proper("gcc", "cc1"), "-quiet", "-O1", big, "-o", "/dev/null"],
                ["--version"]),
        Program("g++", [compiler_proper("g++", "cc1plus"), "-quiet", "-std=c++17",
                        "-fpreprocessed", heavy, "-o", "/dev/null"], ["--version"]),
        Program("node", ["/usr/bin/node", os.path.join(HERE, "load", "node_load.js"),
                         "1" if quick else "3"], ["--version"]),
    ]


# ---- programs that keep running ----

def status_kib(pid, field, file="status"):
    with open(f"/proc/{pid}/{file}") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1])
    raise SystemExit(f"bench: /proc/{pid}/{file} has no {field}")


def pss_kib(pid):
    return status_kib(pid, "Pss", "smaps_rollup")


def cpu_seconds(pid):
    """Of all threads that still exist; in nanoseconds where /proc/PID/stat counts in ticks."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat") as schedstat:
            total += int(schedstat.read().split()[0])
    return total / 1e9


def check_mapped(allocator, pid):
    with open(f"/proc/{pid}/maps") as maps:
        if allocator.real not in maps.read():
            raise SystemExit(f"bench: process {pid} has not mapped {allocator.real}")


class Redis:
    """A redis-server on a Unix socket under a fixed number of requests from redis-benchmark."""

    SERVER = "/usr/bin/redis-server"

    def __init__(self, directory, quick):
        self.directory = directory
        n = 4 if quick else 1
        self.stages = [
            f"-t set -n {300000 // n} -r 200000 -d 100",
            f"-t set -n {300000 // n} -r 200000 -d 600",
            f"-n {300000 // n} -r 20000 hset hash:__rand_int__ field:__rand_int__ some-value",
            f"-t lpush,rpop,sadd,zadd -n {150000 // n} -r 100000 -d 60",
            f"-t get -n {300000 // n} -r 200000",
        ]

    def verify(self, allocator):
        # Debian's is linked with jemalloc: the others, glibc too, must come before it.
        alloc.check_binding(allocator, [self.SERVER, "--version"], True)

    def start(self, allocator):
        server = RunningRedis(self, allocator)
        for _ in range(2000):
            try:
                server.command("PING")
                break
            except OSError:
                time.sleep(0.005)
        check_mapped(allocator, server.process.pid)
        return server


class RunningRedis:
    def __init__(self, redis, allocator):
        self.redis = redis
        self.socket = os.path.join(redis.directory, allocator.name + ".sock")
        background = [] if allocator.name == "jemalloc" else ["--jemalloc-bg-thread", "no"]
        self.process = subprocess.Popen(
            [redis.SERVER, "--port", "0", "--unixsocket", self.socket, "--save", "", "--appendonly",
             "no", "--dir", redis.directory, "--logfile", "", "--daemonize", "no"] + background,
            env=allocator.environment(True), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def command(self, *words):
        """Sends one command; returns the first line of the answer."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.socket)
            connection.settimeout(60)
            connection.sendall((f"*{len(words)}\r\n" + "".join(
                f"${len(w)}\r\n{w}\r\n" for w in words)).encode())
            return connection.makefile("rb").readline().decode().strip()

    def load(self):
        """The timed part. Returns wall time, CPU time of the server, peak and PSS with all data."""
        wall = 0.0
        cpu = cpu_seconds(self.process.pid)
        for stage in self.redis.stages:
            run = subprocess.run(
                [MEASURE, "--", "/usr/bin/redis-benchmark", "-s", self.socket, "-P", "16", "-c",
                 "20", "-q"] + stage.split(), env=alloc_free_environment(),
                capture_output=True, text=True)
            if run.returncode != 0:
                raise SystemExit(f"bench: redis-benchmark: {run.stderr}")
            wall += int(run.stdout.split()[0]) / 1e9
        cpu = cpu_seconds(self.process.pid) - cpu
        if int(self.command("DBSIZE").lstrip(":")) < 10000:
            raise SystemExit("bench: redis holds fewer keys than were written")
        pid = self.process.pid
        return {"wall": [wall], "cpu": [cpu], "peak": [status_kib(pid, "VmHWM")],
                "loaded": [pss_kib(pid)]}

    def drop(self):
        self.command("FLUSHALL", "SYNC")

    def stop(self):
        try:
            self.command("SHUTDOWN", "NOSAVE")
        except OSError:
            self.process.terminate()
        self.process.wait(30)


class PythonIdle:
    """The Python load with malloc for all its objects, which then frees everything and waits."""

    def __init__(self, quick):
        self.argv = [PYTHON, os.path.join(HERE, "load", "python_load.py"), "2" if quick else "6",
                     "idle"]

    def verify(self, allocator):
        alloc.check_binding(allocator, [PYTHON, "--version"], PYTHONMALLOC="malloc")

    def start(self, allocator):
        return RunningPython(self, allocator)


class RunningPython:
    def __init__(self, python, allocator):
        self.process = subprocess.Popen(
            python.argv, env=allocator.environment(PYTHONMALLOC="malloc"), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE)

    def load(self):
        for line in self.process.stdout:
            if line == b"idle\n":
                break
        return {"peak": [status_kib(self.process.pid, "VmHWM")]}

    def drop(self):
        """It has freed everything when it says that it is idle."""

    def stop(self):
        self.process.stdin.close()
        self.process.wait(30)


def run_resident(kind, allocators, quick):
    """Loads one process per allocator, one after the other; then lets all of them drop their data
    and idle together, since idling takes no processor."""
    running, results = {}, {}
    try:
        for allocator in allocators:
            running[allocator.name] = kind.start(allocator)
            results[allocator.name] = running[allocator.name].load()
            if isinstance(kind, PythonIdle):
                running[allocator.name].idle_since = time.monotonic()
        for process in running.values():
            process.drop()
            if not isinstance(kind, PythonIdle):
                process.idle_since = time.monotonic()
        for seconds in IDLE_SECONDS[:1] if quick else IDLE_SECONDS:
            for name, process in running.items():
                time.sleep(max(0, process.idle_since + seconds - time.monotonic()))
                results[name][f"idle{seconds}"] = [pss_kib(process.process.pid)]
    finally:
        for process in running.values():
            process.stop()
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--allocators", default=",".join(alloc.ORDER), help="a,b,...")
    parser.add_argument("--programs", default="", help="only these: a,b,...")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="smaller loads")
    parser.add_argument("--output", default=os.path.join(alloc.OUT, "programs.json"))
    options = parser.parse_args()

    taking_part = alloc.find(options.allocators.split(","))
    wanted = set(filter(None, options.programs.split(",")))
    results = {}

    def keep(name, allocator_name, numbers):
        kept = results.setdefault(name, {}).setdefault(allocator_name, {})
        for quantity, values in numbers.items():
            kept.setdefault(quantity, []).extend(values)

    def save():
        with open(options.output, "w") as out:
            json.dump({"rounds": options.rounds, "quick": options.quick, "results": results}, out,
                      indent=1)

    with tempfile.TemporaryDirectory(prefix="quire-bench-") as directory:
        ending = programs(options.quick)
        resident = {"redis": Redis(directory, options.quick),
                    "python3-idle": PythonIdle(options.quick)}
        if wanted - {p.name for p in ending} - set(resident):
            raise SystemExit("bench: no such program")
        ending = [p for p in ending if not wanted or p.name in wanted]
        resident = {n: k for n, k in resident.items() if not wanted or n in wanted}
        for program in list(ending) + list(resident.values()):
            for allocator in taking_part:
                program.verify(allocator)
        started = time.monotonic()
        for turn in range(options.rounds):
            for number, program in enumerate(ending):
                for allocator in alloc.rotated(taking_part, turn + number):
                    keep(program.name, allocator.name, program.run(allocator))
            for name, kind in resident.items():
                order = alloc.rotated(taking_part, turn)
                for allocator_name, numbers in run_resident(kind, order, options.quick).items():
                    keep(name, allocator_name, numbers)
            save()
            print(f"programs: round {turn + 1} of {options.rounds} done after "
                  f"{time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
