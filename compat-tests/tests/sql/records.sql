-- Functions that give rows, where one value is wanted.
SELECT * FROM information_schema._pg_expandarray(ARRAY['a', 'b']);
--> a|1
--> b|2
SELECT (information_schema._pg_expandarray(ARRAY[3, 4])).*, 1 AS one;
--> 3|1|1
--> 4|2|1
SELECT (information_schema._pg_expandarray('5 7'::int2vector)).n;
--> 1
--> 2
SELECT (k.r).x, (k.r).n FROM (SELECT information_schema._pg_expandarray(ARRAY[9, 8]) AS r) k WHERE (k.r).x < 9;
--> 8|2
SELECT _pg_expandarray(ARRAY[1]);
--> 42883 function _pg_expandarray(integer[]) does not exist
--> HINT No function matches the given name and argument types. You might need to add explicit type casts.
SELECT (x).* FROM (SELECT 1 AS a, 'b' AS b) x;
--> 1|b
SELECT (jsonb_each('{"a": 1, "b": 2}')).key;
--> a
--> b
-- VARIADIC of arrays that are not written out.
SELECT concat(VARIADIC a), concat_ws('-', VARIADIC a), format('%s/%s', VARIADIC a) FROM (VALUES (ARRAY[1, 2]), (ARRAY[3, NULL])) v(a);
--> 12|1-2|1/2
--> 3|3|3/
SELECT concat_ws(',', VARIADIC NULL::int[]), concat(VARIADIC NULL::int[]) IS NULL, concat(VARIADIC '{}'::int[]) = '';
--> ·|t|t
SELECT format('Hello', VARIADIC NULL::int[]);
--> Hello
SELECT concat_ws(',', VARIADIC 10);
--> 42804 VARIADIC argument must be an array
-- Prepared statements and their parameters.
PREPARE q (text, int, float) AS SELECT $1, $2, $3;
SELECT name, parameter_types, from_sql FROM pg_prepared_statements;
--> q|{text,integer,"double precision"}|t
EXECUTE q('a', 1, false);
--> 42804 parameter $3 of type boolean cannot be coerced to the expected type double precision
--> HINT You will need to rewrite or cast the expression.
EXECUTE q('a', 1, 2);
--> a|1|2
