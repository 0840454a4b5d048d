//! What the binder makes, before any rule runs.

use super::{bound, check, names};

#[test]
fn selects_bind() {
    check(
        &[
            ("select a, c + 1 from t where b = 'x' order by c desc limit 3", ""),
            ("select count(*), b from t group by b having count(*) > 1", ""),
            ("select c + 1, sum(a) from t group by c + 1", ""),
            ("select b, c from t group by a", ""),
            ("select * from t join u using (a)", ""),
            ("select * from t full join u using (a)", ""),
            ("select a from t union select x from v order by 1", ""),
            ("select distinct on (b) a from t order by b, c", ""),
            ("select a, (select max(d) from u where u.a = t.a) from t", ""),
            ("select generate_series(1, 3), a from t", ""),
            (
                "select row_number() over (partition by b order by c), sum(a) over (partition by b order by c) from t",
                "",
            ),
            (
                "with recursive r(n) as (select 1 union all select n + 1 from r where n < 5) select * from r",
                "",
            ),
            ("select * from tv where k = 1", ""),
            ("select * from t, lateral (select * from u where u.a = t.a) x", ""),
            ("select a, b, grouping(a, b), count(*) from t group by rollup (a, b)", ""),
            ("values (1, 'x'), (2, null)", ""),
            ("select * from generate_series(1, 2) with ordinality as f(x, n)", ""),
            ("select a from t for update skip locked", ""),
            (
                "insert into t (a, b) values (1, 'x'), (2, default) on conflict (a) do update set b = excluded.b where t.c > 0 returning *",
                "",
            ),
            ("update t set b = u.e::text, c = default from u where u.a = t.a returning t.a", ""),
            ("delete from t using u where u.a = t.a", ""),
            ("insert into g (w) select a from t", ""),
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
