//! Inner plans: run for each of many rows, their rows kept from one run to the next.

use super::support::{Fixture, check};

async fn filled() -> Fixture {
    let f = Fixture::new().await;
    f.rows("INSERT INTO t VALUES (1,10,'x'),(2,20,'y'),(3,NULL,'x'),(4,40,NULL),(5,50,'x')").await;
    f.rows("INSERT INTO child VALUES (1,1),(2,1),(3,2),(4,NULL)").await;
    f.rows("INSERT INTO accounts VALUES (1,10,100,'p'),(2,20,200,'q'),(3,NULL,300,'p'),(4,10,NULL,NULL),(5,30,100,'p ')").await;
    f.rows(
        "INSERT INTO numbers VALUES (1,1.50,0.5,1),(2,1.5,'NaN',1),(3,-2.25,NULL,2),(4,NULL,1,2)",
    )
    .await;
    f
}

#[tokio::test]
async fn kept_rows_are_found_by_the_outer_rows_values() {
    let f = filled().await;
    check(&f, &[
        // No index helps; NULL equals nothing; the first run passes its rows through.
        ("SELECT aid, (SELECT count(*)::text FROM accounts i WHERE i.bid = o.bid HAVING count(*) > 0) FROM accounts o ORDER BY aid", &["1|2", "2|1", "3|·", "4|2", "5|1"]),
        ("SELECT aid, ARRAY(SELECT i.aid FROM accounts i WHERE i.bid = o.bid AND i.aid <> o.aid ORDER BY 1) FROM accounts o ORDER BY aid", &["1|{4}", "2|{}", "3|{}", "4|{1}", "5|{}"]),
        // numeric compares by value, character(n) without its padding
        ("SELECT id, ARRAY(SELECT i.id FROM numbers i WHERE i.n = o.n ORDER BY 1) FROM numbers o ORDER BY id", &["1|{1,2}", "2|{1,2}", "3|{3}", "4|{}"]),
        ("SELECT aid, ARRAY(SELECT i.aid FROM accounts i WHERE i.filler = o.filler ORDER BY 1) FROM accounts o ORDER BY aid", &["1|{1,3,5}", "2|{2}", "3|{1,3,5}", "4|{}", "5|{1,3,5}"]),
        // int8 against int4, an expression on either side
        ("SELECT aid, ARRAY(SELECT i.aid FROM accounts i WHERE i.bid * 10 = o.abalance::int8 ORDER BY 1) FROM accounts o ORDER BY aid", &["1|{1,4}", "2|{2}", "3|{5}", "4|{}", "5|{1,4}"]),
        // two keys
        ("SELECT aid, ARRAY(SELECT i.aid FROM accounts i WHERE i.bid = o.bid AND i.abalance = o.abalance) FROM accounts o ORDER BY aid", &["1|{1}", "2|{2}", "3|{}", "4|{}", "5|{5}"]),
        // no equality at all
        ("SELECT aid, ARRAY(SELECT i.aid FROM accounts i WHERE i.bid < o.bid ORDER BY 1) FROM accounts o ORDER BY aid", &["1|{}", "2|{1,4}", "3|{}", "4|{}", "5|{1,2,4}"]),
        ("SELECT aid FROM accounts o WHERE (SELECT max(n.n) FROM accounts i, numbers n WHERE i.bid = o.bid AND n.id = i.aid AND n.n * 10 < o.abalance) > 0 ORDER BY aid", &["1", "2"]),
        ("WITH c AS (SELECT aid, bid FROM accounts) SELECT aid, ARRAY(SELECT i.aid FROM c i WHERE i.bid = o.bid ORDER BY 1) FROM c o ORDER BY aid", &["1|{1,4}", "2|{2}", "3|{}", "4|{1,4}", "5|{5}"]),
        // a recursive term keeps what is not the working table
        ("WITH RECURSIVE r(i, n) AS (SELECT 1, 0 UNION ALL SELECT i + 1, x.n FROM r, LATERAL (SELECT count(*)::int4 AS n FROM accounts WHERE bid > r.i * 5) x WHERE i < 5) SELECT * FROM r ORDER BY 1", &["1|0", "2|4", "3|2", "4|2", "5|1"]),
        ("WITH RECURSIVE r(i) AS (SELECT 1 UNION SELECT a.aid FROM r, accounts a WHERE a.bid = r.i * 10) SELECT * FROM r ORDER BY 1", &["1", "4"]),
        // a sub-query in an aggregate's argument
        ("SELECT max((SELECT i.aid FROM accounts i WHERE i.abalance = o.abalance AND i.aid < 3)) FROM accounts o", &["2"]),
    ]).await;
}

#[tokio::test]
async fn conditions_of_joins_may_hold_sub_queries() {
    let f = filled().await;
    check(&f, &[
        ("SELECT o.id, c.id FROM t o LEFT JOIN child c ON c.tid = o.id AND EXISTS (SELECT 1 FROM numbers n WHERE n.g = c.id AND n.n > 0) ORDER BY 1, 2", &["1|1", "2|·", "3|·", "4|·", "5|·"]),
        ("SELECT o.id, c.id FROM t o LEFT JOIN child c ON c.tid = o.id AND EXISTS (SELECT 1 FROM numbers n WHERE n.id = o.id AND n.n < 2) ORDER BY 1, 2", &["1|1", "1|2", "2|3", "3|·", "4|·", "5|·"]),
        ("SELECT o.id, c.id FROM child c RIGHT JOIN t o ON c.tid = o.id AND o.a < (SELECT max(n.n) * 10 FROM numbers n) ORDER BY 1, 2", &["1|1", "1|2", "2|·", "3|·", "4|·", "5|·"]),
        ("SELECT o.id, c.id FROM t o FULL JOIN child c ON c.tid = o.id AND o.id IN (SELECT id FROM numbers) AND c.id <> (SELECT min(id) FROM numbers) ORDER BY 1, 2", &["1|2", "2|3", "3|·", "4|·", "5|·", "·|1", "·|4"]),
        ("SELECT o.id, c.id FROM t o JOIN child c ON c.tid = o.id AND EXISTS (SELECT 1 FROM numbers n WHERE n.id = c.id AND n.n * 10 > o.a) ORDER BY 1, 2", &["1|1", "1|2"]),
        // the sub-query reads both sides of an outer join
        ("SELECT o.id, c.id FROM t o LEFT JOIN child c ON c.tid = o.id AND (SELECT n.n * 10 > o.a FROM numbers n WHERE n.id = c.id) ORDER BY 1, 2", &["1|1", "1|2", "2|·", "3|·", "4|·", "5|·"]),
        ("SELECT o.id, x FROM t o, child c JOIN LATERAL (VALUES (o.id), (-1)) s(x) ON c.id = s.x WHERE o.a > 10 ORDER BY 1", &["2|2", "4|4"]),
        ("SELECT o.id, x FROM t o, child c JOIN LATERAL (VALUES (o.id + 1)) s(x) ON c.id = s.x ORDER BY 1", &["1|2", "2|3", "3|4"]),
        ("SELECT o.id, s.* FROM t o LEFT JOIN LATERAL (SELECT c.id, o.a + 1 AS y FROM child c WHERE c.tid = o.id) s ON s.y > 11 ORDER BY 1, 2", &["1|·|·", "2|3|21", "3|·|·", "4|·|·", "5|·|·"]),
    ]).await;
}

#[tokio::test]
async fn whole_rows_of_padded_sides_are_null() {
    let f = filled().await;
    check(&f, &[
        // NULL where the join found no row
        ("SELECT t.id, count(c), count(c.*) FROM t LEFT JOIN child c ON c.tid = t.id GROUP BY t.id ORDER BY 1", &["1|2|2", "2|1|1", "3|0|0", "4|0|0", "5|0|0"]),
        ("SELECT t.id, c FROM t LEFT JOIN child c ON c.tid = t.id AND c.id < 3 ORDER BY 1, 2", &["1|(1,1)", "1|(2,1)", "2|·", "3|·", "4|·", "5|·"]),
        ("SELECT t IS NULL, n FROM t RIGHT JOIN (SELECT id, g + 1 AS g FROM numbers OFFSET 0) n ON n.g = t.id AND t.a > 20 ORDER BY n.id", &["t|(1,2)", "t|(2,2)", "t|(3,3)", "t|(4,3)"]),
        ("SELECT t, c FROM t FULL JOIN child c ON t.id = c.id AND t.a = 20 ORDER BY t.id, c.id", &["(1,10,x)|·", "(2,20,y)|(2,1)", "(3,,x)|·", "(4,40,)|·", "(5,50,x)|·", "·|(1,1)", "·|(3,2)", "·|(4,)"]),
        ("SELECT t.id, (SELECT c FROM numbers LIMIT 1) FROM t LEFT JOIN child c ON c.tid = t.id AND c.id = 3 ORDER BY 1", &["1|·", "2|(3,2)", "3|·", "4|·", "5|·"]),
        ("SELECT count(x) FROM (SELECT c FROM t LEFT JOIN child c ON c.id = t.id AND c.tid = 1) s(x)", &["2"]),
    ]).await;
}

#[tokio::test]
async fn values_are_looked_for_among_a_sub_querys_rows() {
    let f = filled().await;
    check(&f, &[
        // each row is compared, not the first alone
        ("SELECT aid, bid IN (SELECT i.bid FROM accounts i WHERE i.bid < 15) FROM accounts ORDER BY aid", &["1|t", "2|f", "3|·", "4|t", "5|f"]),
        ("SELECT sum(aid) FILTER (WHERE bid IN (SELECT i.bid FROM accounts i WHERE i.bid < 15)) FROM accounts", &["5"]),
        // many values are looked up by hash
        ("SELECT id, a IN (SELECT g FROM generate_series(1, 30) g) FROM t ORDER BY id", &["1|t", "2|t", "3|·", "4|f", "5|f"]),
        ("SELECT id, a NOT IN (SELECT g FROM generate_series(1, 30) g UNION ALL SELECT NULL) FROM t ORDER BY id", &["1|f", "2|f", "3|·", "4|·", "5|·"]),
        ("SELECT id, a <> ALL (SELECT g FROM generate_series(11, 30) g) FROM t ORDER BY id", &["1|t", "2|f", "3|·", "4|t", "5|t"]),
        ("SELECT id, b IN (SELECT chr(g) FROM generate_series(100, 120) g), a IN (SELECT g::int8 FROM generate_series(1, 30) g) FROM t ORDER BY id", &["1|t|t", "2|f|t", "3|t|·", "4|·|f", "5|t|f"]),
        ("SELECT id, a > ANY (SELECT g FROM generate_series(30, 60) g) FROM t ORDER BY id", &["1|f", "2|f", "3|·", "4|t", "5|t"]),
        // an aggregate whose argument holds a sub-query belongs to the outer query
        ("SELECT (SELECT max((SELECT i.aid FROM accounts i WHERE i.aid = o.id))) FROM t o", &["5"]),
        ("SELECT row(1,2) = ANY (array[row(1,2)]), array[row(1,2)] || row(3,4)", &["t|{\"(1,2)\",\"(3,4)\"}"]),
    ]).await;
}

#[tokio::test]
async fn recursion_searches_and_stops_at_cycles() {
    let f = filled().await;
    check(&f, &[
        // a path orders depth first
        ("WITH RECURSIVE g(f, t) AS (VALUES (1, 2), (1, 3), (2, 3), (4, 1)), s(f, t) AS (SELECT * FROM g UNION ALL SELECT g.* FROM g, s WHERE g.f = s.t) SEARCH DEPTH FIRST BY f, t SET seq SELECT * FROM s ORDER BY seq", &["1|2|{\"(1,2)\"}", "2|3|{\"(1,2)\",\"(2,3)\"}", "1|3|{\"(1,3)\"}", "2|3|{\"(2,3)\"}", "4|1|{\"(4,1)\"}", "1|2|{\"(4,1)\",\"(1,2)\"}", "2|3|{\"(4,1)\",\"(1,2)\",\"(2,3)\"}", "1|3|{\"(4,1)\",\"(1,3)\"}"]),
        ("WITH RECURSIVE g(f, t) AS (VALUES (1, 2), (1, 3), (2, 3), (4, 1)), s(f, t) AS (SELECT * FROM g UNION ALL SELECT g.* FROM g, s WHERE g.f = s.t) SEARCH BREADTH FIRST BY f, t SET seq SELECT f, t, seq FROM s ORDER BY seq, f", &["1|2|(0,1,2)", "1|3|(0,1,3)", "2|3|(0,2,3)", "4|1|(0,4,1)", "1|2|(1,1,2)", "1|3|(1,1,3)", "2|3|(1,2,3)", "2|3|(2,2,3)"]),
        ("WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM r) SEARCH DEPTH FIRST BY x SET y SELECT * FROM r LIMIT 3", &["1|{(1)}", "2|{(1),(2)}", "3|{(1),(2),(3)}"]),
        // a row on its own path is marked and not followed
        ("WITH RECURSIVE g(f, t) AS (VALUES (1, 2), (1, 3), (2, 3), (1, 4), (4, 5), (5, 1)), s(f, t) AS (SELECT * FROM g UNION ALL SELECT g.* FROM g, s WHERE g.f = s.t) CYCLE f, t SET c USING p SELECT f, t, c, p FROM s WHERE c ORDER BY p", &["1|4|t|{\"(1,4)\",\"(4,5)\",\"(5,1)\",\"(1,4)\"}", "4|5|t|{\"(4,5)\",\"(5,1)\",\"(1,4)\",\"(4,5)\"}", "5|1|t|{\"(5,1)\",\"(1,4)\",\"(4,5)\",\"(5,1)\"}"]),
        ("WITH RECURSIVE g(f, t) AS (VALUES (1, 2), (1, 3), (2, 3), (1, 4), (4, 5), (5, 1)), s(f, t) AS (SELECT * FROM g UNION ALL SELECT g.* FROM g, s WHERE g.f = s.t) CYCLE f, t SET c TO 'Y' DEFAULT 'N' USING p SELECT c, count(*), max(cardinality(p)) FROM s GROUP BY c ORDER BY c", &["N|22|5", "Y|3|4"]),
        ("WITH RECURSIVE g(f, t) AS (VALUES (1, 2), (1, 3), (2, 3), (1, 4), (4, 5), (5, 1)), s(f, t) AS (SELECT * FROM g UNION ALL SELECT g.* FROM g, s WHERE g.f = s.t AND NOT c) SEARCH DEPTH FIRST BY f, t SET seq CYCLE f, t SET c USING p SELECT *  FROM s WHERE f = 1 AND t = 4 ORDER BY seq", &["1|4|{\"(1,4)\"}|f|{\"(1,4)\"}", "1|4|{\"(1,4)\",\"(4,5)\",\"(5,1)\",\"(1,4)\"}|t|{\"(1,4)\",\"(4,5)\",\"(5,1)\",\"(1,4)\"}", "1|4|{\"(4,5)\",\"(5,1)\",\"(1,4)\"}|f|{\"(4,5)\",\"(5,1)\",\"(1,4)\"}", "1|4|{\"(5,1)\",\"(1,4)\"}|f|{\"(5,1)\",\"(1,4)\"}"]),
        // expressions of a recursive term are computed in each step
        ("WITH RECURSIVE tab(k, l) AS (VALUES (1,17), (2,17), (3,17)), iter(k, w, l) AS (SELECT 0, 'base', 17 UNION ALL (WITH m(k, w, l, n) AS (SELECT tab.k, 'true'::text, iter.l, min(tab.k) OVER () FROM tab JOIN iter USING (l) WHERE tab.k > iter.k), f AS (SELECT k, w, l FROM m WHERE k = n), e AS (SELECT tab.k, 'new'::text, tab.l FROM f JOIN tab ON f.k = tab.k WHERE f.w = 'false') SELECT * FROM f UNION ALL SELECT * FROM e)) SELECT * FROM iter", &["0|base|17", "1|true|17", "2|true|17", "3|true|17"]),
        ("SELECT id, ARRAY(WITH c AS MATERIALIZED (SELECT g + t.id AS g FROM generate_series(1, 2) g) SELECT a.g FROM c a JOIN c b ON a.g = b.g + 1) FROM t ORDER BY id", &["1|{3}", "2|{4}", "3|{5}", "4|{6}", "5|{7}"]),
    ]).await;
}

#[tokio::test]
async fn set_operations_without_columns() {
    let f = filled().await;
    check(
        &f,
        &[
            // queries without columns have rows
            ("SELECT count(*) FROM (SELECT FROM t INTERSECT SELECT FROM child) s", &["1"]),
            ("SELECT count(*) FROM (SELECT FROM t EXCEPT SELECT FROM child) s", &["0"]),
            ("SELECT count(*) FROM (SELECT FROM t UNION SELECT FROM child) s", &["1"]),
            ("SELECT count(*) FROM (SELECT FROM t INTERSECT ALL SELECT FROM child) s", &["4"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn hypothetical_rows_have_their_place() {
    let f = filled().await;
    check(&f, &[
        // where a row would stand
        ("SELECT rank(3) WITHIN GROUP (ORDER BY x), dense_rank(3) WITHIN GROUP (ORDER BY x), percent_rank(3) WITHIN GROUP (ORDER BY x), cume_dist(3) WITHIN GROUP (ORDER BY x) FROM (VALUES (1), (1), (2), (2), (3), (3), (4)) v(x)", &["5|3|0.5714285714285714|0.875"]),
        ("SELECT rank(3.5) WITHIN GROUP (ORDER BY x DESC NULLS FIRST), dense_rank(NULL) WITHIN GROUP (ORDER BY x) FROM (VALUES (1), (1), (2), (NULL), (3), (3), (4)) v(x)", &["3|5"]),
        ("SELECT rank(3) WITHIN GROUP (ORDER BY x), cume_dist(3) WITHIN GROUP (ORDER BY x), percent_rank(3) WITHIN GROUP (ORDER BY x) FROM (VALUES (1)) v(x) WHERE false", &["1|1|0"]),
        ("SELECT g, rank(5, 'b', 50) WITHIN GROUP (ORDER BY x, y DESC, x) FILTER (WHERE x > 1) FROM (VALUES (1, 1, 'a'), (1, 5, 'b'), (2, 5, 'c'), (2, 7, 'a')) v(g, x, y) GROUP BY g ORDER BY g", &["1|2", "2|2"]),
        ("SELECT string_agg(DISTINCT x, ',' ORDER BY x DESC) FROM (VALUES ('a'::varchar), ('b'), ('a')) v(x)", &["b,a"]),
    ]).await;
}
