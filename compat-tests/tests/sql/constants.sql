-- A text whose literals are kept apart from its plan: 1 and '1' leave the same text.
SELECT c FROM (VALUES (('1')::numeric), (('2')::numeric)) v(c) LIMIT 1;
--> 1
SELECT c FROM (VALUES ((1)::numeric), ((2)::numeric)) v(c) LIMIT 1;
--> 1
SELECT c FROM (VALUES (('0')::real), (('NaN')::real)) v(c) LIMIT 1;
--> 0
SELECT c FROM (VALUES ((0)::real), (('NaN')::real)) v(c) LIMIT 1;
--> 0
CREATE TABLE t (id bigint PRIMARY KEY, v text);
INSERT INTO t VALUES (5, 'five');
SELECT v FROM t WHERE id = '5';
--> five
SELECT v FROM t WHERE id = 5;
--> five
-- An error among constants is found before anything runs, whichever way it would run.
SELECT (null)::uuid < ('no uuid')::text::uuid;
--> 22P02 invalid input syntax for type uuid: "no uuid"
SELECT (null)::int + (1 / 0);
--> 22012 division by zero
SELECT CASE WHEN id > 0 THEN 1 ELSE 1 / 0 END FROM t;
--> 22012 division by zero
SELECT v FROM t WHERE id < 0 AND 1 / 0 = 1;
--> 22012 division by zero
SELECT CASE WHEN true THEN 1 ELSE 1 / 0 END;
--> 1
SELECT ('{}'::text[] || 'a'::text) IS NULL OR (null)::int4 = (2147483647 + 1);
--> 22003 integer out of range
UPDATE t SET v = 'x' WHERE id = 0 AND v = (1 / 0)::text;
--> 22012 division by zero
-- A row comparison computes all that are constant, and looks no further than it must at others.
SELECT (1, ('x')::text::uuid) < (2, ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11')::uuid);
--> 22P02 invalid input syntax for type uuid: "x"
SELECT (id, v::int) < (6, 1) FROM t;
--> t
SELECT (id, v::int) < (5, 1) FROM t;
--> 22P02 invalid input syntax for type integer: "five"
SELECT (id, v) < (5, 'six'), (id, v) >= (5, 'five'), (id, v) > (null, 'a') FROM t;
--> t|t|·
SELECT ARRAY['{}'::int[], '{1,2}'::int[]]::text || null;
--> 2202E multidimensional arrays must have array expressions with matching dimensions
SELECT array_fill('a'::text, ARRAY[0, 2147483647]);
--> 54000 array lower bound is too large: 1
SELECT substring(v, 'a', 'ab') FROM (VALUES (null::text), (null)) x(v);
--> 22025 invalid escape string
--> HINT Escape string must be empty or one character.
SELECT substring(null::text, 'a', 'ab');
--> ·
SELECT ('{1,2,3}'::int[])[2:3], ('{1,2,3}'::int[])[null:3], ('{{1,2},{3,4}}'::int[])[2:2];
--> {2,3}|·|{{3,4}}
SELECT numeric_send('infinity'), 'ä' ~ '\x616263ABC', 'ä' ~ '\xe4';
--> \x00000000d0000020|f|t
SELECT ('a%')::text::json #>> (null)::text[];
--> 22P02 invalid input syntax for type json
--> DETAIL Token "a" is invalid.
SELECT array_position('{1,2,3}'::int[], null, null);
--> ·
SELECT CASE WHEN 1::int8 IS DISTINCT FROM 2 THEN 3 ELSE 1 / 0 END, nullif('a'::text, 'a'), nullif(1, 2), null::int IS DISTINCT FROM null, nullif(null, 1);
--> 3|·|1|f|·
