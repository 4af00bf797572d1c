"""Python's sqlite3 module at work: functions and aggregates called back from SQL, adapters, backups,
dumps, and connections in several threads. Prints what must be the same under any allocator."""
import hashlib
import sqlite3
import threading


class Median:
    def __init__(self):
        self.values = []

    def step(self, value):
        self.values.append(value)

    def finalize(self):
        return sorted(self.values)[len(self.values) // 2]


def numbers(count, seed):
    for i in range(count):
        seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
        yield i, seed >> 8, f"row {i} " * (seed >> 8 & 15)


def work(name, count, results):
    db = sqlite3.connect(f"file:{name}?mode=memory&cache=private", uri=True)
    db.create_function("digest", 1, lambda text: hashlib.md5(str(text).encode()).hexdigest())
    db.create_aggregate("median", 1, Median)
    db.create_collation("backwards", lambda a, b: (a < b) - (a > b))
    db.execute("create table t (id integer primary key, number, words text)")
    with db:
        db.executemany("insert into t values (?, ?, ?)", numbers(count, len(name)))
    try:
        with db:
            db.execute("delete from t where id % 2")
            db.execute("insert into t values (0, 0, 'there already')")
    except sqlite3.IntegrityError as error:
        results.append((name, str(error)))
    with db:
        db.execute("update t set words = upper(words) || digest(number) where id % 3 = 0")
    copy = sqlite3.connect(":memory:")
    db.backup(copy, pages=7)
    rows = copy.execute("select id, words from t order by words collate nocase, id").fetchall()
    results.append((name, hashlib.md5(repr(rows).encode()).hexdigest()))
    results.append((name, db.execute("select median(number), count(*), sum(number) from t").fetchone()))
    results.append((name, db.execute(
        "select words from t where words <> '' order by words collate backwards limit 1").fetchone()))
    dump = "\n".join(db.iterdump())
    again = sqlite3.connect(":memory:")
    again.executescript(dump)
    results.append((name, dump == "\n".join(again.iterdump()), len(dump)))


results = []
threads = [threading.Thread(target=work, args=(f"db{i}", 4000, results)) for i in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for result in sorted(map(repr, results)):
    print(result)
