//! Relations as PostgreSQL's plan nodes.

use std::collections::BTreeMap;

use meridian_catalog::{IndexDesc, TableDesc};

use super::expr::{Names, conjunction, expression};
use crate::deparse::quote_ident;
use crate::expr::{ColumnId, Expr, ExprKind};
use crate::optimise::{Estimate, estimate};
use crate::plan::{Modify, ModifyKind, Query};
use crate::rel::{Access, Column, JoinKind, KeySpan, Rel, SetOpKind, SortKey};
use crate::walk;

/// A node of the shown plan.
#[derive(Clone, Debug)]
pub struct Node {
    /// `Node Type` of the JSON form.
    pub kind: String,
    /// First line of the text form.
    pub title: String,
    /// Properties in order.
    pub properties: Vec<(&'static str, Property)>,
    /// What it is expected to give.
    pub estimate: Estimate,
    /// Number of the relation whose counters are its own.
    pub relation: usize,
    /// Inputs: (`Parent Relationship`, heading of a sub-plan, node).
    pub children: Vec<(&'static str, Option<String>, Node)>,
}

/// The value of a property.
#[derive(Clone, Debug)]
pub enum Property {
    /// One text.
    Text(String),
    /// A list, which text shows with commas.
    List(Vec<String>),
}

/// The tree of a query.
pub(super) fn build(query: &Query, verbose: bool) -> Node {
    let names = Names::of(query);
    let mut numbers = BTreeMap::new();
    number(&query.rel, &mut numbers);
    let mut builder = Builder { names, numbers, ctes: BTreeMap::new() };
    let mut root = builder.node(&query.rel);
    if verbose && !query.output.is_empty() {
        let output = query.output.iter().map(|c| builder.names.name(c.id, &c.name)).collect();
        root.properties.insert(0, ("Output", Property::List(output)));
    }
    root
}

fn number(rel: &Rel, numbers: &mut BTreeMap<*const Rel, usize>) {
    let next = numbers.len();
    numbers.insert(std::ptr::from_ref(rel), next);
    walk::each_input(rel, &mut |r| number(r, numbers));
}

struct Builder {
    names: Names,
    numbers: BTreeMap<*const Rel, usize>,
    ctes: BTreeMap<u32, String>,
}

impl Builder {
    fn leaf(&self, rel: &Rel, kind: &str, title: String) -> Node {
        Node {
            kind: kind.to_owned(),
            title,
            properties: Vec::new(),
            estimate: estimate(rel),
            relation: self.numbers.get(&std::ptr::from_ref(rel)).copied().unwrap_or(usize::MAX),
            children: Vec::new(),
        }
    }

    fn over(&mut self, rel: &Rel, kind: &str, input: &Rel) -> Node {
        let mut node = self.leaf(rel, kind, kind.to_owned());
        let child = self.node(input);
        node.children.push(("Outer", None, child));
        self.subqueries(rel, &mut node);
        node
    }

    fn text(&self, e: &Expr) -> String {
        expression(e, &self.names)
    }

    fn node(&mut self, rel: &Rel) -> Node {
        walk::with_stack(|| self.node_of(rel))
    }

    fn node_of(&mut self, rel: &Rel) -> Node {
        match rel {
            Rel::Scan { table, columns, filter, access } => {
                self.scan(rel, table, columns, filter, access)
            }
            Rel::Virtual { table, filter, columns } => {
                let name = self.names.relation(table.name, columns.first().map(|(c, _)| c.id));
                let mut node = self.leaf(rel, "Seq Scan", format!("Seq Scan on {name}"));
                self.names.enter_scan(columns.iter().map(|(c, _)| c));
                self.condition(&mut node, "Filter", filter);
                self.names.enter_scan([]);
                node
            }
            Rel::Values { rows, columns } => match (rows.len(), columns.len()) {
                (0, _) => {
                    let mut node = self.leaf(rel, "Result", "Result".into());
                    node.properties.push(("One-Time Filter", Property::Text("false".into())));
                    node
                }
                (1, _) => self.leaf(rel, "Result", "Result".into()),
                _ => self.leaf(rel, "Values Scan", "Values Scan on \"*VALUES*\"".into()),
            },
            Rel::Project { input, .. } => {
                let mut node = self.node(input);
                self.subqueries(rel, &mut node);
                node
            }
            Rel::ProjectSet { input, .. } => self.over(rel, "ProjectSet", input),
            Rel::Filter { input, predicates } => self.filter(rel, input, predicates),
            Rel::Join { kind, left, right, on, lookup } => {
                self.join(rel, *kind, (left, right), on, *lookup)
            }
            Rel::Apply { kind, left, right, on } => {
                let mut node = self.pair(rel, "Nested Loop", *kind, left, right);
                self.condition(&mut node, "Join Filter", on);
                node
            }
            Rel::Aggregate { input, group_by, grouping_sets, .. } => {
                self.aggregate(rel, input, group_by, grouping_sets.as_deref())
            }
            Rel::Window { input, .. } => self.over(rel, "WindowAgg", input),
            Rel::Sort { input, keys } => {
                let mut node = self.over(rel, "Sort", input);
                let keys = keys.iter().map(|k| self.sort_key(k)).collect();
                node.properties.push(("Sort Key", Property::List(keys)));
                node
            }
            Rel::Limit { input, .. } => self.over(rel, "Limit", input),
            Rel::Distinct { input, on } => self.distinct(rel, input, on),
            Rel::SetOp { kind, all, left, right, .. } => {
                self.set_operation(rel, *kind, *all, &left.0, &right.0)
            }
            Rel::Function { calls, .. } => {
                let names: Vec<&str> = calls.iter().map(|c| &*c.func.name).collect();
                let first = calls.first().and_then(|c| c.columns.first()).map(|c| c.id);
                let name = self.names.relation(&names.join(", "), first);
                let title = format!("Function Scan on {name}");
                self.leaf(rel, "Function Scan", title)
            }
            Rel::With { ctes, body } => self.with(rel, ctes, body),
            Rel::CteScan { cte, columns } => {
                let name = self.ctes.get(cte).cloned().unwrap_or_default();
                let name = self.names.relation(&name, columns.first().map(|c| c.id));
                self.leaf(rel, "CTE Scan", format!("CTE Scan on {name}"))
            }
            Rel::LockRows { input, .. } => self.over(rel, "LockRows", input),
            Rel::Modify(modify) => self.modify(rel, modify),
        }
    }

    fn condition(&self, node: &mut Node, name: &'static str, predicates: &[Expr]) {
        if !predicates.is_empty() {
            let text = conjunction(predicates, &self.names);
            node.properties.push((name, Property::Text(text)));
        }
    }

    fn scan(
        &mut self,
        rel: &Rel,
        table: &TableDesc,
        columns: &[(Column, i16)],
        filter: &[Expr],
        access: &Access,
    ) -> Node {
        let index = match access {
            Access::Index { index_id, .. } => {
                table.indexes.iter().find(|i| i.index_id == *index_id && i.oid != 0)
            }
            Access::Full => None,
        };
        let name = self.names.relation(&table.name, columns.first().map(|(c, _)| c.id));
        self.names.enter_scan(columns.iter().map(|(c, _)| c));
        let mut node = match (index, access) {
            (Some(index), Access::Index { spans, reverse, .. }) => {
                let covered = columns.iter().all(|(_, a)| holds(table, index, *a));
                let kind = if covered { "Index Only Scan" } else { "Index Scan" };
                let back = if *reverse { " Backward" } else { "" };
                let title = format!("{kind}{back} using {} on {name}", quote_ident(&index.name));
                let mut node = self.leaf(rel, kind, title);
                let cond = self.index_condition(table, index, columns, spans);
                if !cond.is_empty() {
                    node.properties.push(("Index Cond", Property::Text(cond)));
                }
                node
            }
            _ => self.leaf(rel, "Seq Scan", format!("Seq Scan on {name}")),
        };
        self.condition(&mut node, "Filter", filter);
        self.names.enter_scan([]);
        self.subqueries(rel, &mut node);
        node
    }

    /// The spans as conditions again.
    fn index_condition(
        &self,
        table: &TableDesc,
        index: &IndexDesc,
        columns: &[(Column, i16)],
        spans: &[KeySpan],
    ) -> String {
        let name = |at: usize| -> String {
            let Some(attnum) = index.columns.get(at).and_then(|k| k.attnum) else {
                return "?".into();
            };
            match columns.iter().find(|(_, a)| *a == attnum) {
                Some((c, _)) => self.names.name(c.id, &c.name),
                None => {
                    let column = table.columns.iter().find(|c| c.attnum == attnum);
                    column.map_or("?".into(), |c| c.name.clone())
                }
            }
        };
        let mut alternatives = Vec::new();
        for span in spans {
            let mut parts = Vec::new();
            for (i, value) in span.prefix.iter().enumerate() {
                let value = self.text(value);
                parts.push(if span.each == Some(i) {
                    format!("({} = ANY ({value}))", name(i))
                } else {
                    format!("({} = {value})", name(i))
                });
            }
            let next = span.prefix.len();
            if let Some((value, included)) = &span.lower {
                let op = if *included { ">=" } else { ">" };
                parts.push(format!("({} {op} {})", name(next), self.text(value)));
            }
            if let Some((value, included)) = &span.upper {
                let op = if *included { "<=" } else { "<" };
                parts.push(format!("({} {op} {})", name(next), self.text(value)));
            }
            match parts.len() {
                0 => {}
                1 => alternatives.append(&mut parts),
                _ => alternatives.push(format!("({})", parts.join(" AND "))),
            }
        }
        match alternatives.len() {
            0 => String::new(),
            1 => alternatives.remove(0),
            _ => format!("({})", alternatives.join(" OR ")),
        }
    }

    /// A filter belongs to the node below it, when that can have one.
    fn filter(&mut self, rel: &Rel, input: &Rel, predicates: &[Expr]) -> Node {
        let mut node = self.node(input);
        if node.kind == "Limit" || node.properties.iter().any(|(n, _)| *n == "Filter") {
            let mut outer = self.leaf(rel, "Result", "Result".into());
            outer.children.push(("Outer", None, node));
            node = outer;
        }
        node.estimate = estimate(rel);
        let leaf = matches!(input, Rel::Scan { .. } | Rel::CteScan { .. } | Rel::Function { .. });
        self.names.enter_scan(leaf.then(|| walk::output(input)).iter().flatten());
        self.condition(&mut node, "Filter", predicates);
        self.names.enter_scan([]);
        self.subqueries(rel, &mut node);
        node
    }

    fn pair(&mut self, rel: &Rel, base: &str, kind: JoinKind, left: &Rel, right: &Rel) -> Node {
        let word = match kind {
            JoinKind::Inner if base == "Nested Loop" => "",
            JoinKind::Inner => " Join",
            JoinKind::Left => " Left Join",
            JoinKind::Right => " Right Join",
            JoinKind::Full => " Full Join",
            JoinKind::Semi => " Semi Join",
            JoinKind::Anti => " Anti Join",
        };
        let kind = if base == "Hash" { "Hash Join" } else { base };
        let mut node = self.leaf(rel, kind, format!("{base}{word}"));
        let (left, right) = (self.node(left), self.node(right));
        node.children.push(("Outer", None, left));
        node.children.push(("Inner", None, right));
        node
    }

    fn join(
        &mut self,
        rel: &Rel,
        kind: JoinKind,
        (left, right): (&Rel, &Rel),
        on: &[Expr],
        lookup: bool,
    ) -> Node {
        let made = walk::output_set(left);
        let other = walk::output_set(right);
        let splits = |e: &Expr| {
            let ExprKind::Call { func, args } = &e.kind else { return false };
            let [a, b] = args.as_slice() else { return false };
            let within = |e: &Expr, s: &walk::ColumnSet| {
                let used = walk::expr_columns(e);
                !used.is_empty() && used.iter().all(|c| s.contains(c))
            };
            func.operator.as_deref() == Some("=")
                && ((within(a, &made) && within(b, &other))
                    || (within(a, &other) && within(b, &made)))
        };
        let (keys, rest): (Vec<Expr>, Vec<Expr>) = on.iter().cloned().partition(splits);
        if lookup || keys.is_empty() {
            let mut node = self.pair(rel, "Nested Loop", kind, left, right);
            self.condition(&mut node, "Join Filter", on);
            self.subqueries(rel, &mut node);
            return node;
        }
        let mut node = self.pair(rel, "Hash", kind, left, right);
        self.condition(&mut node, "Hash Cond", &keys);
        self.condition(&mut node, "Join Filter", &rest);
        if let Some((_, _, inner)) = node.children.last_mut() {
            let hash = Node {
                kind: "Hash".into(),
                title: "Hash".into(),
                properties: Vec::new(),
                estimate: Estimate { startup: inner.estimate.total, ..inner.estimate },
                relation: inner.relation,
                children: Vec::new(),
            };
            let below = std::mem::replace(inner, hash);
            inner.children.push(("Outer", None, below));
        }
        self.subqueries(rel, &mut node);
        node
    }

    fn aggregate(
        &mut self,
        rel: &Rel,
        input: &Rel,
        group_by: &[ColumnId],
        sets: Option<&[Vec<usize>]>,
    ) -> Node {
        let kind = match (group_by.is_empty(), sets) {
            (_, Some(_)) => "MixedAggregate",
            (true, None) => "Aggregate",
            (false, None) => "HashAggregate",
        };
        let mut node = self.over(rel, kind, input);
        node.kind = "Aggregate".into();
        let column = |id: &ColumnId| self.names.name(*id, "?");
        match sets {
            None if group_by.is_empty() => {}
            None => {
                let keys = group_by.iter().map(column).collect();
                node.properties.push(("Group Key", Property::List(keys)));
            }
            Some(sets) => {
                for set in sets {
                    let keys: Vec<String> =
                        set.iter().filter_map(|i| group_by.get(*i)).map(column).collect();
                    let text = if keys.is_empty() { "()".into() } else { keys.join(", ") };
                    node.properties.push(("Group Key", Property::Text(text)));
                }
            }
        }
        node
    }

    fn distinct(&mut self, rel: &Rel, input: &Rel, on: &[ColumnId]) -> Node {
        if matches!(input, Rel::Sort { .. }) {
            return self.over(rel, "Unique", input);
        }
        let mut node = self.over(rel, "HashAggregate", input);
        node.kind = "Aggregate".into();
        let keys = on.iter().map(|id| self.names.name(*id, "?")).collect();
        node.properties.push(("Group Key", Property::List(keys)));
        node
    }

    fn set_operation(
        &mut self,
        rel: &Rel,
        kind: SetOpKind,
        all: bool,
        left: &Rel,
        right: &Rel,
    ) -> Node {
        let title = match (kind, all) {
            (SetOpKind::Union, _) => "Append",
            (SetOpKind::Intersect, false) => "HashSetOp Intersect",
            (SetOpKind::Intersect, true) => "HashSetOp Intersect All",
            (SetOpKind::Except, false) => "HashSetOp Except",
            (SetOpKind::Except, true) => "HashSetOp Except All",
        };
        let name = if kind == SetOpKind::Union { "Append" } else { "SetOp" };
        let mut node = self.leaf(rel, name, title.to_owned());
        for side in [left, right] {
            let child = self.node(side);
            let union = kind == SetOpKind::Union && all && child.title == "Append";
            if union {
                node.children.extend(child.children);
            } else {
                node.children.push(("Member", None, child));
            }
        }
        if kind == SetOpKind::Union && !all {
            let mut unique = self.leaf(rel, "Aggregate", "HashAggregate".into());
            let keys = walk::output(rel).iter().map(|c| c.name.to_string()).collect();
            unique.properties.push(("Group Key", Property::List(keys)));
            unique.children.push(("Outer", None, node));
            return unique;
        }
        node
    }

    fn with(&mut self, _: &Rel, ctes: &[crate::rel::Cte], body: &Rel) -> Node {
        let mut plans = Vec::with_capacity(ctes.len());
        for cte in ctes {
            self.ctes.insert(cte.id, cte.name.to_string());
            let first = self.node(&cte.plan);
            let plan = match &cte.recursive {
                None => first,
                Some((r, _)) => {
                    let mut node =
                        self.leaf(&cte.plan, "Recursive Union", "Recursive Union".into());
                    let second = self.node(r);
                    node.children.push(("Outer", None, first));
                    node.children.push(("Inner", None, second));
                    node
                }
            };
            plans.push(("InitPlan", Some(format!("CTE {}", cte.name)), plan));
        }
        let mut node = self.node(body);
        plans.append(&mut node.children);
        node.children = plans;
        node
    }

    fn modify(&mut self, rel: &Rel, modify: &Modify) -> Node {
        let verb = match modify.kind {
            ModifyKind::Insert { .. } => "Insert",
            ModifyKind::Update { .. } => "Update",
            ModifyKind::Delete { .. } => "Delete",
        };
        let target = match &modify.kind {
            ModifyKind::Insert { .. } => &modify.new_columns,
            ModifyKind::Update { old, .. } | ModifyKind::Delete { old, .. } => old,
        };
        let name = self.names.relation(&modify.table.name, target.first().copied());
        let mut node = self.leaf(rel, "ModifyTable", format!("{verb} on {name}"));
        if let ModifyKind::Insert { on_conflict: Some(conflict), .. } = &modify.kind {
            let what = if conflict.update.is_some() { "UPDATE" } else { "NOTHING" };
            node.properties.push(("Conflict Resolution", Property::Text(what.into())));
            let indexes: Vec<String> = modify
                .table
                .indexes
                .iter()
                .filter(|i| conflict.arbiters.contains(&i.index_id))
                .map(|i| i.name.clone())
                .collect();
            if !indexes.is_empty() {
                node.properties.push(("Conflict Arbiter Indexes", Property::List(indexes)));
            }
            if let Some(filter) = conflict.update.as_ref().and_then(|u| u.filter.as_ref()) {
                self.condition(&mut node, "Conflict Filter", std::slice::from_ref(filter));
            }
        }
        let child = self.node(&modify.source);
        node.children.push(("Outer", None, child));
        self.subqueries(rel, &mut node);
        node
    }

    /// Sub-queries in the node's expressions, as sub-plans.
    fn subqueries(&mut self, rel: &Rel, node: &mut Node) {
        let mut found = Vec::new();
        walk::each_expr(rel, &mut |e| {
            walk::visit(e, &mut |e| {
                let set = matches!(e.kind, ExprKind::Quantified { .. });
                found.extend(walk::subquery_of(e).map(|sub| (sub.clone(), set)));
            });
        });
        for (sub, set) in found {
            let (number, value) = self.names.subplan(&sub, !set && sub.outer.is_empty());
            let (relation, heading) = match value {
                Some(value) => ("InitPlan", format!("InitPlan {number} (returns ${value})")),
                None => ("SubPlan", format!("SubPlan {number}")),
            };
            self.names.collect(&sub.plan);
            let child = self.node(&sub.plan);
            node.children.push((relation, Some(heading), child));
        }
    }

    fn sort_key(&self, key: &SortKey) -> String {
        let mut text = self.names.name(key.column, "?");
        if text.contains(['(', ' ']) && !text.starts_with(['(', '"']) {
            text = format!("({text})");
        }
        if key.desc {
            text.push_str(" DESC");
        }
        match (key.desc, key.nulls_first) {
            (false, true) => text.push_str(" NULLS FIRST"),
            (true, false) => text.push_str(" NULLS LAST"),
            _ => {}
        }
        text
    }
}

/// Whether the index holds the column.
fn holds(table: &TableDesc, index: &IndexDesc, attnum: i16) -> bool {
    let mine = |i: &IndexDesc| i.columns.iter().any(|k| k.attnum == Some(attnum));
    attnum == 0
        || mine(index)
        || index.include.contains(&attnum)
        || table.indexes.first().is_some_and(mine)
}
