-- Sub-queries in ON CONFLICT DO UPDATE.
CREATE TABLE upsert (a int PRIMARY KEY, b text);
INSERT INTO upsert VALUES (1, 'Boo'), (3, 'Zoo');
WITH aaa AS (SELECT 1 AS a, 'Foo' AS b) INSERT INTO upsert VALUES (1, 'Bar')
  ON CONFLICT (a) DO UPDATE SET (b, a) = (SELECT b, a FROM aaa) RETURNING *;
--> 1|Foo
INSERT INTO upsert VALUES (1, 'Baz'), (3, 'Zaz')
  ON CONFLICT (a) DO UPDATE SET (b, a) = (SELECT b || ', correlated', a FROM upsert i WHERE i.a = upsert.a) RETURNING *;
--> 1|Foo, correlated
--> 3|Zoo, correlated
INSERT INTO upsert VALUES (1, 'Bat'), (3, 'Zot'), (4, 'new')
  ON CONFLICT (a) DO UPDATE SET b = (SELECT max(b) || excluded.b FROM upsert i WHERE i.a <= excluded.a) RETURNING *;
--> 1|Foo, correlatedBat
--> 3|Zoo, correlatedZot
--> 4|new
INSERT INTO upsert VALUES (1, 'x'), (3, 'y')
  ON CONFLICT (a) DO UPDATE SET b = 'seen' WHERE EXISTS (SELECT 1 FROM upsert i WHERE i.a = upsert.a + 1) RETURNING *;
--> 3|seen
SELECT * FROM upsert ORDER BY a;
--> 1|Foo, correlatedBat
--> 3|seen
--> 4|new
-- A unique key that is taken for a moment only.
CREATE TABLE places (id int PRIMARY KEY, place int UNIQUE DEFERRABLE);
INSERT INTO places SELECT i, i FROM generate_series(1, 5) i;
UPDATE places SET place = place + 1;
UPDATE places SET place = 8 - place;
SELECT * FROM places ORDER BY id;
--> 1|6
--> 2|5
--> 3|4
--> 4|3
--> 5|2
UPDATE places SET place = 3 WHERE id IN (1, 2);
--> 23505 duplicate key value violates unique constraint "places_place_key"
--> DETAIL Key (place)=(3) already exists.
UPDATE places SET place = 6 WHERE id = 4;
--> 23505 duplicate key value violates unique constraint "places_place_key"
--> DETAIL Key (place)=(6) already exists.
SELECT * FROM places WHERE place = 6;
--> 1|6
-- Actions of foreign keys: defaults, checks and generated columns of the child.
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int PRIMARY KEY,
  p int DEFAULT 0 REFERENCES parent ON DELETE SET DEFAULT ON UPDATE CASCADE,
  twice int GENERATED ALWAYS AS (p * 2) STORED, CONSTRAINT small CHECK (p < 100));
INSERT INTO parent VALUES (0), (1), (2);
INSERT INTO child VALUES (10, 1), (20, 2);
DELETE FROM parent WHERE id = 1;
UPDATE parent SET id = 7 WHERE id = 2;
SELECT * FROM child ORDER BY id;
--> 10|0|0
--> 20|7|14
UPDATE parent SET id = 700 WHERE id = 7;
--> 23514 new row for relation "child" violates check constraint "small"
--> DETAIL Failing row contains (20, 700, 1400).
DELETE FROM parent WHERE id = 0;
--> 23503 update or delete on table "parent" violates foreign key constraint "child_p_fkey" on table "child"
--> DETAIL Key (id)=(0) is still referenced from table "child".
CREATE TABLE other (p int DEFAULT 5 REFERENCES parent ON DELETE SET NULL ON UPDATE SET DEFAULT, CHECK (p IS NOT NULL));
INSERT INTO other VALUES (7);
DELETE FROM parent WHERE id = 7;
--> 23514 new row for relation "other" violates check constraint "other_p_check"
--> DETAIL Failing row contains (null).
UPDATE parent SET id = 8 WHERE id = 7;
--> 23503 insert or update on table "other" violates foreign key constraint "other_p_fkey"
--> DETAIL Key (p)=(5) is not present in table "parent".
-- Volatile calls go row by row, and no further than a LIMIT needs.
CREATE SEQUENCE s;
SELECT nextval('s'), currval('s') FROM generate_series(1, 3);
--> 1|1
--> 2|2
--> 3|3
SELECT nextval('s') FROM generate_series(1, 1000) LIMIT 2;
--> 4
--> 5
SELECT currval('s');
--> 5
-- There is one version.
SELECT version() LIKE 'PostgreSQL ' || split_part(current_setting('server_version'), ' ', 1) || ' %';
--> t
