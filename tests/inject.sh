#!/bin/bash
# Whole programs where the system says no: limits, strict overcommit, seccomp filters, locked memory, no descriptors, and each
# setting of transparent hugepages. Nothing may crash; requests end in memory or in NULL and ENOMEM.
# System settings are changed, and put back: alone, therefore.
# serial
# timeout: 600
set -u
cd "$(dirname "$0")/.." || exit 1
ulimit -c 0
library=$PWD/${QUIRE_LIBRARY:-build/libquire.so}
bin=$PWD/build/tests/inject
rounds=10000
[[ ${QUIRE_LONG:-0} == 0 ]] || rounds=200000
temporary=$(mktemp -d)
status=0
mkdir -p "$bin"

declare -A before
put_back() {
  for file in "${!before[@]}"; do echo "${before[$file]}" >"$file"; done
  rm -rf "$temporary"
}
trap put_back EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Writes a system setting, having noted what to put back. False where that is not permitted.
set_to() { # file value
  local old
  old=$(cat "$1" 2>/dev/null) || return 1
  [[ $old == *"["* ]] && old=$(sed 's/.*\[\(.*\)\].*/\1/' <<<"$old")
  [[ -n ${before[$1]:-} ]] || before[$1]=$old
  (echo "$2" >"$1") 2>/dev/null
}

# Judges a program that has run: its status must be 0. stderr must not hold anything of quire's.
judge() { # name status
  if (($2 == 0)) && ! grep -q '^quire: ' "$temporary/err"; then
    echo "PASS $1"
    [[ ! -s $temporary/out ]] || sed 's/^/  /' "$temporary/out" | head -n 1
  else
    echo "FAIL $1: status $2: $(head -c 300 "$temporary/err" | tr '\n' ' ')"
    status=1
  fi
}

on_quire() { env LD_PRELOAD="$library" timeout 120 "$@" >"$temporary/out" 2>"$temporary/err" </dev/null; }

for program in launcher victim; do
  if ! cc -std=gnu17 -D_GNU_SOURCE -O2 -g -fno-builtin -Wall tests/inject/$program.c -lpthread -o "$bin/$program"; then
    echo "FAIL build: $program.c does not compile"
    exit 1
  fi
done

# ---- address space: from hardly enough to load the program to plenty ----
for megabytes in 48 64 80 100 128 160 200 256 400 700 1000 3000; do
  (ulimit -v $((megabytes * 1024)) && on_quire "$bin/victim" "$rounds" 22)
  code=$?
  # The dynamic loader itself may not get by with little; that is not quire's to answer for.
  if ((code == 127)) && grep -q 'loading shared libraries' "$temporary/err"; then
    echo "SKIP address-space-${megabytes}M: too little for the dynamic loader"
  else
    judge "address-space-${megabytes}M" $code
  fi
done
(ulimit -v 300000 && on_quire python3 -c '
held = []
refused = 0
for size in [10 ** n for n in range(2, 10)] * 20:
    try:
        held.append(bytearray(size))
    except MemoryError:
        refused += 1
        held.clear()
print("refused", refused)
assert refused > 0')
judge address-space-python $?

# ---- data and locked memory ----
(ulimit -d 100000 && on_quire "$bin/victim" "$rounds" 22)
judge data-limit $?
on_quire "$bin/victim" $((rounds / 10)) 18 lock
code=$?
if ((code == 77)); then echo "SKIP locked-memory: mlockall is not permitted"; else judge locked-memory $code; fi
(ulimit -l 64 && on_quire "$bin/victim" $((rounds / 10)) 18)
judge locked-memory-limit $?

# ---- descriptors and files ----
(ulimit -f 0 && env LD_PRELOAD="$library" timeout 120 "$bin/victim" "$rounds" 22 >/dev/null 2>"$temporary/err")
: >"$temporary/out"
judge no-file-size $?
if command -v prlimit >/dev/null; then
  # Descriptors are needed to load the library; once that is done there are none left.
  on_quire prlimit --nofile=4 "$bin/victim" "$rounds" 22
  judge few-descriptors $?
fi
QUIRE_CONF=background_threshold:0 on_quire "$bin/victim" "$rounds" 22
judge background-at-once $?

# ---- strict overcommit: the system's limit is put just above what is committed now ----
overcommit=/proc/sys/vm/overcommit_memory
kilobytes=/proc/sys/vm/overcommit_kbytes
if [[ -w $overcommit && -w $kilobytes && $(id -u) == 0 ]]; then
  old_ratio=$(cat /proc/sys/vm/overcommit_ratio)
  for room in 30000 300000 3000000; do
    committed=$(sed -n 's/^Committed_AS: *\([0-9]*\).*/\1/p' /proc/meminfo)
    swap=$(sed -n 's/^SwapTotal: *\([0-9]*\).*/\1/p' /proc/meminfo)
    if ! set_to $kilobytes $((committed - swap + room + 131072)) || ! set_to $overcommit 2; then
      echo "SKIP overcommit-$room: the settings can't be changed"
      continue
    fi
    on_quire "$bin/victim" "$rounds" 23
    code=$?
    echo "${before[$overcommit]}" >$overcommit
    judge "overcommit-$room" $code
  done
  # Writing kbytes sets the ratio to 0, and the other way round.
  [[ ${before[$kilobytes]:-0} != 0 ]] || { unset "before[$kilobytes]"; echo "$old_ratio" >/proc/sys/vm/overcommit_ratio; }
else
  echo "SKIP overcommit: not permitted to change vm.overcommit_memory"
fi

# ---- transparent hugepages ----
thp=/sys/kernel/mm/transparent_hugepage/enabled
for setting in never always madvise; do
  for huge in auto always; do
    if [[ ! -w $thp ]] || ! set_to $thp $setting; then
      echo "SKIP thp-$setting-$huge: not permitted to change $thp"
      continue
    fi
    QUIRE_CONF=huge:$huge,huge_threshold:0 on_quire "$bin/victim" "$rounds" 22
    judge "thp-$setting-$huge" $?
  done
done
[[ ! -v before[$thp] ]] || echo "${before[$thp]}" >$thp
QUIRE_CONF=huge:hugetlb on_quire "$bin/victim" "$rounds" 22
judge hugetlb-with-the-pool-as-it-is $?

# ---- system calls refused from the first instruction on ----
refused() { # name errno calls [configuration]
  env INJECT_PRELOAD="$library" QUIRE_CONF="${4:-}" timeout 120 "$bin/launcher" "$2" "$3" "$bin/victim" "$rounds" 22 \
    >"$temporary/out" 2>"$temporary/err" </dev/null
  local code=$?
  if ((code == 126)); then echo "SKIP refused-$1: $(head -n 1 "$temporary/err")"; else judge "refused-$1" $code; fi
}
for call in madvise madvise-dontneed madvise-hugepage madvise-nohugepage madvise-populate madvise-collapse mremap \
  process_vm_readv membarrier io_uring_setup getrusage sysinfo prlimit sched_getaffinity getrandom rseq eventfd timerfd; do
  refused $call EPERM $call "huge_threshold:0,background_threshold:0"
done
refused membarrier-enosys ENOSYS membarrier "background_threshold:0"
refused madvise-einval EINVAL madvise "huge:always"
refused all-of-them ENOSYS madvise,mremap,process_vm_readv,membarrier,io_uring_setup,getrusage,sysinfo,rseq \
  "huge_threshold:0,background_threshold:0"
refused mremap-nomem ENOMEM mremap ""

# Without mprotect nothing of the arena can be opened: no memory, and that is an answer. The dynamic loader needs it too.
env INJECT_PRELOAD="$library" timeout 60 "$bin/launcher" ENOMEM mprotect "$bin/victim" 100 >"$temporary/out" 2>"$temporary/err" </dev/null
code=$?
if ((code == 127)) || grep -q 'cannot change memory protections\|cannot apply additional' "$temporary/err"; then
  echo "SKIP refused-mprotect: the dynamic loader gives up before the program begins"
else
  judge refused-mprotect $code
fi
exit $status
