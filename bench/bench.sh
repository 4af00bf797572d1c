#!/bin/sh
# Runs all benchmarks on quire and the allocators it is compared with, and writes docs/bench.md.
#
# usage: bench.sh [--quick] [--rounds N] [--allocators a,b,...] [--filter REGEX] [--report-only]
#                 [--programs a,b,...] [--docs DIRECTORY]
#
#   --quick       a few minutes instead of half an hour: fewer rounds, smaller loads
#   --filter      only the micro-benchmarks whose names match
#   --programs    only these whole programs
#   --report-only make the tables and plots again from the results of the last run
#
# The programs in build/bench must be built; `make bench` does both. Set BENCH_BUILD to take another
# build than build/.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
BENCH_BUILD=${BENCH_BUILD:-$top/build}
export BENCH_BUILD
out=$BENCH_BUILD/bench
python=/usr/bin/python3

rounds=5
min_time=0.1
quick=
filter=
programs=
allocators=quire,glibc,jemalloc,tcmalloc,mimalloc
docs=$top/docs
report_only=false

while [ $# -gt 0 ]; do
	case $1 in
	--quick)
		quick=--quick rounds=2 min_time=0.03
		;;
	--rounds)
		rounds=$2
		shift
		;;
	--allocators)
		allocators=$2
		shift
		;;
	--filter)
		filter=$2
		shift
		;;
	--programs)
		programs=$2
		shift
		;;
	--docs)
		docs=$2
		shift
		;;
	--report-only)
		report_only=true
		;;
	*)
		sed -n '4,5s/^# //p' "$0" >&2
		exit 2
		;;
	esac
	shift
done

for program in $python gnuplot redis-server redis-benchmark sqlite3 node gcc g++; do
	if ! command -v "$program" >/dev/null; then
		echo "bench: $program is missing; make deps installs it" >&2
		exit 1
	fi
done

if ! $report_only; then
	for program in micro measure tiny heap; do
		if ! [ -x "$out/$program" ]; then
			echo "bench: $out/$program is not built" >&2
			exit 1
		fi
	done
	$python "$here/machine.py" >"$out/machine-before.json"
	$python "$here/run_micro.py" --rounds "$rounds" --min-time "$min_time" --filter "$filter" \
		--allocators "$allocators"
	$python "$here/run_programs.py" --rounds "$rounds" --allocators "$allocators" \
		--programs "$programs" $quick
	$python "$here/run_heap.py" --allocators "$allocators"
	$python "$here/machine.py" "$out/machine-before.json" >"$out/machine.json"
fi
$python "$here/report.py" "$docs"
