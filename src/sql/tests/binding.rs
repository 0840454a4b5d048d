//! What the binder makes, before any rule runs.

use super::{bound, check, names};

#[test]
fn selects_bind() {
    check(
        &[
            (
                "select a, c + 1 from t where b = 'x' order by c desc limit 3",
                r#"
                limit (3)::bigint offset -
                  sort c desc
                    project a, (c + 1), c
                      filter (b = 'x'::text)
                        scan t [a, b, c]"#,
            ),
            (
                "select count(*), b from t group by b having count(*) > 1",
                r#"
                project count(*), b
                  filter (count(*) > 1)
                    aggregate [b] count(*)
                      scan t [a, b, c]"#,
            ),
            (
                "select c + 1, sum(a) from t group by c + 1",
                r#"
                project (c + 1), sum(a)
                  aggregate [(c + 1)] sum(a)
                    project a, b, c, (c + 1)
                      scan t [a, b, c]"#,
            ),
            (
                "select b, c from t group by a",
                r#"
                project b, c
                  aggregate [a, b, c]
                    scan t [a, b, c]"#,
            ),
            (
                "select * from t join u using (a)",
                r#"
                project t.a, t.b, t.c, u.d, u.e
                  join inner (t.a = u.a)
                    scan t [a, b, c]
                    scan u [a, d, e]"#,
            ),
            (
                "select * from t full join u using (a)",
                r#"
                project COALESCE(t.a, u.a), t.b, t.c, u.d, u.e
                  join full (t.a = u.a)
                    scan t [a, b, c]
                    scan u [a, d, e]"#,
            ),
            (
                "select a from t union select x from v order by 1",
                r#"
                sort t.a
                  union
                    project t.a
                      scan t [a, b, c]
                    project v.x
                      scan v [x, y, z]"#,
            ),
            (
                "select distinct on (b) a from t order by b, c",
                r#"
                distinct b
                  sort b, c
                    project a, b, c
                      scan t [a, b, c]"#,
            ),
            (
                "select a, (select max(d) from u where u.a = t.a) from t",
                r#"
                project t.a, (SubPlan 1)
                  scan t [a, b, c]
                  sub-query (correlated)
                    project max(d)
                      aggregate [] max(d)
                        filter (a = t.a)
                          scan u [a, d, e]"#,
            ),
            (
                "select generate_series(1, 3), a from t",
                r#"
                project generate_series, a
                  project set generate_series(1, 3)
                    scan t [a, b, c]"#,
            ),
            (
                "select row_number() over (partition by b order by c), sum(a) over (partition by b order by c) from t",
                r#"
                project row_number, sum
                  window [b] order [c] Range unbounded..current row_number(), sum(a)
                    scan t [a, b, c]"#,
            ),
            (
                "with recursive r(n) as (select 1 union all select n + 1 from r where n < 5) select * from r",
                r#"
                with r
                  project 1
                    values ()
                  project (r.n + 1)
                    filter (r.n < 5)
                      cte 0 [r.n]
                  project r.n
                    cte 0 [r.n]"#,
            ),
            (
                "select * from tv where k = 1",
                r#"
                project a, (b || '!'::text)
                  filter (a = 1)
                    project a, (b || '!'::text)
                      project a, (b || '!'::text)
                        filter (c > 0)
                          scan t [a, b, c]"#,
            ),
            (
                "select * from t, lateral (select * from u where u.a = t.a) x",
                r#"
                project t.a, t.b, t.c, u.a, u.d, u.e
                  apply inner
                    scan t [a, b, c]
                    project u.a, u.d, u.e
                      filter (u.a = t.a)
                        scan u [a, d, e]"#,
            ),
            (
                "select a, b, grouping(a, b), count(*) from t group by rollup (a, b)",
                r#"
                project a, b, (((($5 >> 1) & 1) << 1) | (($5 >> 0) & 1)), count(*)
                  project a, b, count(*), $5, (((($5 >> 1) & 1) << 1) | (($5 >> 0) & 1))
                    aggregate [a, b] sets [[0, 1], [0], []] count(*)
                      scan t [a, b, c]"#,
            ),
            (
                "values (1, 'x'), (2, null)",
                r#"
                values (1, 'x'::text), (2, NULL::text)"#,
            ),
            (
                "select * from generate_series(1, 2) with ordinality as f(x, n)",
                r#"
                project generate_series, ordinality
                  function generate_series(1, 2) [generate_series] ordinality"#,
            ),
            (
                "select a from t for update skip locked",
                r#"
                lock t Update SkipLocked
                  project a, "row key"
                    scan t [a, b, c, row key]"#,
            ),
            (
                "insert into t (a, b) values (1, 'x'), (2, default) on conflict (a) do update set b = excluded.b where t.c > 0 returning *",
                r#"
                insert t ("*VALUES*".a, "*VALUES*".b, NULL::integer) on conflict [1] set 2 = excluded.b where (t.c > 0) returning $2, $3, $4
                  values (1, 'x'::text), (2, NULL::text)"#,
            ),
            (
                "update t set b = u.e::text, c = default from u where u.a = t.a returning t.a",
                r#"
                update t set 2 = (u.e)::text, 3 = NULL::integer returning $7
                  filter (u.a = t.a)
                    join inner
                      scan t [a, b, c, row key]
                      scan u [a, d, e]"#,
            ),
            (
                "delete from t using u where u.a = t.a",
                r#"
                delete t
                  filter (u.a = t.a)
                    join inner
                      scan t [a, b, c, row key]
                      scan u [a, d, e]"#,
            ),
            (
                "insert into g (id, w) overriding system value values (7, 1)",
                r#"
                insert g (id, w, NULL::integer, DEFAULT)
                  values (7, 1)"#,
            ),
            (
                "insert into g overriding user value values (7, 1)",
                r#"
                insert g ((nextval('16403'::regclass))::integer, w, NULL::integer, DEFAULT)
                  values (7, 1)"#,
            ),
            (
                "insert into g as x overriding system value values (7, 1)",
                r#"
                insert g (id, w, NULL::integer, DEFAULT)
                  values (7, 1)"#,
            ),
            (
                "insert into g (w) select a from t",
                r#"
                insert g ((nextval('16403'::regclass))::integer, t.a, NULL::integer, DEFAULT)
                  project t.a
                    scan t [a, b, c]"#,
            ),
        ],
        bound,
    );
}

#[test]
fn output_columns_have_names() {
    check(
        &[
            (
                "select 1, a, t.b, count(*), c::text, case when true then 1 end, coalesce(a, 1), array[1], exists (select 1), (select d from u) from t group by a",
                "?column? a b count c case coalesce array exists d",
            ),
            (
                "select 1::int, '2020-01-01'::date, upper('x'), a + 1, (t).b, current_date, not true from t",
                "int4 date upper ?column? b current_date ?column?",
            ),
            ("values (1, 2)", "column1 column2"),
        ],
        names,
    );
}
