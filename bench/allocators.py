"""The allocators that are compared, and the proof that a run was on the right one."""
import os
import re
import subprocess

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("BENCH_BUILD", os.path.join(TOP, "build"))
OUT = os.path.join(BUILD, "bench")

# In the order of all tables. The peers are what quire is held against; glibc is the base line.
ORDER = ["quire", "glibc", "jemalloc", "tcmalloc", "mimalloc"]
PEERS = ["jemalloc", "tcmalloc", "mimalloc"]
SONAMES = {
    "glibc": ["libc.so.6"],
    "jemalloc": ["libjemalloc.so.2"],
    "tcmalloc": ["libtcmalloc_minimal.so.4"],
    "mimalloc": ["libmimalloc.so.2", "libmimalloc.so.2.0"],
}


class Allocator:
    def __init__(self, name, path):
        self.name = name
        self.path = path
        self.real = os.path.realpath(path)

    def preload(self, program_has_its_own=False):
        """What LD_PRELOAD must hold: for glibc something only where the program brings another."""
        if self.name == "glibc" and not program_has_its_own:
            return None
        return self.path

    def environment(self, program_has_its_own=False, **more):
        env = {k: v for k, v in os.environ.items()
               if k not in ("LD_PRELOAD", "QUIRE_CONF", "MALLOC_CONF", "PYTHONMALLOC")}
        preload = self.preload(program_has_its_own)
        if preload:
            env["LD_PRELOAD"] = preload
        env.update(more)
        return env

    def version(self):
        if self.name == "quire":
            described = subprocess.run(
                ["git", "-C", TOP, "describe", "--always", "--dirty", "--tags"],
                capture_output=True, text=True)
            return described.stdout.strip() or "unknown"
        package = subprocess.run(["dpkg-query", "-S", self.real], capture_output=True, text=True)
        if package.returncode != 0:  # merged /usr: dpkg may know the file by its other name
            package = subprocess.run(["dpkg-query", "-S", self.real.removeprefix("/usr")],
                                     capture_output=True, text=True)
        name = package.stdout.split(": ")[0]
        shown = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version}", name],
                               capture_output=True, text=True)
        return shown.stdout.strip() or os.path.basename(self.real)


def find_libraries():
    """Path of each shared object that the loader knows, by soname."""
    listing = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True,
                             check=True).stdout
    paths = {}
    machine = os.uname().machine.replace("_", "-")
    for line in listing.splitlines():
        match = re.match(r"\s+(\S+) \((.*)\) => (\S+)$", line)
        if match and (machine in match[2] or match[2] == "libc6" or "AArch64" in match[2]):
            paths.setdefault(match[1], match[3])
    return paths


def find(names):
    """The named allocators, in ORDER; stops the program where one is missing."""
    libraries = find_libraries()
    found = []
    for name in ORDER:
        if name not in names:
            continue
        if name == "quire":
            path = os.path.join(BUILD, "libquire.so")
            if not os.path.exists(path):
                raise SystemExit(f"bench: {path} is not built")
        else:
            path = next((libraries[s] for s in SONAMES[name] if s in libraries), None)
            if path is None:
                raise SystemExit(f"bench: {SONAMES[name][0]} is missing; make deps installs it")
        found.append(Allocator(name, path))
    unknown = set(names) - set(ORDER)
    if unknown:
        raise SystemExit(f"bench: no such allocator: {', '.join(sorted(unknown))}")
    return found


def check_binding(allocator, argv, program_has_its_own=False, **env):
    """Has the dynamic loader say which object's malloc and free the program is bound to, and stops
    unless that is the allocator's."""
    env = allocator.environment(program_has_its_own, LD_DEBUG="bindings", LD_BIND_NOW="1", **env)
    run = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE)
    # The first object is always the one that refers, the second the one that provides. The loader
    # binds its own copy to what will be used, too, so that even /bin/true has at least one line.
    said = re.findall(rb"binding file (\S+) \[\d+\] to (\S+) \[\d+\]: "
                      rb"normal symbol `(malloc|free)'", run.stderr)
    # What the program itself is bound to decides, where it calls malloc at all: other objects may
    # refer to themselves. A program that takes malloc's address refers to its own jump table, too.
    own = (argv[0], os.path.realpath(argv[0]))
    program = [to for by, to, _ in said if by.decode() in own and to != by]
    providers = {os.path.realpath(to.decode()) for to in program or [to for _, to, _ in said]}
    if providers != {allocator.real}:
        raise SystemExit(f"bench: {argv[0]} under {allocator.name} takes malloc from "
                         f"{sorted(providers) or 'an unknown object'}, not from {allocator.real}")


def rotated(allocators, turn):
    """A B C D, then B C D A: nobody is always first, or always after the same one."""
    turn %= len(allocators)
    return allocators[turn:] + allocators[:turn]
