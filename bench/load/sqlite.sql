-- A database in memory of a few hundred MB: rows of uneven length, two indexes, updates that make
-- rows grow, deletes, sorts and joins. Deterministic: the numbers come from the row number.
PRAGMA cache_size = -1000000;
PRAGMA temp_store = MEMORY;
CREATE TABLE item (id INTEGER PRIMARY KEY, tag TEXT, body TEXT, price INTEGER);
CREATE TABLE sale (id INTEGER PRIMARY KEY, item INTEGER, amount INTEGER, note TEXT);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)
INSERT INTO item SELECT i, printf('tag-%06d', (i * 7919) % 100003),
  substr('abcdefghijklmnopqrstuvwxyz' || hex(zeroblob(300)), 1, 40 + (i * 31) % 500),
  (i * 104729) % 1000 FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400000)
INSERT INTO sale SELECT i, 1 + (i * 15485863) % 300000, (i * 31) % 97,
  substr('a note of some length, ' || hex(zeroblob(40)), 1, 5 + i % 90) FROM n;
COMMIT;
CREATE INDEX item_tag ON item(tag);
CREATE INDEX sale_item ON sale(item);
UPDATE item SET body = body || body WHERE id % 5 = 0;
DELETE FROM sale WHERE id % 7 = 0;
SELECT count(*), sum(length(body)) FROM item;
SELECT tag, count(*), sum(amount) FROM item JOIN sale ON sale.item = item.id
  GROUP BY tag ORDER BY 3 DESC, 1 LIMIT 20;
SELECT sum(length(t)) FROM (SELECT group_concat(note, ';') AS t FROM sale GROUP BY item % 1000);
SELECT count(DISTINCT substr(body, 20, 60)) FROM item;
DELETE FROM item WHERE id % 3 = 0;
SELECT count(*), max(tag) FROM item;
