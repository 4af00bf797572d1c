#!/bin/sh
# Installs the Debian packages that quire needs and that are missing; nothing else is touched.
#
#   tools/deps.sh [build] [demo] [check] [bench] [aarch64] [numa]     (no argument: the first four)
#
# numa is what tests/numa-system.sh and tests/pressure-system.sh need: an emulator and a kernel for it.
# aarch64 is what tests/aarch64-system.sh needs: 150 MB to fetch, and a kernel that only Debian has as a package
# that can be installed on another machine.
#
# Needs nothing but dpkg and apt. Where nothing is missing it asks dpkg once and is done. Packages that
# bring a service (redis, nginx, PostgreSQL) are installed without starting it: the tests run their own,
# on ports and in directories of their own.
set -eu
export LC_ALL=C

# "a|b" is one need under several names, the first that is installed or can be had counts: some names
# carry a version that changes with the release.
build='gcc g++ libc6-dev pkg-config|pkgconf liburing-dev libhwloc-dev
  libjansson-dev libncurses-dev libmicrohttpd-dev libcairo2-dev zlib1g-dev'
demo='redis-server redis-tools libjemalloc2 fonts-dejavu-core'
check='libcunit1-dev libhwloc15 clang clang-format llvm
  libclang-rt-14-dev|libclang-rt-16-dev|libclang-rt-19-dev
  gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
  redis-server redis-tools python3
  libpython3.11-testsuite|libpython3.13-testsuite|libpython3.12-testsuite
  sqlite3 libsqlite3-dev perl nodejs git nginx-light wrk curl postgresql stress-ng bash strace valgrind
  man-db groff-base tmux bash-completion chromium|chromium-browser fonts-dejavu-core'
bench='libbenchmark-dev libjemalloc2
  libtcmalloc-minimal4|libtcmalloc-minimal4t64|libgoogle-perftools4
  libmimalloc2.0|libmimalloc3|libmimalloc2 gnuplot-nox
  redis-server redis-tools sqlite3 libsqlite3-dev python3 nodejs'
aarch64='gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-system-arm
  debian-installer-12-netboot-arm64|debian-installer-13-netboot-arm64'
numa='libhwloc15 qemu-system-x86
  debian-installer-12-netboot-amd64|debian-installer-13-netboot-amd64'

needs=
for role in ${*:-build demo check bench}; do
  case $role in
    build) needs="$needs $build" ;;
    demo) needs="$needs $build $demo" ;;
    check) needs="$needs $build $check" ;;
    bench) needs="$needs $build $bench" ;;
    aarch64) needs="$needs $build $aarch64" ;;
    numa) needs="$needs $build $numa" ;;
    *) echo "deps: no role '$role' (build, demo, check, bench, aarch64, numa)" >&2; exit 2 ;;
  esac
done

if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
  echo "deps: this is no Debian-like machine (no dpkg or no apt-get): install these by hand:" \
    $(printf '%s\n' $needs | sort -u) >&2
  exit 1
fi

# Prints each need of which no alternative is installed.
missing() {
  # dpkg-query fails when it knows nothing of a name: that is an answer here, not an error.
  have=" $(dpkg-query -W -f '${db:Status-Status} ${Package}\n' \
    $(echo "$needs" | tr '|' ' ') 2>/dev/null | sed -n 's/^installed //p' | tr '\n' ' ')" || true
  for need in $needs; do
    found=
    for name in $(echo "$need" | tr '|' ' '); do
      case $have in *" $name "*) found=1 ;; esac
    done
    [ -n "$found" ] || echo "$need"
  done | sort -u
}

lacking=$(missing)
if [ -z "$lacking" ]; then
  echo "deps: everything needed is installed"
  exit 0
fi

root=
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null 2>&1; then
    echo "deps: missing, and neither root nor sudo to install them:" $lacking >&2
    exit 1
  fi
  root="sudo"
fi
echo "deps: installing" $lacking "(apt-get, services are not started)"

policy=/usr/sbin/policy-rc.d
log=$(mktemp)
ours=
clean() {
  rm -f "$log"
  # Only what this run made is taken away, and only while it is still that.
  if [ -n "$ours" ] && grep -q 'quire tools/deps.sh' "$policy" 2>/dev/null; then
    $root rm -f "$policy"
  fi
}
trap clean EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

apt() { $root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 "$@"; }

# A mirror that does not answer matters only if a package is then missing, and that is checked below.
tries=0
until apt update >"$log" 2>&1; do
  tries=$((tries + 1))
  grep -q 'Could not get lock' "$log" && [ $tries -lt 60 ] || break
  sleep 2 # somebody else runs apt-get update; unlike install it has no option to wait
done

# Which of each need's names this release has. What apt does not know is told at the end.
names=
for need in $lacking; do
  for name in $(echo "$need" | tr '|' ' '); do
    if apt-cache show --no-all-versions "$name" >/dev/null 2>&1; then
      names="$names $name"
      break
    fi
  done
done

# With no policy file, installing a service starts it. A policy that is already there is the machine's
# own and stays as it is.
if [ ! -e "$policy" ]; then
  ours=1
  printf '#!/bin/sh\n# Written by quire tools/deps.sh for the time of one apt-get run.\nexit 101\n' |
    $root tee "$policy" >/dev/null
  $root chmod 755 "$policy"
fi

if [ -n "$names" ] && ! apt install -y --no-install-recommends $names >"$log" 2>&1 </dev/null; then
  tail -n 30 "$log" >&2
  echo "deps: apt-get install failed (its last lines are above)" >&2
  exit 1
fi

lacking=$(missing)
if [ -n "$lacking" ]; then
  echo "deps: still missing, this release seems not to have them:" $lacking >&2
  exit 1
fi
echo "deps: done"
