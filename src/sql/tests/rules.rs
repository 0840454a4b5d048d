//! What the rules make of queries.

use super::{check, optimised};

#[test]
fn rules_make_plans_cheaper() {
    check(
        &[
            (
                "select b from t where a = 1",
                r#"
                scan t [a, b] using t_pkey (=1)"#,
            ),
            (
                "select b from t where a = $1",
                r#"
                scan t [a, b] using t_pkey (=$1)"#,
            ),
            (
                "select b from t where a in (1, 2, 3)",
                r#"
                scan t [a, b] using t_pkey (each '{1,2,3}'::integer[])"#,
            ),
            (
                "select b from t where a = any ($1)",
                r#"
                scan t [a, b] using t_pkey (each $1)"#,
            ),
            (
                "select b from t where a > 5 and a <= 10 and c = 2",
                r#"
                scan t [a, b, c] using t_pkey (>5 <=10) where (c = 2)"#,
            ),
            (
                "select a from t order by a limit 3",
                r#"
                limit '3'::bigint offset -
                  scan t [a] using t_pkey ()"#,
            ),
            (
                "select a from t order by a desc",
                r#"
                scan t [a] using t_pkey backward ()"#,
            ),
            (
                "select a from t where c = 3 order by c",
                r#"
                scan t [a, c] using t_c (=3)"#,
            ),
            (
                "select label from tv where k = 1",
                r#"
                project (b || '!'::text)
                  scan t [a, b, c] using t_pkey (=1) where (c > 0)"#,
            ),
            (
                "select * from t where exists (select 1 from u where u.a = t.a)",
                r#"
                join semi (u.a = t.a)
                  scan t [a, b, c]
                  scan u [a]"#,
            ),
            (
                "select * from t where a in (select x from v)",
                r#"
                join semi (t.a = v.x)
                  scan t [a, b, c]
                  scan v [x]"#,
            ),
            (
                "select * from t where a not in (select x from v)",
                r#"
                filter (NOT (hashed SubPlan 1))
                  scan t [a, b, c]
                  sub-query (once)
                    scan v [x]"#,
            ),
            (
                "select a, (select count(*) from v where v.x = t.c) from t",
                r#"
                project t.a, COALESCE(count(*), '0'::bigint)
                  project t.a, COALESCE(count(*), '0'::bigint)
                    join left (v.x = t.c)
                      scan t [a, c]
                      aggregate [v.x] count(*)
                        scan v [x]"#,
            ),
            (
                "select t.b from t join u on t.a = u.a where u.a = 5",
                r#"
                lookup inner
                  scan u [a] using u_pkey (=5)
                  scan t [a, b] using t_pkey (=u.a)"#,
            ),
            (
                "select t.b, u.d from t left join u on t.a = u.a where u.d > 1",
                r#"
                join inner (t.a = u.a)
                  scan u [a, d] where (u.d > 1)
                  scan t [a, b]"#,
            ),
            (
                "select t.b, u.d from t left join u on t.a = u.a where u.d is null",
                r#"
                filter (u.d IS NULL)
                  join left (t.a = u.a)
                    scan t [a, b]
                    scan u [a, d]"#,
            ),
            (
                "select b, n from (select b, count(*) n from t group by b) s where b = 'x' and n > 1",
                r#"
                filter (count(*) > 1)
                  aggregate [b] count(*)
                    scan t [b] where (b = 'x'::text)"#,
            ),
            (
                "select x from (select a as x from t union all select x from v) s where x = 1",
                r#"
                union all
                  scan t [a] using t_pkey (=1)
                  scan v [x] using v_x_y_key (=1)"#,
            ),
            (
                "select 1 from t where 1 = 2",
                r#"
                project 1
                  values"#,
            ),
            (
                "with s as (select a, b from t) select b from s where a = 1",
                r#"
                project b
                  scan t [a, b] using t_pkey (=1)"#,
            ),
            (
                "select * from t, lateral (select d from u where u.a = t.a limit 1) x",
                r#"
                apply inner
                  scan t [a, b, c]
                  limit '1'::bigint offset -
                    scan u [a, d] using u_pkey (=t.a)"#,
            ),
            (
                "update t set b = 'x' where a = 1",
                r#"
                update t set 2 = 'x'::text
                  scan t [a, b, c, row key] using t_pkey (=1)"#,
            ),
            (
                "delete from t where a = $1",
                r#"
                delete t
                  scan t [a, b, c, row key] using t_pkey (=$1)"#,
            ),
            (
                "select relname from pg_class where oid = 5",
                r#"
                virtual pg_class [oid, relname] where (oid = '5'::oid)"#,
            ),
        ],
        optimised,
    );
}

/// EXPLAIN of the optimised query, costs off.
fn explained(text: &str) -> String {
    explained_with(&super::tables().analyse("t", 1_000_000.0), text)
}

/// EXPLAIN over a table of orders with two indexes.
fn explained_orders(text: &str) -> String {
    let ddl = "create table o (w int, d int, id int, c int, x int, primary key (w, d, id)); \
               create index o_c on o (w, d, c, id);";
    explained_with(&super::catalog::TestCatalog::of(ddl).analyse("o", 60_000.0), text)
}

fn explained_with(catalog: &super::catalog::TestCatalog, text: &str) -> String {
    let options = crate::explain::Options { costs: false, ..Default::default() };
    super::run(catalog, text, true).map_or_else(
        |e| super::show(&e),
        |q| crate::explain::explain(&q, options, None, None).join("\n"),
    )
}

#[test]
fn explain_looks_like_postgres() {
    check(
        &[
            (
                "select b from t where a = 1 and c > 2",
                "Index Scan using t_pkey on t\n  Index Cond: (a = 1)\n  Filter: (c > 2)",
            ),
            (
                "select t.b from t join u on t.a = u.a where u.d > 1",
                r#"
                Nested Loop
                  ->  Seq Scan on u
                        Filter: (d > 1)
                  ->  Index Scan using t_pkey on t
                        Index Cond: (a = u.a)"#,
            ),
            (
                "select b, count(*) from t group by b order by 2 desc limit 5",
                r#"
                Limit
                  ->  Sort
                        Sort Key: (count(*)) DESC
                        ->  HashAggregate
                              Group Key: b
                              ->  Seq Scan on t"#,
            ),
            (
                "update t set b = 'x' where a = 1",
                r#"
                Update on t
                  ->  Index Scan using t_pkey on t
                        Index Cond: (a = 1)"#,
            ),
            (
                "with s as materialized (select a from t) select * from s where exists (select 1 from v where v.y = s.a)",
                r#"
                Hash Semi Join
                  Hash Cond: (v.y = s.a)
                  CTE s
                    ->  Seq Scan on t
                  ->  CTE Scan on s
                  ->  Hash
                        ->  Seq Scan on v"#,
            ),
        ],
        explained,
    );
}

#[test]
fn more_bound_columns_win_over_the_primary_key() {
    let cases = [
        (
            "select x from o where w = 1 and d = 2 and c = 3 order by id desc limit 1",
            r#"
            Limit
              ->  Index Scan Backward using o_c on o
                    Index Cond: ((w = 1) AND (d = 2) AND (c = 3))"#,
        ),
        (
            "select x from o where w = 1 and d = 2 and c = 3 and id = 4",
            r#"
            Index Scan using o_pkey on o
              Index Cond: ((w = 1) AND (d = 2) AND (id = 4))
              Filter: (c = 3)"#,
        ),
    ];
    check(&cases, explained_orders);
}

#[test]
fn errors_of_constants_are_not_folded_away() {
    check(
        &[
            (
                "select null::int + 1 / 0",
                r#"
                project (NULL::integer + (1 / 0))
                  values ()"#,
            ),
            (
                "select a from t where 1 / 0 = 1 and false",
                r#"
                scan t [a] where (((1 / 0) = 1) AND (false))"#,
            ),
            (
                "select a from t where false and 1 / 0 = 1",
                r#"
                values"#,
            ),
            (
                "select null::int + a / 0 from t",
                r#"
                project NULL::integer
                  scan t []"#,
            ),
        ],
        optimised,
    );
}

#[test]
fn runs_of_unions_make_balanced_trees() {
    check(
        &[(
            "select 1 union all select 2 union select 3 union select 4 union all select 5",
            r#"
            union all
              union
                union all
                  project 1
                    values ()
                  project 2
                    values ()
                union all
                  project 3
                    values ()
                  project 4
                    values ()
              project 5
                values ()"#,
        )],
        optimised,
    );
}

#[test]
fn long_unions_fit_the_stack() {
    let union = vec!["select 1"; 5000].join(" union all ");
    let text = format!("with recursive n(i) as ({union} union all select i + 1 from n) select i");
    assert_eq!(optimised(&text), "42703 column \"i\" does not exist @95053");
    let text = format!("with recursive n(i) as (select i from n union ({union})) select 1");
    let expected =
        "recursive reference to query \"n\" must not appear within its non-recursive term";
    assert!(optimised(&text).contains(expected));
    let text = format!("select 1 as a from ({union}) s union select 2");
    assert!(optimised(&text).contains("union"));
}
