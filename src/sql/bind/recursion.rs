//! Where a recursive query may name itself: once, and where each step can only add rows.

use std::ops::ControlFlow;

use meridian_types::{PgError, Result, SqlState};

use super::Binder;
use crate::ast;
use crate::parse::source::on_deep_stack;
use sqlparser::tokenizer::Location;

/// What a reference stands inside of.
#[derive(Clone, Copy, PartialEq)]
enum Inside {
    Nothing,
    OuterJoin,
    Except,
    Intersect,
}

/// The references found so far.
struct Search<'a> {
    name: &'a str,
    count: usize,
}

/// A refused reference: what it does, and where it starts.
type Refused = (&'static str, Location);

impl Binder<'_> {
    /// Refuses a recursive term that names the query where that is not allowed.
    pub(super) fn check_recursive_term(&self, name: &str, term: &ast::SetExpr) -> Result<()> {
        let mut search = Search { name, count: 0 };
        let refused = on_deep_stack(|| {
            in_expressions(name, term).or_else(|| search.set_expr(term, Inside::Nothing))
        });
        let Some((what, location)) = refused else { return Ok(()) };
        let text = format!("recursive reference to query \"{name}\" must not appear {what}");
        Err(PgError::new(SqlState::INVALID_RECURSION, text).at(self.source.position(location)))
    }
}

/// A reference in a sub-query of an expression.
fn in_expressions(name: &str, term: &ast::SetExpr) -> Option<Refused> {
    struct Visit<'a>(&'a str, usize);
    impl ast::Visitor for Visit<'_> {
        type Break = Location;

        fn pre_visit_expr(&mut self, e: &ast::Expr) -> ControlFlow<Location> {
            self.1 += usize::from(holds_query(e));
            ControlFlow::Continue(())
        }

        fn post_visit_expr(&mut self, e: &ast::Expr) -> ControlFlow<Location> {
            self.1 -= usize::from(holds_query(e));
            ControlFlow::Continue(())
        }

        fn pre_visit_relation(&mut self, name: &ast::ObjectName) -> ControlFlow<Location> {
            match place(name, self.0) {
                Some(location) if self.1 > 0 => ControlFlow::Break(location),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    let found = ast::Visit::visit(term, &mut Visit(name, 0)).break_value()?;
    Some(("within a subquery", found))
}

fn holds_query(e: &ast::Expr) -> bool {
    matches!(e, ast::Expr::Subquery(_) | ast::Expr::Exists { .. } | ast::Expr::InSubquery { .. })
}

fn place(relation: &ast::ObjectName, name: &str) -> Option<Location> {
    let [part] = relation.0.as_slice() else { return None };
    part.as_ident().filter(|i| i.value == name).map(|i| i.span.start)
}

impl Search<'_> {
    fn query(&mut self, query: &ast::Query, inside: Inside) -> Option<Refused> {
        if let Some(with) = &query.with {
            if with.cte_tables.iter().any(|c| c.alias.name.value == self.name) {
                return None;
            }
            for cte in &with.cte_tables {
                if let Some(refused) = self.query(&cte.query, inside) {
                    return Some(refused);
                }
            }
        }
        self.set_expr(&query.body, inside)
    }

    fn set_expr(&mut self, body: &ast::SetExpr, inside: Inside) -> Option<Refused> {
        match body {
            ast::SetExpr::Query(query) => self.query(query, inside),
            ast::SetExpr::Select(select) => {
                select.from.iter().find_map(|item| self.joins(item, inside))
            }
            ast::SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let all = matches!(set_quantifier, ast::SetQuantifier::All);
                let (l, r) = match op {
                    ast::SetOperator::Intersect if all => (Inside::Intersect, Inside::Intersect),
                    ast::SetOperator::Except if all => (Inside::Except, Inside::Except),
                    ast::SetOperator::Except => (inside, Inside::Except),
                    _ => (inside, inside),
                };
                self.set_expr(left, l).or_else(|| self.set_expr(right, r))
            }
            _ => None,
        }
    }

    fn joins(&mut self, item: &ast::TableWithJoins, inside: Inside) -> Option<Refused> {
        use ast::JoinOperator as J;
        let pads_left = |j: &ast::Join| {
            matches!(j.join_operator, J::Right(_) | J::RightOuter(_) | J::FullOuter(_))
        };
        let pads_right = |j: &ast::Join| {
            matches!(j.join_operator, J::Left(_) | J::LeftOuter(_) | J::FullOuter(_))
        };
        let at = |padded: bool| if padded { Inside::OuterJoin } else { inside };
        if let Some(refused) = self.factor(&item.relation, at(item.joins.iter().any(pads_left))) {
            return Some(refused);
        }
        item.joins.iter().enumerate().find_map(|(i, join)| {
            let padded = pads_right(join) || item.joins[i + 1..].iter().any(pads_left);
            self.factor(&join.relation, at(padded))
        })
    }

    fn factor(&mut self, factor: &ast::TableFactor, inside: Inside) -> Option<Refused> {
        match factor {
            ast::TableFactor::Table { name, .. } => {
                let location = place(name, self.name)?;
                self.count += 1;
                let what = match inside {
                    Inside::OuterJoin => "within an outer join",
                    Inside::Except => "within EXCEPT",
                    Inside::Intersect => "within INTERSECT",
                    Inside::Nothing if self.count > 1 => "more than once",
                    Inside::Nothing => return None,
                };
                Some((what, location))
            }
            ast::TableFactor::Derived { subquery, .. } => self.query(subquery, inside),
            ast::TableFactor::NestedJoin { table_with_joins, .. } => {
                self.joins(table_with_joins, inside)
            }
            _ => None,
        }
    }
}
