-- Plans are shown with PostgreSQL's names; here is what both plan alike.
CREATE TABLE t (a int PRIMARY KEY, b text, c int);
EXPLAIN (COSTS OFF) SELECT * FROM t WHERE a = 5;
--> Index Scan using t_pkey on t
-->   Index Cond: (a = 5)
EXPLAIN (COSTS OFF) SELECT * FROM t x WHERE x.c > 5;
--> Seq Scan on t x
-->   Filter: (c > 5)
EXPLAIN (COSTS OFF) SELECT * FROM t x WHERE a NOT IN (SELECT c FROM t y);
--> Seq Scan on t x
-->   Filter: (NOT (hashed SubPlan 1))
-->   SubPlan 1
-->     ->  Seq Scan on t y
EXPLAIN (COSTS OFF) UPDATE t SET b = 'x' WHERE a = 5;
--> Update on t
-->   ->  Index Scan using t_pkey on t
-->         Index Cond: (a = 5)
EXPLAIN (COSTS OFF) DELETE FROM t x WHERE a = 5 RETURNING x.b;
--> Delete on t x
-->   ->  Index Scan using t_pkey on t x
-->         Index Cond: (a = 5)
EXPLAIN (COSTS OFF) INSERT INTO t AS i VALUES (23, 'Avocado')
  ON CONFLICT (a) DO UPDATE SET b = excluded.b WHERE i.b <> excluded.b;
--> Insert on t i
-->   Conflict Resolution: UPDATE
-->   Conflict Arbiter Indexes: t_pkey
-->   Conflict Filter: (i.b <> excluded.b)
-->   ->  Result
EXPLAIN (COSTS OFF) WITH q AS MATERIALIZED (SELECT * FROM t) SELECT * FROM q z WHERE a = 1;
--> CTE Scan on q z
-->   Filter: (a = 1)
-->   CTE q
-->     ->  Seq Scan on t
