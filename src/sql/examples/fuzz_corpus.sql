select 1, 'x', null, true, 1.5, -3, 1e10
select a, b || 'x' as label, c + 1 from t where a = 5 and b like 'a%' order by c desc nulls last, 1 limit 10 offset 2
select * from t join u using (a) left join v on v.x = t.c and v.y > 3 where t.a in (1, 2, 3)
select t.*, u.d from t, u where t.a = u.a or (t.c is null and u.d between 1 and 2)
select count(*), sum(c), avg(c), min(b), max(b), count(distinct c) from t group by a having count(*) > 1
select a, c, sum(c) from t group by grouping sets ((a), (c), (a, c), ())
select a, c, grouping(a, c), sum(c) filter (where c > 0) from t group by rollup (a, c)
select string_agg(b, ',' order by c desc), array_agg(distinct a), percentile_cont(0.5) within group (order by c) from t
select a, rank() over (partition by c order by a), sum(c) over w, lag(c, 1, 0) over w from t window w as (order by a rows between 1 preceding and current row)
select sum(c) over (order by a range between unbounded preceding and 1 following exclude ties) from t
select distinct on (c) a, c from t order by c, a
select (select max(d) from u where u.a = t.a) as m, exists (select 1 from v where v.x = t.a), a in (select x from v), a = any (array[1,2]), a > all (select y from v) from t
with r as (select a from t), s as materialized (select * from r where a > 1) select * from r, s where r.a = s.a
with recursive n(i) as (select 1 union all select i + 1 from n where i < 10) select sum(i) from n
with moved as (delete from t where a > 3 returning *) insert into v select a, c, b from moved returning x, y
select * from t, lateral (select d from u where u.a = t.a limit 1) l
select * from generate_series(1, 10) with ordinality as s(i, n), unnest(array[1,2], array['a','b']) as q(x, y)
select * from (values (1, 'a'), (2, 'b')) as w(n, s) union all select a, b from t intersect select x, z from v except select 1, 'z' order by 1
select case a when 1 then 'one' when 2 then 'two' else 'many' end, case when c > 1 then 1.5 else 2 end, coalesce(b, 'none'), nullif(a, c), greatest(a, c, 3), least(1, 2.5) from t
select '2024-01-01'::date + interval '1 day', extract(year from e), e at time zone 'UTC', date_trunc('month', e), current_date, now() - e from u
select '{"a": [1, 2]}'::jsonb -> 'a' ->> 0, '{"a":1}'::jsonb @> '{}', jsonb_build_object('k', a, 'v', b) from t
select array[1,2,3][2], (array[[1,2],[3,4]])[1:2][2], '{1,2}'::int[] || 3, array_length(array[1], 1), 1 = any('{1,2}') from t
select row(1, 'x'), (row(a, b)).f1, row(a, c) < row(1, 2), t from t
select cast(a as text), a::numeric(5, 2), 'x'::varchar(3), '12'::int + 1, int4 '7', interval '1-2' from t
select substring(b from 1 for 2), position('a' in b), trim(both 'x' from b), overlay(b placing 'y' from 1), upper(b), b collate "C" < 'x' from t
select a is distinct from c, b is not null, (a > 1) is true, not a = 1, - a, a % 2, a ^ 2, |/ 4, b ~ 'x', b !~* 'y', b similar to 'z' from t
select $1::int + a, $2, b = $3 from t where a = $1 limit $4
insert into t values (1, 'x', 2), (3, default, null) on conflict (a) do update set b = excluded.b, c = t.c + 1 where t.a > 0 returning a, b as q
insert into t (a, b) select a, 'new' from u on conflict do nothing
insert into g (w) values ($1) returning id, dbl
insert into u default values
update t set b = 'y', c = default where a = 1 returning *
update t set (b, c) = (select 'z', max(x) from v) from u where u.a = t.a
update t as q set c = c + $1 where a = $2
delete from t using u where u.a = t.a and u.d > 1 returning t.a
merge into t using u on t.a = u.a when matched and u.d > 1 then update set c = 1 when matched then delete when not matched then insert (a) values (u.a)
select * from t for update of t skip locked
select * from tv where k > 1 for share nowait
table t order by a fetch first 3 rows with ties
values (1, 2), (3, null) order by 1 limit 1
explain (analyze, costs off, format json) select * from t
create table x (a int primary key, b text not null default 'x', c int references t (a) on delete cascade, check (a > 0), unique (b, c))
create unique index concurrently x_b on t (lower(b) desc, c) include (a) where c is not null
create view w (p, q) as select a, b from t where a > 1 with check option
alter table t add column z int default 1, drop column if exists b cascade, alter column c type numeric using c::numeric
begin isolation level serializable, read only
copy t (a, b) from stdin with (format csv, header, delimiter ';', null 'x')
set search_path to public, "$user"
prepare p (int, text) as select * from t where a = $1 and b = $2
declare cur scroll cursor with hold for select * from t
grant select (a, b), insert on t to public with grant option
select relname, relkind from pg_class c where c.relnamespace = 2200 and relname ~ '^t' order by 1
select 1 as "select", U&"d\0061t\+000061" , E'\x41\u00e4\n', $tag$ it's $tag$, B'101', X'ff' from t "Q"
select json_object_agg(b, c), bool_and(a > 1), every(c is null), stddev(c), corr(a, c), mode() within group (order by b) from t
select first_value(a) over (order by c groups 1 preceding), ntile(4) over (order by a), nth_value(b, 2) over () from t
select overlaps.a from t overlaps where (e_start, e_end) overlaps (date '2020-01-01', date '2021-01-01')
select * from t a full join t b on a.a = b.a natural join u cross join lateral generate_series(1, a.c) s
select regexp_replace(b, '(a)(b)?', '\2\1', 'g'), format('%s %I %L', a, b, c), to_char(e, 'YYYY'), concat_ws(',', a, null, b) from t, u
