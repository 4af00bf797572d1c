# What machines that are emulated for tests have in common: an initramfs of C programs, of which tests/aarch64/init.c is the
# first, and the lines that they print. Wants $out, and $prefix of the compiler. Last comes what those of this machine's own
# kind have in common, which run programs with quire preloaded.

# ---- a cpio archive of the kind "newc" ----
inode=0
pad() { head -c $(((4 - $1 % 4) % 4)) /dev/zero; }
member() { # path mode [file] [major minor]
  local size=0
  [[ -z ${3:-} ]] || size=$(stat -c %s "$3")
  inode=$((inode + 1))
  printf '070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\0' $inode $(($2)) 0 0 1 0 "$size" \
    0 0 "${4:-0}" "${5:-0}" $((${#1} + 1)) 0 "$1"
  pad $((110 + ${#1} + 1))
  [[ -z ${3:-} ]] || cat "$3"
  pad "$size"
}
directory() { member "$1" 0040755; }
program() { # path file
  ${prefix}strip -o $out/stripped "$2"
  member "$1" 0100755 $out/stripped
}

# What each program printed on the console, named; a program that died or said nothing can't say so itself.
what_was_said() { # program of which nothing may be left out, console
  awk -v whole_one="$1" '
  $1 == "BEGIN" { name = $2; sub(/_test$/, "", name); where = "in " name; said = failed = 0; next }
  $1 == "END" {
    if ($2 == "all") whole = 1
    else if ($3 != 0 && !failed) print "FAIL " name ": ended with wait status " $3 ": " last
    else if (!said) print "FAIL " name ": tested nothing"
    where = "after " name
    next
  }
  /^(PASS|FAIL|SKIP) / {
    verdict = $1 == "SKIP" && name == whole_one ? "FAIL" : $1
    said++
    failed += verdict == "FAIL"
    sub(/^[A-Z]+ /, "")
    print verdict, name "." $0
    next
  }
  NF > 0 { last = $0 }
  END { if (!whole) print "FAIL machine: stopped " where ": " last }' "$2"
}

# ---- x86-64 ----
# Needs qemu-system-x86_64 and a kernel: QUIRE_X86_KERNEL=FILE, that of Debian's installer (tools/deps.sh numa installs
# both), or the one that runs here, if it may be read.

# Sets $kernel and $libraries, or in $why says what is lacking. The last that is lacking is told.
find_parts() { # library...
  local name path file
  why=
  libraries=()
  kernel=${QUIRE_X86_KERNEL:-}
  [[ $(uname -m) == x86_64 ]] || why="this is no x86-64 machine"
  command -v qemu-system-x86_64 >/dev/null || why="no qemu-system-x86_64 here (tools/deps.sh numa)"
  for name in "$@"; do
    path=$(ldconfig -p 2>/dev/null | sed -n "s/.*$name .*x86-64.*=> //p" | head -n 1)
    [[ -n $path ]] || why="no $name here"
    libraries+=("$path")
  done
  for file in /usr/lib/debian-installer/images/*/amd64/text/debian-installer/amd64/linux "/boot/vmlinuz-$(uname -r)"; do
    [[ -n $kernel || ! -r $file ]] || kernel=$file
  done
  [[ -n $why || -r $kernel ]] || why="no kernel here (tools/deps.sh numa, or QUIRE_X86_KERNEL=FILE)"
}

# Builds these of tests/ into $out, as their last names say.
build_programs() { # name...
  local program
  for program in "$@"; do
    if ! cc -std=gnu17 -D_GNU_SOURCE -O1 -g -fno-builtin -Wall -Wextra -Wno-unused-function -Iinclude \
      "tests/$program.c" -lpthread -o "$out/${program##*/}" 2>"$out/build.log"; then
      echo "FAIL build: $program: $(grep -m 1 error "$out/build.log")"
      return 1
    fi
  done
}

# What is in each: its first process, libraries, quire.
common_members() { # libquire.so
  local name path
  for name in bin dev proc sys tmp lib lib64 lib/x86_64-linux-gnu tests preloaded; do directory $name; done
  member dev/console 0020600 "" 5 1
  program lib64/ld-linux-x86-64.so.2 "$(realpath /lib64/ld-linux-x86-64.so.2)"
  for path in "${libraries[@]}"; do program "lib/x86_64-linux-gnu/$(basename "$path")" "$(realpath "$path")"; done
  program lib/libquire.so "$1"
  program init $out/init
}

# Runs it with $out/initramfs until it switches itself off; unknown words of the command line become its first process's
# environment. What it said is in $out/console.log.
run_machine() { # seconds, words of the kernel's command line, options of qemu
  local limit=$1 words=$2
  shift 2
  timeout --foreground "$limit" qemu-system-x86_64 -M q35 -accel tcg,thread=multi -cpu max "$@" \
    -nodefaults -no-user-config -display none -no-reboot -serial stdio -kernel "$kernel" -initrd $out/initramfs \
    -append "console=ttyS0 quiet panic=-1 SECONDS_EACH=$((limit - 20)) $words" </dev/null >$out/console.raw 2>&1
  tr -d '\r' <$out/console.raw >$out/console.log
}
