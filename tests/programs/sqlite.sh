#!/bin/bash
# sqlite3 on a few hundred MB that are made by SQL itself, the same each time: inserts, indices, updates,
# sorts, window functions, a database in memory. What it prints must not depend on the allocator.
. "$(dirname "$0")/lib.sh"
need sqlite3

rows=$(amount 600000 6000000)
cat >"$work/sql" <<END
pragma cache_size = -200000;
pragma temp_store = memory;
pragma journal_mode = off;
create table t (id integer primary key, a integer, b text, c blob);
insert into t with recursive n(i, x) as (
    select 1, 12345 union all select i + 1, (x * 1103515245 + 12345) & 2147483647 from n where i < $rows)
  select i, x, printf('row %d of %d ', i, x) || substr(hex(x * 7919), 1, x % 9), zeroblob(x % 900) from n;
create index t_a on t(a);
create index t_b on t(b);
select count(*), sum(a), sum(length(b)), sum(length(c)) from t;
update t set b = b || ' changed', c = x'' where a % 5 = 0;
update t set c = cast(b || b || b as blob) where a % 7 = 0;
delete from t where a % 11 = 0;
select a % 100 as g, count(*), min(b), max(b), sum(length(c)) from t group by g order by g;
select id, sum(a) over (order by a rows between 50 preceding and current row)
  from t order by b desc limit 1000;
select count(*) from t x join t y on y.id = x.a % $rows where x.b < y.b;
create table u as select min(b) b, max(id) last, group_concat(length(b), '') lengths from
  (select * from t order by id) group by a % 5000 order by a % 5000;
select last, length(lengths), substr(b, 1, 40) from u order by last limit 200;
select json_group_array(json_object('id', id, 'b', b)) from (select id, b from t order by a limit 20000);
attach ':memory:' as m;
create table m.t as select * from t where a % 3 = 0;
create index m.t_b on t(b, a);
select count(*), sum(length(b)), max(b) from m.t;
drop index t_a;
alter table t drop column a;
vacuum;
pragma integrity_check;
END

run() { # directory, command prefix...
  local dir=$1
  shift
  mkdir -p "$dir"
  # A database without a name keeps its pages in memory and spills what does not fit.
  { "$@" sqlite3 -batch "$dir/file.db" <"$work/sql" && "$@" sqlite3 -batch :memory: <"$work/sql" &&
    "$@" sqlite3 "$dir/file.db" .dump | sha256sum; } >"$dir/out" 2>&1 || echo "died: $?" >>"$dir/out"
}

loads sqlite3 sqlite3 :memory: 'select 1'
run "$work/without" env &
other=$!
run "$work/with" "${on_quire[@]}"
wait "$other"
ls -l "$work"/with/file.db | awk '{ print "database: " $5 " bytes" }'
check "no error from SQL" sh -c "! grep -n -i error '$work/with/out'"
same "same output" "$work/without/out" "$work/with/out"
check "database file is intact" sh -c "sqlite3 '$work/with/file.db' 'pragma integrity_check' | grep -x ok"
finish
