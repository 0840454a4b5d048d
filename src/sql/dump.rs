//! Relations as short text, one node a line: for tests and for those who write rules.
//!
//! ```text
//! project a, (b + 1)
//!   join inner (t.a = u.a)
//!     scan t [a, b] where (t.b > 5)
//!     scan u [a] using u_pkey
//! ```

use std::fmt::Write as _;

use crate::explain::expr::{Names, conjunction, expression};
use crate::expr::Expr;
use crate::plan::{ModifyKind, Query};
use crate::rel::{Access, Column, FrameBound, KeySpan, Rel, SortKey};
use crate::walk;

/// A query.
pub fn query(query: &Query) -> String {
    rel(&query.rel)
}

/// A relation.
pub fn rel(rel: &Rel) -> String {
    let mut out = String::new();
    node(rel, 0, &Names::of_rel(rel), &mut out);
    out
}

fn list<T>(items: &[T], f: impl Fn(&T) -> String) -> String {
    items.iter().map(f).collect::<Vec<_>>().join(", ")
}

fn columns(columns: &[Column], names: &Names) -> String {
    list(columns, |c| names.name(c.id, &c.name))
}

fn keys(keys: &[SortKey], names: &Names) -> String {
    list(keys, |k| {
        let name = names.name(k.column, "?");
        match (k.desc, k.nulls_first) {
            (false, false) => name,
            (false, true) => format!("{name} nulls first"),
            (true, true) => format!("{name} desc"),
            (true, false) => format!("{name} desc nulls last"),
        }
    })
}

fn node(r: &Rel, depth: usize, names: &Names, out: &mut String) {
    let e = |e: &Expr| expression(e, names);
    let on = |on: &[Expr]| {
        if on.is_empty() { String::new() } else { format!(" {}", conjunction(on, names)) }
    };
    let line = match r {
        Rel::Scan { table, columns: cols, filter, access } => {
            let cols: Vec<Column> = cols.iter().map(|(c, _)| c.clone()).collect();
            let short: Vec<&str> = cols.iter().map(|c| &*c.name).collect();
            let filter = if filter.is_empty() {
                String::new()
            } else {
                format!(" where {}", conjunction(filter, names))
            };
            let access = match access {
                Access::Full => String::new(),
                Access::Index { index_id, spans, reverse } => {
                    let index = table.indexes.iter().find(|i| i.index_id == *index_id);
                    let spans = list(spans, |s| span(s, names));
                    let back = if *reverse { " backward" } else { "" };
                    format!(" using {}{back} {spans}", index.map_or("?", |i| &i.name))
                }
            };
            format!("scan {} [{}]{access}{filter}", table.name, short.join(", "))
        }
        Rel::Virtual { table, columns: cols, filter } => {
            let short: Vec<&str> = cols.iter().map(|(c, _)| &*c.name).collect();
            let filter = if filter.is_empty() {
                String::new()
            } else {
                format!(" where {}", conjunction(filter, names))
            };
            format!("virtual {} [{}]{filter}", table.name, short.join(", "))
        }
        Rel::Values { rows, .. } => {
            format!("values {}", list(rows, |row| format!("({})", list(row, e))))
        }
        Rel::Project { exprs, .. } => format!("project {}", list(exprs, |(_, x)| e(x))),
        Rel::ProjectSet { calls, .. } => {
            format!(
                "project set {}",
                list(calls, |c| format!("{}({})", c.func.name, list(&c.args, e)))
            )
        }
        Rel::Filter { predicates, .. } => format!("filter{}", on(predicates)),
        Rel::Join { kind, on: c, lookup, .. } => {
            let word = if *lookup { "lookup" } else { "join" };
            format!("{word} {}{}", format!("{kind:?}").to_lowercase(), on(c))
        }
        Rel::Apply { kind, on: c, .. } => {
            format!("apply {}{}", format!("{kind:?}").to_lowercase(), on(c))
        }
        Rel::Aggregate { group_by, grouping_sets, aggregates, .. } => {
            let by = list(group_by, |id| names.name(*id, "?"));
            let sets = grouping_sets.as_ref().map_or(String::new(), |s| format!(" sets {s:?}"));
            let calls = list(aggregates, |(_, c)| {
                let distinct = if c.distinct { "distinct " } else { "" };
                let filter =
                    c.filter.as_ref().map_or(String::new(), |f| format!(" filter {}", e(f)));
                let args = if c.args.is_empty() { "*".into() } else { list(&c.args, e) };
                format!("{}({distinct}{args}){filter}", c.func.name)
            });
            format!("aggregate [{by}]{sets} {calls}")
        }
        Rel::Window { spec, calls, .. } => {
            let part = list(&spec.partition_by, |id| names.name(*id, "?"));
            let calls = list(calls, |(_, c)| format!("{}({})", c.func.name, list(&c.args, e)));
            let frame = format!(
                "{:?} {}..{}",
                spec.unit,
                bound(&spec.start, names),
                bound(&spec.end, names)
            );
            format!("window [{part}] order [{}] {frame} {calls}", keys(&spec.order_by, names))
        }
        Rel::Sort { keys: k, .. } => format!("sort {}", keys(k, names)),
        Rel::Limit { limit, offset, with_ties, .. } => {
            let one = |x: &Option<Expr>| x.as_ref().map_or("-".into(), e);
            let ties = if with_ties.is_some() { " ties" } else { "" };
            format!("limit {} offset {}{ties}", one(limit), one(offset))
        }
        Rel::Distinct { on, .. } => format!("distinct {}", list(on, |id| names.name(*id, "?"))),
        Rel::SetOp { kind, all, .. } => {
            format!("{}{}", format!("{kind:?}").to_lowercase(), if *all { " all" } else { "" })
        }
        Rel::Function { calls, ordinality } => {
            let calls = list(calls, |c| {
                format!("{}({}) [{}]", c.func.name, list(&c.args, e), columns(&c.columns, names))
            });
            format!("function {calls}{}", if ordinality.is_some() { " ordinality" } else { "" })
        }
        Rel::With { ctes, .. } => format!("with {}", list(ctes, |c| c.name.to_string())),
        Rel::CteScan { cte, columns: c } => format!("cte {cte} [{}]", columns(c, names)),
        Rel::LockRows { locks, .. } => {
            format!(
                "lock {}",
                list(locks, |l| format!("{} {:?} {:?}", l.table.name, l.strength, l.wait))
            )
        }
        Rel::Modify(m) => {
            let what = match &m.kind {
                ModifyKind::Insert { values, on_conflict } => {
                    let conflict = on_conflict.as_ref().map_or(String::new(), |c| {
                        let update = c.update.as_ref().map_or("nothing".to_owned(), |u| {
                            let set = list(&u.set, |(a, x)| format!("{a} = {}", e(x)));
                            let filter = u
                                .filter
                                .as_ref()
                                .map_or(String::new(), |f| format!(" where {}", e(f)));
                            format!("set {set}{filter}")
                        });
                        format!(" on conflict {:?} {update}", c.arbiters)
                    });
                    format!("insert {} ({}){conflict}", m.table.name, list(values, e))
                }
                ModifyKind::Update { set, .. } => {
                    format!(
                        "update {} set {}",
                        m.table.name,
                        list(set, |(a, x)| format!("{a} = {}", e(x)))
                    )
                }
                ModifyKind::Delete { .. } => format!("delete {}", m.table.name),
            };
            let returning = if m.returning.is_empty() {
                String::new()
            } else {
                format!(" returning {}", list(&m.returning, |(_, x)| e(x)))
            };
            format!("{what}{returning}")
        }
    };
    let _ = writeln!(out, "{}{line}", "  ".repeat(depth));
    walk::each_input(r, &mut |child| node(child, depth + 1, names, out));
    walk::each_expr(r, &mut |x| {
        walk::visit(x, &mut |x| {
            if let Some(sub) = walk::subquery_of(x) {
                let word = if sub.outer.is_empty() { "once" } else { "correlated" };
                let _ = writeln!(out, "{}sub-query ({word})", "  ".repeat(depth + 1));
                let mut inner = Names::of_rel(&sub.plan);
                inner.extend(names.clone());
                node(&sub.plan, depth + 2, &inner, out);
            }
        });
    });
}

fn bound(b: &FrameBound, names: &Names) -> String {
    match b {
        FrameBound::UnboundedPreceding => "unbounded".into(),
        FrameBound::Preceding(x) => format!("-{}", expression(x, names)),
        FrameBound::CurrentRow => "current".into(),
        FrameBound::Following(x) => format!("+{}", expression(x, names)),
        FrameBound::UnboundedFollowing => "unbounded".into(),
    }
}

fn span(s: &KeySpan, names: &Names) -> String {
    let mut parts: Vec<String> = Vec::new();
    for (i, x) in s.prefix.iter().enumerate() {
        let each = if s.each == Some(i) { "each " } else { "=" };
        parts.push(format!("{each}{}", expression(x, names)));
    }
    let edge = |b: &Option<(Expr, bool)>, yes: &str, no: &str| {
        b.as_ref()
            .map(|(x, inc)| format!("{}{}", if *inc { yes } else { no }, expression(x, names)))
    };
    parts.extend(edge(&s.lower, ">=", ">"));
    parts.extend(edge(&s.upper, "<=", "<"));
    format!("({})", parts.join(" "))
}
