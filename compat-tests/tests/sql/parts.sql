-- Assignment to parts of a column.
CREATE TABLE t (id int PRIMARY KEY, a int[], m text[][], j jsonb, p point, n int);
INSERT INTO t (id, a, m, j) VALUES (1, '{1,2,3}', '{{a,b},{c,d}}', '{"k": {"x": 1}, "l": [1, 2]}'), (2, NULL, NULL, NULL);
UPDATE t SET a[2] = 20, a[5] = 50, m[1][2] = 'B' WHERE id = 1 RETURNING a, m;
--> {1,20,3,NULL,50}|{{a,B},{c,d}}
UPDATE t SET a[2] = 7, m[1][1] = 'first' WHERE id = 2 RETURNING a, m;
--> [2:2]={7}|{{first}}
UPDATE t SET a[0] = n, a[-1] = id;
SELECT id, a FROM t ORDER BY id;
--> 1|[-1:5]={1,NULL,1,20,3,NULL,50}
--> 2|[-1:2]={2,NULL,NULL,7}
UPDATE t SET a[1:2] = '{100,200,300}';
SELECT id, a FROM t ORDER BY id;
--> 1|[-1:5]={1,NULL,100,200,3,NULL,50}
--> 2|[-1:2]={2,NULL,100,200}
UPDATE t SET a = '{}';
UPDATE t SET a[2:3] = ARRAY[5, 6];
SELECT id, a FROM t ORDER BY id;
--> 1|[2:3]={5,6}
--> 2|[2:3]={5,6}
UPDATE t SET a[:2] = ARRAY[9] WHERE id = 1 RETURNING a;
--> [2:3]={9,6}
UPDATE t SET a[:] = ARRAY[1, 2], n = a[2] WHERE id = 1 RETURNING a, n;
--> [2:3]={1,2}|9
UPDATE t SET m[1:2][1] = '{{x},{y}}' WHERE id = 1 RETURNING m;
--> {{x,B},{y,d}}
UPDATE t SET a[5:3] = '{1}' WHERE id = 1;
--> 2202E upper bound cannot be less than lower bound
UPDATE t SET a[1:9] = '{1}' WHERE id = 1;
--> 2202E source array too small
UPDATE t SET a[NULL] = 1;
--> 22004 array subscript in assignment must not be null
UPDATE t SET m[3][1] = 'z' WHERE id = 1;
--> 2202E array subscript out of range
UPDATE t SET m[1] = 'z' WHERE id = 1;
--> 2202E wrong number of array subscripts
UPDATE t SET a[1] = 'x'::text;
--> 42804 subscripted assignment to "a" requires type integer but expression is of type text
--> HINT You will need to rewrite or cast the expression.
UPDATE t SET a[1] = '{1}'::int[];
--> 42804 subscripted assignment to "a" requires type integer but expression is of type integer[]
--> HINT You will need to rewrite or cast the expression.
UPDATE t SET n[1] = 2;
--> 42804 cannot subscript type integer because it does not support subscripting
UPDATE t SET a[1] = 1, a = '{2}';
--> 42601 multiple assignments to same column "a"
UPDATE t SET a = '{}';
UPDATE t SET a[:] = '{1}' WHERE id = 1;
--> 2202E array slice subscript must provide both boundaries
--> DETAIL When assigning to a slice of an empty array value, slice boundaries must be fully specified.
UPDATE t SET a[2] = (SELECT max(id) FROM t), j['k']['x'] = '2', j['l'][3] = '"four"', j['new']['deep'][1] = 'true';
SELECT id, a, j FROM t ORDER BY id;
--> 1|[2:2]={2}|{"k": {"x": 2}, "l": [1, 2, null, "four"], "new": {"deep": [null, true]}}
--> 2|[2:2]={2}|{"k": {"x": 2}, "l": [null, null, null, "four"], "new": {"deep": [null, true]}}
UPDATE t SET j['k']['x']['y'] = '1' WHERE id = 1;
--> 22023 cannot replace existing key
--> DETAIL The path assumes key is a composite object, but it is a scalar value.
UPDATE t SET j['l']['y'] = '1' WHERE id = 1;
--> 22P02 path element at position 2 is not an integer: "y"
UPDATE t SET j['l'][-9] = '1' WHERE id = 1;
--> 22023 path element at position 2 is out of range: -9
UPDATE t SET j['k'] = NULL WHERE id = 1 RETURNING j;
--> {"k": null, "l": [1, 2, null, "four"], "new": {"deep": [null, true]}}
INSERT INTO t (id, a) VALUES (1, '{8,9}') ON CONFLICT (id) DO UPDATE SET a[1] = excluded.a[2], a[3] = t.a[2] RETURNING a;
--> {9,2,2}
-- Rows as values keep what is known of them.
SELECT row_to_json(x), to_jsonb(x.*), json_agg(x) FROM (SELECT 1 AS a, 'b' AS "B c", '{"in": 1}'::json AS j) x GROUP BY x.a, x."B c", x.j::text, x.*;
--> {"a":1,"B c":"b","j":{"in": 1}}|{"a": 1, "j": {"in": 1}, "B c": "b"}|[{"a":1,"B c":"b","j":{"in": 1}}]
SELECT row_to_json(r) FROM (SELECT id, n FROM t ORDER BY id) r;
--> {"id":1,"n":9}
--> {"id":2,"n":null}
SELECT json_agg(q) FROM (SELECT id, a[2] AS second FROM t ORDER BY id) q;
--> [{"id":1,"second":2}, ⏎ {"id":2,"second":2}]
SELECT row_to_json(u) FROM t u WHERE id = 2;
--> {"id":2,"a":[2],"m":[["first"]],"j":{"k": {"x": 2}, "l": [null, null, null, "four"], "new": {"deep": [null, true]}},"p":null,"n":null}
SELECT json_agg(u.*) FROM (SELECT * FROM t WHERE id = 2) u;
--> [{"id":2,"a":[2],"m":[["first"]],"j":{"k": {"x": 2}, "l": [null, null, null, "four"], "new": {"deep": [null, true]}},"p":null,"n":null}]
SELECT t, t.* FROM t WHERE id = 2;
--> (2,[2:2]={2},{{first}},"{""k"": {""x"": 2}, ""l"": [null, null, null, ""four""], ""new"": {""deep"": [null, true]}}",,)|2|[2:2]={2}|{{first}}|{"k": {"x": 2}, "l": [null, null, null, "four"], "new": {"deep": [null, true]}}|·|·
WITH c AS (SELECT t AS whole FROM t WHERE id = 2) SELECT (whole).id, row_to_json(whole) FROM c;
--> 2|{"id":2,"a":[2],"m":[["first"]],"j":{"k": {"x": 2}, "l": [null, null, null, "four"], "new": {"deep": [null, true]}},"p":null,"n":null}
SELECT (s.r).x FROM (SELECT q AS r FROM (SELECT 5 AS x) q) s;
--> 5
SELECT ROW('t'::regclass, 1.50, 'a b'::bpchar);
--> (t,1.50,"a b")
SELECT ARRAY[ROW(1, 'a'), ROW(2, NULL)], array_agg(ROW(i, i + 1)) FROM generate_series(1, 2) i;
--> {"(1,a)","(2,)"}|{"(1,2)","(2,3)"}
SELECT array_agg(x) FROM (SELECT 1 AS a, 'z' AS b) x;
--> {"(1,z)"}
SELECT DISTINCT x FROM (VALUES (1, 2), (1, 2), (3, 4)) x ORDER BY x;
--> (1,2)
--> (3,4)
SELECT x.a FROM (t JOIN (SELECT 1 AS b) y ON true) x FOR UPDATE OF x;
--> 0A000 FOR UPDATE cannot be applied to a join
