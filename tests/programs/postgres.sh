#!/bin/bash
# PostgreSQL: initdb, pgbench with its own checks of consistency, a restart, and queries whose answers
# are compared with those of a server without quire.
. "$(dirname "$0")/lib.sh"
need runuser

bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
if [[ -z $bin || ! -x $bin/initdb ]]; then
  skip postgres "not installed"
  finish
fi
# PostgreSQL refuses to run as root.
user=()
if ((EUID == 0)); then
  chmod 711 "$work"
  mkdir "$work/pg"
  chown postgres "$work/pg"
  user=(runuser -u postgres --)
else
  mkdir "$work/pg"
fi
if ! "${user[@]}" test -r "$lib"; then
  # The tree may be where another user cannot look: a copy can be read.
  cp "$lib" "$work/libquire.so"
  chmod 755 "$work/libquire.so"
  lib=$work/libquire.so
  on_quire=(env "LD_PRELOAD=$lib")
fi
transactions=$(amount 1500 60000)

queries="
select count(*), sum(hashtext(s)), max(s) from
  (select string_agg(md5(i::text), ',' order by i) s from generate_series(1, 200000) i group by i % 997) x;
select jsonb_array_length(jsonb_agg(jsonb_build_object('k', i, 'v', md5(i::text)))) from
  generate_series(1, 30000) i;
select md5(string_agg(m, '')) from (select md5(i::text) m from generate_series(1, 100000) i order by m) x;
select length(repeat('quire', 2000000)), md5(repeat('folio', 1000000));
select count(*) from generate_series(1, 300000) a join generate_series(1, 300000, 7) b on a = b;
do \$\$ declare t text := ''; begin
  for i in 1..20000 loop t := t || i::text; end loop;
  raise notice '%', md5(t);
  for i in 1..2000 loop begin perform 1 / (i % 2); exception when division_by_zero then null; end; end loop;
end \$\$;
select count(*), count(distinct relname) > 10 from pg_class where relkind = 'r';"

# Runs a whole life of a server in directory $1; the rest is the command prefix.
life() {
  local name=$1 dir=$work/pg/$1
  shift
  as() { (cd "$work/pg" && "${user[@]}" "$@"); }
  ask() { as "$bin/psql" -h "$dir" -p 5432 -U tester -X -At -d postgres "$@"; }
  start() {
    as "${prefix[@]}" "$bin/pg_ctl" -D "$dir" -w -t 60 -l "$dir.log" \
      -o "-c listen_addresses='' -c unix_socket_directories=$dir -c fsync=off -c work_mem=64MB \
          -c max_parallel_workers_per_gather=2" start
  }
  stop() { as "$bin/pg_ctl" -D "$dir" -w -m fast stop; }
  local prefix=("$@")
  as "${prefix[@]}" "$bin/initdb" -D "$dir" -U tester -A trust --no-sync -E UTF8 --locale=C >"$work/$name.initdb" 2>&1 ||
    { tail -n 5 "$work/$name.initdb"; return 1; }
  start >/dev/null || { tail -n 20 "$dir.log"; return 1; }
  head -n 1 "$dir/postmaster.pid" >"$work/$name.pid"
  trap 'stop >/dev/null 2>&1' RETURN
  as "${prefix[@]}" "$bin/pgbench" -h "$dir" -U tester -i -s 2 -q postgres >"$work/$name.init" 2>&1 || return 1
  [[ $name != with ]] || is_on_quire "$(cat "$work/$name.pid")" || { echo "not on quire"; return 1; }
  as "${prefix[@]}" "$bin/pgbench" -h "$dir" -U tester -c 8 -j 2 -t "$transactions" postgres \
    >"$work/$name.bench" 2>&1 || { tail "$work/$name.bench"; return 1; }
  # Each transaction adds one number to an account, a teller and a branch: the sums must agree.
  ask -c "select (select sum(abalance) from pgbench_accounts) = (select sum(bbalance) from pgbench_branches)
    and (select sum(tbalance) from pgbench_tellers) = (select sum(delta) from pgbench_history)
    and (select count(*) from pgbench_history) = 8 * $transactions" >"$work/$name.sums" 2>&1
  stop >/dev/null && start >/dev/null || { tail -n 20 "$dir.log"; return 1; }
  ask -c "$queries" >"$work/$name.answers" 2>&1
  ask -c "select count(*), sum(aid) from pgbench_accounts" >>"$work/$name.answers" 2>&1
  "${user[@]}" "$bin/pg_amcheck" -h "$dir" -U tester -d postgres --install-missing \
    >"$work/$name.amcheck" 2>&1 || { tail "$work/$name.amcheck"; return 1; }
  ! grep -aE 'terminated by signal|PANIC|quire:|cannot be preloaded' "$dir.log"
}

loads postgres "$bin/postgres" --version
life without env >"$work/without.out" 2>&1 &
other=$!
if life with "${on_quire[@]}" >"$work/with.out" 2>&1; then pass "initdb, pgbench, restart"; else
  cat "$work/with.out"
  fail "initdb, pgbench, restart" "see above"
fi
wait "$other" || { cat "$work/without.out"; fail "postgres without quire" "cannot compare"; }
grep -E 'tps|failed' "$work/with.bench"
if [[ $(cat "$work/with.sums") == t ]]; then pass "sums agree after pgbench"; else
  fail "sums agree after pgbench" "$(head -c 200 "$work/with.sums")"
fi
same "same answers" "$work/without.answers" "$work/with.answers"
finish
