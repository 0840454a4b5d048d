-- Prepared statements as the source of a table.
CREATE TABLE t (a int PRIMARY KEY, b text);
INSERT INTO t VALUES (1, 'x'), (2, 'y'), (3, 'z');
PREPARE p (int) AS SELECT * FROM t WHERE a >= $1;
CREATE TABLE c1 AS EXECUTE p (1 + 1);
SELECT * FROM c1 ORDER BY a;
--> 2|y
--> 3|z
CREATE TABLE c2 (x, y) AS EXECUTE p (1) WITH NO DATA;
SELECT count(*) FROM c2;
--> 0
CREATE TABLE c3 AS EXECUTE p;
--> 42601 wrong number of parameters for prepared statement "p"
--> DETAIL Expected 1 parameters but got 0.
CREATE TABLE c3 AS EXECUTE nope (1);
--> 26000 prepared statement "nope" does not exist
PREPARE ins AS INSERT INTO t VALUES (9, 'n') RETURNING a;
CREATE TABLE c3 AS EXECUTE ins;
--> 42809 prepared statement is not a SELECT
-- Clauses that exclude each other.
SELECT * FROM t ORDER BY a FETCH FIRST 1 ROWS WITH TIES FOR UPDATE SKIP LOCKED;
--> 42601 SKIP LOCKED and WITH TIES options cannot be used together
SELECT * FROM t ORDER BY a FETCH FIRST 1 ROWS WITH TIES FOR UPDATE;
--> 1|x
SELECT * FROM t FETCH FIRST 1 ROWS WITH TIES;
--> 42601 WITH TIES cannot be specified without ORDER BY clause
-- Key words.
SELECT count(*), count(DISTINCT word), min(word), max(word) FROM pg_get_keywords();
--> 460|460|abort|zone
SELECT catcode, catdesc, barelabel, baredesc, count(*) FROM pg_get_keywords() GROUP BY 1, 2, 3, 4 ORDER BY 1, 3;
--> C|unreserved (cannot be function or type name)|f|requires AS|3
--> C|unreserved (cannot be function or type name)|t|can be bare label|48
--> R|reserved|f|requires AS|22
--> R|reserved|t|can be bare label|55
--> T|reserved (can be function or type name)|f|requires AS|3
--> T|reserved (can be function or type name)|t|can be bare label|20
--> U|unreserved|f|requires AS|11
--> U|unreserved|t|can be bare label|298
SELECT * FROM pg_get_keywords() WHERE word IN ('select', 'abort', 'between', 'authorization', 'year') ORDER BY 1;
--> abort|U|t|unreserved|can be bare label
--> authorization|T|t|reserved (can be function or type name)|can be bare label
--> between|C|t|unreserved (cannot be function or type name)|can be bare label
--> select|R|t|reserved|can be bare label
--> year|U|f|unreserved|requires AS
-- A unique key is looked at row by row, unless it is DEFERRABLE.
CREATE TABLE k (i int PRIMARY KEY, j int UNIQUE);
INSERT INTO k VALUES (1, 1), (2, 2), (3, 3);
UPDATE k SET i = i + 1;
--> 23505 duplicate key value violates unique constraint "k_pkey"
--> DETAIL Key (i)=(2) already exists.
UPDATE k SET i = i - 1;
UPDATE k SET j = j + 1;
--> 23505 duplicate key value violates unique constraint "k_j_key"
--> DETAIL Key (j)=(2) already exists.
UPDATE k SET j = j - 1 RETURNING *;
--> 0|0
--> 1|1
--> 2|2
CREATE TABLE d (i int UNIQUE DEFERRABLE);
INSERT INTO d VALUES (1), (2), (3);
UPDATE d SET i = i + 1;
INSERT INTO d VALUES (4);
--> 23505 duplicate key value violates unique constraint "d_i_key"
--> DETAIL Key (i)=(4) already exists.
INSERT INTO d VALUES (2) ON CONFLICT (i) DO NOTHING;
--> 55000 ON CONFLICT does not support deferrable unique constraints/exclusion constraints as arbiters
INSERT INTO d VALUES (9) ON CONFLICT DO NOTHING;
--> 55000 ON CONFLICT does not support deferrable unique constraints/exclusion constraints as arbiters
CREATE TABLE f (i int REFERENCES d (i));
--> 55000 cannot use a deferrable unique constraint for referenced table "d"
CREATE TABLE e (i int PRIMARY KEY DEFERRABLE);
CREATE TABLE f (i int REFERENCES e);
--> 55000 cannot use a deferrable primary key for referenced table "e"
-- Who may ask for a checkpoint.
CREATE ROLE nobody_in_particular;
SET ROLE nobody_in_particular;
CHECKPOINT;
--> 42501 must be superuser or have privileges of pg_checkpoint to do CHECKPOINT
RESET ROLE;
GRANT pg_checkpoint TO nobody_in_particular;
SET ROLE nobody_in_particular;
CHECKPOINT;
RESET ROLE;
DROP ROLE nobody_in_particular;
-- Rows in rows: each level doubles the quotes.
SELECT row(row(row(1, 'a b'), NULL), 'c');
--> ("(""(1,""""a b"""")"",)",c)
SELECT length(row(row(row(row(row(row(row(1))))))) ::text);
--> 141
SELECT row(row(row())) IS NULL;
--> f
-- Parts of what is infinite.
SELECT date_part('day', 'infinity'::timestamp), date_part('year', '-infinity'::timestamptz), date_part('epoch', 'infinity'::date);
--> ·|-Infinity|Infinity
SELECT extract(hour FROM '-infinity'::timestamp), extract(century FROM 'infinity'::timestamptz), extract(julian FROM '-infinity'::date);
--> ·|Infinity|-Infinity
SELECT extract(hour FROM 'infinity'::date);
--> 0A000 unit "hour" not supported for type date
SELECT extract(fortnight FROM 'infinity'::timestamptz);
--> 22023 unit "fortnight" not recognized for type timestamp with time zone
