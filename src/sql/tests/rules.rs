//! What the rules make of queries.

use super::{check, optimised};

#[test]
fn rules_make_plans_cheaper() {
    check(
        &[
            ("select b from t where a = 1", ""),
            ("select b from t where a = $1", ""),
            ("select b from t where a in (1, 2, 3)", ""),
            ("select b from t where a = any ($1)", ""),
            ("select b from t where a > 5 and a <= 10 and c = 2", ""),
            ("select a from t order by a limit 3", ""),
            ("select a from t order by a desc", ""),
            ("select a from t where c = 3 order by c", ""),
            ("select label from tv where k = 1", ""),
            ("select * from t where exists (select 1 from u where u.a = t.a)", ""),
            ("select * from t where a in (select x from v)", ""),
            ("select * from t where a not in (select x from v)", ""),
            ("select a, (select count(*) from v where v.x = t.c) from t", ""),
            ("select t.b from t join u on t.a = u.a where u.a = 5", ""),
            ("select t.b, u.d from t left join u on t.a = u.a where u.d > 1", ""),
            ("select t.b, u.d from t left join u on t.a = u.a where u.d is null", ""),
            (
                "select b, n from (select b, count(*) n from t group by b) s where b = 'x' and n > 1",
                "",
            ),
            ("select x from (select a as x from t union all select x from v) s where x = 1", ""),
            ("select 1 from t where 1 = 2", ""),
            ("with s as (select a, b from t) select b from s where a = 1", ""),
            ("select * from t, lateral (select d from u where u.a = t.a limit 1) x", ""),
            ("update t set b = 'x' where a = 1", ""),
            ("delete from t where a = $1", ""),
            ("select relname from pg_class where oid = 5", ""),
        ],
        optimised,
    );
}
