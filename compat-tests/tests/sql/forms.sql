-- Forms of queries that are rarely written.
CREATE TABLE t (a int PRIMARY KEY, b text);
INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'three');
TABLE t;
--> 1|one
--> 2|two
--> 3|three
TABLE t UNION ALL SELECT 4, 'four' ORDER BY 1;
--> 1|one
--> 2|two
--> 3|three
--> 4|four
SELECT 0 AS a, 'none' UNION TABLE t ORDER BY a LIMIT 2;
--> 0|none
--> 1|one
(TABLE t) EXCEPT SELECT 1, 'one' ORDER BY 1;
--> 2|two
--> 3|three
WITH w AS (TABLE t) TABLE w ORDER BY a DESC LIMIT 1;
--> 3|three
CREATE TABLE u AS TABLE t;
SELECT count(*) AS table FROM u;
--> 3
SELECT a FROM t ORDER BY a FETCH FIRST (1 + 1) ROWS ONLY;
--> 1
--> 2
SELECT a FROM t ORDER BY a OFFSET 1 FETCH NEXT (2 - 1) ROW ONLY;
--> 2
SELECT a FROM t ORDER BY a FETCH FIRST 1 ROW ONLY;
--> 1
SELECT pg_typeof('a'), pg_typeof('a'::text), pg_typeof(null), pg_typeof(1), pg_typeof(b) FROM t LIMIT 1;
--> unknown|text|unknown|integer|text
SET search_path = "select", public, "A b", "$user";
SHOW search_path;
--> "select", public, "A b", "$user"
RESET search_path;
-- Rows of a join without a condition come in the order of its left side.
SELECT x, y FROM (VALUES (1), (2)) a(x), (VALUES ('a'), ('b')) b(y);
--> 1|a
--> 1|b
--> 2|a
--> 2|b
SELECT x, y FROM (VALUES (1), (2), (3)) a(x) JOIN (VALUES (2), (3)) b(y) ON x < y;
--> 1|2
--> 1|3
--> 2|3
-- Sums of squares may be beyond what a numeric holds.
SELECT variance(v), stddev_pop(v) FROM (SELECT 9e131071 + x AS v FROM generate_series(1, 5) x) s;
--> 2.5000000000000000|1.4142135623730950
SELECT variance(v), var_pop(v), stddev(v) FROM (VALUES (1.50), (2.25), (null), (7)) s(v);
--> 8.8958333333333333|5.9305555555555556|2.9825883613622134
SELECT variance(v), stddev_pop(v) FROM (VALUES ('NaN'::numeric), (1)) s(v);
--> NaN|NaN
SELECT trim_scale(variance(v) * 1e1000) FROM (VALUES (0), (3e-500), (-3e-500), (4e-500 - 1e-16383), (-4e-500 + 1e-16383)) s(v);
--> 12
SELECT to_char('1.2345e131071'::numeric, '9.999EEEE'), to_char('9.9996e-16000'::numeric, '9.999EEEE');
-->  1.235e+131071| 10.000e-16000
SELECT pg_lsn(23783416::numeric), pg_lsn(18446744073709551615::numeric);
--> 0/16AE7F8|FFFFFFFF/FFFFFFFF
SELECT pg_lsn(18446744073709551616::numeric);
--> 22023 pg_lsn out of range
SELECT pg_lsn('NaN'::numeric);
--> 0A000 cannot convert NaN to pg_lsn
SELECT pg_catalog.timestamp(timestamp '2020-01-01 00:00:00.5', -2147483648);
--> 22023 timestamp(-2147483648) precision must be between 0 and 6
SELECT pg_catalog.timestamp(now()::timestamp, -2147483648) = now()::timestamp;
--> t
