#!/usr/bin/python3
"""Prints the state of the machine and the versions of the allocators, as JSON.

usage: machine.py [BEFORE]: with the output of an earlier call, keeps its load average and date, and
adds those of now as the state after the run.
"""
import json
import os
import re
import subprocess
import sys
import time

import allocators as alloc


def read(path):
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return "not there"


def chosen(path):
    """The word in brackets of a file like 'always [madvise] never'."""
    match = re.search(r"\[(.*?)\]", read(path))
    return match[1] if match else read(path)


def first_line(*argv):
    run = subprocess.run(argv, capture_output=True, text=True)
    return (run.stdout + run.stderr).splitlines()[0].strip()


def state():
    cpu = re.search(r"model name\s*: (.*)", read("/proc/cpuinfo"))
    memory = int(re.search(r"MemTotal:\s+(\d+)", read("/proc/meminfo"))[1]) / 1048576
    hypervisor = "hypervisor" in read("/proc/cpuinfo")
    thp = "/sys/kernel/mm/transparent_hugepage/"
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "kernel": " ".join([os.uname().sysname, os.uname().release, os.uname().machine]),
        "processor": (cpu[1] if cpu else os.uname().machine)
        + f", {os.cpu_count()} CPUs" + (", virtual machine" if hypervisor else ""),
        "memory": f"{memory:.1f} GiB",
        "transparent hugepages": f"enabled {chosen(thp + 'enabled')}, "
                                 f"defrag {chosen(thp + 'defrag')}",
        "overcommit": read("/proc/sys/vm/overcommit_memory"),
        "scaling governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load average before": " ".join(read("/proc/loadavg").split()[:3]),
        "programs": {
            "redis": first_line("redis-server", "--version").split(" sha=")[0],
            "sqlite3": first_line("sqlite3", "--version").split()[0],
            "python3": first_line("/usr/bin/python3", "--version"),
            "gcc": first_line("gcc", "--version"),
            "node": first_line("/usr/bin/node", "--version"),
        },
        "allocators": {a.name: a.version() for a in alloc.find(
            [n for n in alloc.ORDER if n != "quire" or
             os.path.exists(os.path.join(alloc.BUILD, "libquire.so"))])},
    }


def main():
    now = state()
    if len(sys.argv) > 1:
        with open(sys.argv[1]) as file:
            before = json.load(file)
        before["load average after"] = now["load average before"]
        before["ended"] = now["date"]
        now = before
    print(json.dumps(now, indent=1))


main()
