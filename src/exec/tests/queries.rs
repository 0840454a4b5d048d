//! Reading.

use super::support::{Fixture, check};

async fn filled() -> Fixture {
    let f = Fixture::new().await;
    f.rows("INSERT INTO t VALUES (1,10,'x'),(2,20,'y'),(3,NULL,'x'),(4,40,NULL)").await;
    f.rows("INSERT INTO child VALUES (1,1),(2,1),(3,2),(4,NULL)").await;
    f.rows(
        "INSERT INTO numbers VALUES (1,1.50,0.5,1),(2,1.5,'NaN',1),(3,-2.25,NULL,2),(4,NULL,1,2)",
    )
    .await;
    f
}

#[tokio::test]
async fn scans_filters_and_sorting() {
    let f = filled().await;
    check(
        &f,
        &[
            ("SELECT id, a, b FROM t WHERE id = 2", &["2|20|y"]),
            ("SELECT id FROM t WHERE b = 'x' ORDER BY id DESC", &["3", "1"]),
            ("SELECT id FROM t WHERE a = 20", &["2"]),
            ("SELECT id FROM t WHERE a IS NULL OR a / 10 > 3 ORDER BY 1", &["3", "4"]),
            ("SELECT a FROM t ORDER BY a", &["10", "20", "40", "·"]),
            ("SELECT a FROM t ORDER BY a DESC LIMIT 2", &["·", "40"]),
            ("SELECT id FROM t ORDER BY id OFFSET 1 LIMIT 2", &["2", "3"]),
            ("SELECT id FROM t WHERE id IN (1, 3, 9) ORDER BY id", &["1", "3"]),
            ("SELECT id FROM t WHERE id BETWEEN 2 AND 3 ORDER BY id DESC", &["3", "2"]),
            (
                "SELECT n FROM numbers ORDER BY n DESC NULLS LAST, id",
                &["1.50", "1.5", "-2.25", "·"],
            ),
            ("SELECT f FROM numbers ORDER BY f", &["0.5", "1", "NaN", "·"]),
            ("SELECT DISTINCT n FROM numbers WHERE n > 0", &["1.50"]),
            ("SELECT count(*) FROM t", &["4"]),
            (
                "SELECT CASE WHEN a > 15 THEN 'big' ELSE 'small' END FROM t ORDER BY id",
                &["small", "big", "small", "big"],
            ),
            ("SELECT id FROM t FETCH FIRST 1 ROW ONLY", &["1"]),
            ("VALUES (1, 'a'), (2, 'b')", &["1|a", "2|b"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn joins_and_sub_queries() {
    let f = filled().await;
    check(
        &f,
        &[
            ("SELECT t.id, c.id FROM t JOIN child c ON c.tid = t.id ORDER BY 2", &[
                "1|1", "1|2", "2|3",
            ]),
            ("SELECT t.id, c.id FROM t LEFT JOIN child c ON c.tid = t.id ORDER BY 1, 2", &[
                "1|1", "1|2", "2|3", "3|·", "4|·",
            ]),
            ("SELECT t.id, c.id FROM t FULL JOIN child c ON c.tid = t.id AND c.id > 2 ORDER BY 1, 2", &[
                "1|·", "2|3", "3|·", "4|·", "·|1", "·|2", "·|4",
            ]),
            ("SELECT x.id, y.id FROM t x JOIN t y ON x.a < y.a ORDER BY 1, 2", &["1|2", "1|4", "2|4"]),
            ("SELECT x.id, y.id FROM numbers x JOIN numbers y ON x.n = y.n AND x.id < y.id", &["1|2"]),
            ("SELECT id FROM t WHERE EXISTS (SELECT FROM child WHERE tid = t.id) ORDER BY 1", &["1", "2"]),
            ("SELECT id FROM t WHERE id NOT IN (SELECT tid FROM child WHERE tid IS NOT NULL) ORDER BY 1", &["3", "4"]),
            ("SELECT id FROM t WHERE id NOT IN (SELECT tid FROM child)", &[]),
            ("SELECT id, (SELECT count(*) FROM child WHERE tid = t.id) FROM t ORDER BY 1", &[
                "1|2", "2|1", "3|0", "4|0",
            ]),
            ("SELECT id FROM t WHERE a > (SELECT avg(a) FROM t)", &["4"]),
            ("SELECT t.id, l.m FROM t, LATERAL (SELECT max(c.id) AS m FROM child c WHERE c.tid = t.id) l ORDER BY 1", &[
                "1|2", "2|3", "3|·", "4|·",
            ]),
            ("SELECT ARRAY(SELECT id FROM child WHERE tid = 1 ORDER BY id)", &["{1,2}"]),
            (
                "SELECT CASE WHEN id > 0 THEN 1 ELSE (SELECT 1 / count(*) FROM t WHERE id < 0) END \
                 FROM t WHERE id = 1",
                &["1"],
            ),
            ("SELECT 5 = ANY (SELECT id FROM t), 5 <> ALL (SELECT id FROM t)", &["f|t"]),
        ],
    )
    .await;
    let e = f.exec("SELECT (SELECT id FROM t)").await.unwrap_err();
    assert_eq!(e.state().as_str(), "21000");
    // An error of constants is one of the statement, whether or not a row comes to it.
    for text in ["SELECT 1 / 0 FROM t WHERE false", "SELECT NULL + 'x'::text::int FROM t"] {
        let e = f.exec(text).await.unwrap_err();
        assert!(["22012", "22P02"].contains(&e.state().as_str()), "{text}: {e:?}");
    }
    let e = f.exec("SELECT id / 0 FROM t").await.unwrap_err();
    assert_eq!(e.state().as_str(), "22012");
}

#[tokio::test]
async fn groups_sets_and_windows() {
    let f = filled().await;
    check(
        &f,
        &[
            ("SELECT b, count(*), sum(a), min(a), max(id) FROM t GROUP BY b ORDER BY b", &[
                "x|2|10|10|3", "y|1|20|20|2", "·|1|40|40|4",
            ]),
            ("SELECT g, count(f), sum(n), avg(n) FROM numbers GROUP BY g ORDER BY g", &[
                "1|2|3.00|1.5000000000000000", "2|1|-2.25|-2.2500000000000000",
            ]),
            ("SELECT sum(a), count(*) FROM t WHERE false", &["·|0"]),
            ("SELECT count(DISTINCT b), count(*) FILTER (WHERE a > 10) FROM t", &["2|2"]),
            ("SELECT string_agg(b, ',' ORDER BY id DESC) FROM t", &["x,y,x"]),
            ("SELECT b, g, count(*) FROM t JOIN numbers ON numbers.id = t.id GROUP BY ROLLUP (b, g) ORDER BY 1, 2, 3", &[
                "x|1|1", "x|2|1", "x|·|2", "y|1|1", "y|·|1", "·|2|1", "·|·|1", "·|·|4",
            ]),
            ("SELECT b FROM t GROUP BY b HAVING count(*) > 1", &["x"]),
            ("SELECT id FROM t UNION SELECT tid FROM child ORDER BY 1", &["1", "2", "3", "4", "·"]),
            ("SELECT id FROM t INTERSECT SELECT tid FROM child ORDER BY 1", &["1", "2"]),
            ("SELECT id FROM t EXCEPT ALL SELECT tid FROM child ORDER BY 1", &["3", "4"]),
            ("SELECT DISTINCT ON (b) b, id FROM t ORDER BY b, id DESC", &["x|3", "y|2", "·|4"]),
            ("SELECT id, row_number() OVER (ORDER BY id DESC), sum(id) OVER (ORDER BY id) FROM t ORDER BY 1", &[
                "1|4|1", "2|3|3", "3|2|6", "4|1|10",
            ]),
            ("SELECT id, rank() OVER w, lag(id) OVER w, first_value(id) OVER w FROM t WINDOW w AS (PARTITION BY b ORDER BY id) ORDER BY 1", &[
                "1|1|·|1", "2|1|·|2", "3|2|1|1", "4|1|·|4",
            ]),
            ("SELECT id, sum(id) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM t ORDER BY 1", &[
                "1|3", "2|6", "3|9", "4|7",
            ]),
            ("SELECT id, count(*) OVER (ORDER BY id RANGE BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t ORDER BY 1", &[
                "1|1", "2|2", "3|2", "4|2",
            ]),
            ("SELECT generate_series(1, 3), generate_series(1, 2)", &["1|1", "2|2", "3|·"]),
            ("SELECT * FROM generate_series(2, 4) WITH ORDINALITY", &["2|1", "3|2", "4|3"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn common_table_expressions() {
    let f = filled().await;
    check(
        &f,
        &[
            ("WITH x AS (SELECT id FROM t WHERE id < 3) SELECT a.id, b.id FROM x a, x b ORDER BY 1, 2", &[
                "1|1", "1|2", "2|1", "2|2",
            ]),
            ("WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT n FROM r LIMIT 3", &[
                "1", "2", "3",
            ]),
            ("WITH RECURSIVE r(n) AS (SELECT 1 UNION SELECT n % 3 + 1 FROM r) SELECT count(*) FROM r", &["3"]),
            ("WITH d AS (DELETE FROM child WHERE id = 4 RETURNING id) SELECT d.id, (SELECT count(*) FROM child) FROM d", &["4|4"]),
            ("SELECT count(*) FROM child", &["3"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn rows_are_read_from_json_and_arrays_spread() {
    let f = filled().await;
    check(
        &f,
        &[
            ("SELECT * FROM json_to_recordset('[{\"a\":1,\"b\":\"x\"},{\"a\":\"2\",\"c\":true}]') AS r(a int, b text, c bool)", &[
                "1|x|·", "2|·|t",
            ]),
            ("SELECT * FROM jsonb_to_record('{\"a\":[[1,2],[3,4]],\"n\":12.345}') AS r(a int[], n numeric(4,1), z date)", &[
                "{{1,2},{3,4}}|12.3|·",
            ]),
            ("SELECT x.id, x.tid FROM child c, jsonb_populate_recordset(c, '[{\"id\": 7}, {\"tid\": 8}]') x WHERE c.id = 1", &["7|1", "1|8"]),
            ("SELECT (json_populate_record(c, '{\"tid\": 9}')).tid FROM child c WHERE id = 1", &["9"]),
            ("SELECT concat_ws('-', VARIADIC x), num_nulls(VARIADIC x), format('%s%s', VARIADIC x) FROM (VALUES (ARRAY[1, 2]), (ARRAY[3, NULL])) v(x)", &[
                "1-2|0|12", "3|1|3",
            ]),
        ],
    )
    .await;
}
