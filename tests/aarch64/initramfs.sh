# What machines that are emulated for tests have in common: an initramfs of C programs, of which tests/aarch64/init.c is the
# first, and the lines that they print. Wants $out, and $prefix of the compiler.

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
