-- Writing through views.
CREATE TABLE base (id int PRIMARY KEY, name text DEFAULT 'none', size int, CHECK (size < 1000));
INSERT INTO base SELECT i, 'n' || i, i * 10 FROM generate_series(1, 10) i;
CREATE VIEW small AS SELECT id AS k, size AS s, upper(name) AS shout FROM base b WHERE size <= 50;
INSERT INTO small (k, s) VALUES (20, 5), (21, 500) RETURNING *;
--> 20|5|NONE
--> 21|500|NONE
SELECT * FROM base WHERE id >= 20 ORDER BY id;
--> 20|none|5
--> 21|none|500
UPDATE small SET s = s + 1 WHERE k < 3 RETURNING k, s, shout;
--> 1|11|N1
--> 2|21|N2
UPDATE small SET s = 7 WHERE k = 9;
UPDATE small v SET s = b.size FROM base b WHERE b.id = 6 AND v.k = 20 RETURNING v.*, b.id;
--> 20|60|NONE|6
DELETE FROM small WHERE k IN (1, 10, 21) RETURNING *;
--> 1|11|N1
SELECT * FROM small ORDER BY k;
--> 2|21|N2
--> 3|30|N3
--> 4|40|N4
--> 5|50|N5
INSERT INTO small VALUES (30, 3, 'X');
--> 0A000 cannot insert into column "shout" of view "small"
--> DETAIL View columns that are not columns of their base relation are not updatable.
INSERT INTO small VALUES (30, 3), (2, 4);
--> 23505 duplicate key value violates unique constraint "base_pkey"
--> DETAIL Key (id)=(2) already exists.
INSERT INTO small VALUES (30, 3);
INSERT INTO small (k, shout) VALUES (31, 'X');
--> 0A000 cannot insert into column "shout" of view "small"
--> DETAIL View columns that are not columns of their base relation are not updatable.
UPDATE small SET shout = 'X';
--> 0A000 cannot update column "shout" of view "small"
--> DETAIL View columns that are not columns of their base relation are not updatable.
UPDATE small SET nonsense = 1;
--> 42703 column "nonsense" of relation "small" does not exist
UPDATE small SET name = 'x';
--> 42703 column "name" of relation "small" does not exist
INSERT INTO small VALUES (40, 2000);
--> 23514 new row for relation "base" violates check constraint "base_size_check"
--> DETAIL Failing row contains (40, none, 2000).
INSERT INTO small (k, s) VALUES (30, 4) ON CONFLICT (k) DO UPDATE SET s = excluded.s + small.s RETURNING *;
--> 30|7|NONE
INSERT INTO small (k, s) VALUES (30, 4) ON CONFLICT DO NOTHING;
-- WITH CHECK OPTION, local and cascaded.
CREATE VIEW checked AS SELECT * FROM base WHERE size > 10 WITH CHECK OPTION;
INSERT INTO checked VALUES (50, 'a', 5);
--> 44000 new row violates check option for view "checked"
--> DETAIL Failing row contains (50, a, 5).
INSERT INTO checked VALUES (50, 'a', 15);
UPDATE checked SET size = 1 WHERE id = 50;
--> 44000 new row violates check option for view "checked"
--> DETAIL Failing row contains (50, a, 1).
INSERT INTO checked VALUES (50, 'a', 2) ON CONFLICT (id) DO UPDATE SET size = 3;
--> 44000 new row violates check option for view "checked"
--> DETAIL Failing row contains (50, a, 3).
CREATE VIEW lower AS SELECT id, size FROM base WHERE size < 100;
CREATE VIEW middle AS SELECT * FROM lower WHERE size <> 60 WITH LOCAL CHECK OPTION;
CREATE VIEW upper AS SELECT * FROM lower WHERE size > 5 WITH CASCADED CHECK OPTION;
INSERT INTO middle VALUES (60, 600);
INSERT INTO middle VALUES (61, 60);
--> 44000 new row violates check option for view "middle"
--> DETAIL Failing row contains (61, none, 60).
INSERT INTO upper VALUES (62, 601);
--> 44000 new row violates check option for view "lower"
--> DETAIL Failing row contains (62, none, 601).
INSERT INTO upper VALUES (63, 4);
--> 44000 new row violates check option for view "upper"
--> DETAIL Failing row contains (63, none, 4).
INSERT INTO upper VALUES (64, 40) RETURNING *;
--> 64|40
CREATE VIEW related AS SELECT * FROM base WHERE (SELECT count(*) > 0 FROM lower l WHERE l.id = base.size) WITH CHECK OPTION;
UPDATE related SET size = 5 WHERE false;
INSERT INTO related VALUES (70, 'a', 64);
INSERT INTO related VALUES (71, 'a', 999);
--> 44000 new row violates check option for view "related"
--> DETAIL Failing row contains (71, a, 999).
SELECT table_name, check_option FROM information_schema.views WHERE table_schema = 'public' ORDER BY 1;
--> checked|CASCADED
--> lower|NONE
--> middle|LOCAL
--> related|CASCADED
--> small|NONE
--> upper|CASCADED
-- Views that cannot be written.
CREATE VIEW grouped AS SELECT size, count(*) FROM base GROUP BY size;
INSERT INTO grouped VALUES (1, 2);
--> 55000 cannot insert into view "grouped"
--> DETAIL Views containing GROUP BY are not automatically updatable.
--> HINT To enable inserting into the view, provide an INSTEAD OF INSERT trigger or an unconditional ON INSERT DO INSTEAD rule.
CREATE VIEW joined AS SELECT a.id FROM base a, base b;
UPDATE joined SET id = 1;
--> 55000 cannot update view "joined"
--> DETAIL Views that do not select from a single table or view are not automatically updatable.
--> HINT To enable updating the view, provide an INSTEAD OF UPDATE trigger or an unconditional ON UPDATE DO INSTEAD rule.
CREATE VIEW one AS SELECT DISTINCT id FROM base;
DELETE FROM one;
--> 55000 cannot delete from view "one"
--> DETAIL Views containing DISTINCT are not automatically updatable.
--> HINT To enable deleting from the view, provide an INSTEAD OF DELETE trigger or an unconditional ON DELETE DO INSTEAD rule.
CREATE VIEW total AS SELECT sum(size) FROM base;
DELETE FROM total;
--> 55000 cannot delete from view "total"
--> DETAIL Views that return aggregate functions are not automatically updatable.
--> HINT To enable deleting from the view, provide an INSTEAD OF DELETE trigger or an unconditional ON DELETE DO INSTEAD rule.
CREATE VIEW fixed AS SELECT 1 AS a FROM base;
UPDATE fixed SET a = 2;
--> 55000 cannot update view "fixed"
--> DETAIL Views that have no updatable columns are not automatically updatable.
--> HINT To enable updating the view, provide an INSTEAD OF UPDATE trigger or an unconditional ON UPDATE DO INSTEAD rule.
CREATE VIEW grouped_checked AS SELECT DISTINCT size FROM base WITH CHECK OPTION;
--> 0A000 WITH CHECK OPTION is supported only on automatically updatable views
--> HINT Views containing DISTINCT are not automatically updatable.
-- In the name of the view's owner.
CREATE ROLE view_writer;
GRANT SELECT, INSERT, UPDATE ON small TO view_writer;
SET ROLE view_writer;
INSERT INTO small (k, s) VALUES (80, 1);
UPDATE small SET s = 2 WHERE k = 80 RETURNING *;
--> 80|2|NONE
DELETE FROM small WHERE k = 80;
--> 42501 permission denied for view small
INSERT INTO base VALUES (81);
--> 42501 permission denied for table base
RESET ROLE;
REVOKE ALL ON small FROM view_writer;
DROP ROLE view_writer;
