//! Windows: OVER clauses, named windows, frames.
//!
//! Calls over the same window share one [`Rel::Window`]. What it partitions or sorts by is computed
//! below it under a column of its own.

use meridian_types::oid::{self, INT8};
use meridian_types::{PgError, PgType, Result, SqlState};

use super::query::{extended, push_key};
use super::same::same;
use super::{Binder, Clause};
use crate::ast;
use crate::expr::{Expr, ExprKind, FuncRef};
use crate::rel::{
    Column, FrameBound, FrameExclude, FrameUnit, Rel, SortKey, WindowCall, WindowSpec,
};
use crate::resolve::CoercionContext;

/// A window and the calls over it.
#[derive(Clone, Debug)]
pub(crate) struct BoundWindow {
    partition_by: Vec<Expr>,
    /// (expression, descending, nulls first)
    order_by: Vec<(Expr, bool, bool)>,
    unit: FrameUnit,
    start: FrameBound,
    end: FrameBound,
    exclude: FrameExclude,
    in_range: Option<FuncRef>,
    calls: Vec<(Column, WindowCall)>,
}

impl BoundWindow {
    /// All its expressions over the level's columns.
    pub(crate) fn exprs(&self) -> impl Iterator<Item = &Expr> {
        let calls = self.calls.iter().flat_map(|(_, c)| c.args.iter().chain(&c.filter));
        self.partition_by.iter().chain(self.order_by.iter().map(|(e, _, _)| e)).chain(calls)
    }

    /// The same, to be changed.
    pub(crate) fn each_expr_mut(&mut self, f: &mut dyn FnMut(&mut Expr)) {
        self.partition_by.iter_mut().for_each(&mut *f);
        self.order_by.iter_mut().for_each(|(e, _, _)| f(e));
        for (_, call) in &mut self.calls {
            call.args.iter_mut().chain(&mut call.filter).for_each(&mut *f);
        }
    }

    fn same_window(&self, other: &BoundWindow) -> bool {
        let bound = |a: &FrameBound, b: &FrameBound| match (a, b) {
            (FrameBound::Preceding(a), FrameBound::Preceding(b))
            | (FrameBound::Following(a), FrameBound::Following(b)) => same(a, b),
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        };
        super::same::same_all(&self.partition_by, &other.partition_by)
            && self.order_by.len() == other.order_by.len()
            && self
                .order_by
                .iter()
                .zip(&other.order_by)
                .all(|(a, b)| same(&a.0, &b.0) && a.1 == b.1 && a.2 == b.2)
            && self.unit == other.unit
            && self.exclude == other.exclude
            && bound(&self.start, &other.start)
            && bound(&self.end, &other.end)
    }
}

/// A window definition with what it inherits put in.
#[derive(Clone, Debug, Default)]
struct Definition {
    partition_by: Vec<ast::Expr>,
    order_by: Vec<ast::OrderByExpr>,
    frame: Option<ast::WindowFrame>,
    exclude: FrameExclude,
}

impl Binder<'_> {
    /// Binds the windows of all calls gathered in the level.
    pub(crate) fn bind_windows(
        &mut self,
        named: &[ast::NamedWindowDefinition],
    ) -> Result<Vec<BoundWindow>> {
        for (i, definition) in named.iter().enumerate() {
            if named[..i].iter().any(|d| d.0.value == definition.0.value) {
                let text = format!("window \"{}\" is already defined", definition.0.value);
                let position = self.source.position(definition.0.span.start);
                return Err(PgError::new(SqlState::WINDOWING_ERROR, text).at(position));
            }
        }
        let refs = std::mem::take(&mut self.scope().windows);
        let mut out: Vec<BoundWindow> = Vec::new();
        for w in refs {
            let definition = match &w.over {
                ast::WindowType::NamedWindow(name) => self.named_window(name, named)?,
                ast::WindowType::WindowSpec(spec) => self.window_spec(spec, named)?,
            };
            let mut window = self.bind_window(&definition)?;
            let call = WindowCall {
                func: w.func,
                aggregate: w.aggregate,
                args: w.args,
                filter: w.filter,
                ty: w.column.ty,
            };
            match out.iter_mut().find(|o| o.same_window(&window)) {
                Some(existing) => existing.calls.push((w.column, call)),
                None => {
                    window.calls.push((w.column, call));
                    out.push(window);
                }
            }
        }
        Ok(out)
    }

    fn named_window(
        &self,
        name: &ast::Ident,
        named: &[ast::NamedWindowDefinition],
    ) -> Result<Definition> {
        let Some(at) = named.iter().position(|d| d.0.value == name.value) else {
            let text = format!("window \"{}\" does not exist", name.value);
            let position = self.source.position(name.span.start);
            return Err(PgError::new(SqlState::UNDEFINED_OBJECT, text).at(position));
        };
        match &named[at].1 {
            ast::NamedWindowExpr::NamedWindow(other) => self.named_window(other, &named[..at]),
            ast::NamedWindowExpr::WindowSpec(spec) => self.window_spec(spec, &named[..at]),
        }
    }

    /// A specification; one that begins with a name copies PARTITION BY and ORDER BY.
    fn window_spec(
        &self,
        spec: &ast::WindowSpec,
        named: &[ast::NamedWindowDefinition],
    ) -> Result<Definition> {
        let mut out = Definition {
            partition_by: spec.partition_by.clone(),
            order_by: spec.order_by.clone(),
            frame: spec.window_frame.clone(),
            exclude: FrameExclude::NoOthers,
        };
        let (name, exclude) = crate::parse::window_frame(spec.window_name.as_ref());
        out.exclude = exclude;
        let Some(name) = &name else { return Ok(out) };
        let base = self.named_window(name, named)?;
        let position = self.source.position(name.span.start);
        let refuse = |what: &str| {
            let text = format!("cannot {what} of window \"{}\"", name.value);
            Err(PgError::new(SqlState::WINDOWING_ERROR, text).at(position))
        };
        if !out.partition_by.is_empty() {
            return refuse("override PARTITION BY clause");
        }
        if !out.order_by.is_empty() && !base.order_by.is_empty() {
            return refuse("override ORDER BY clause");
        }
        if base.frame.is_some() {
            let text =
                format!("cannot copy window \"{}\" because it has a frame clause", name.value);
            return Err(PgError::new(SqlState::WINDOWING_ERROR, text).at(position));
        }
        out.partition_by = base.partition_by;
        if out.order_by.is_empty() {
            out.order_by = base.order_by;
        }
        Ok(out)
    }

    fn bind_window(&mut self, definition: &Definition) -> Result<BoundWindow> {
        let mut partition_by: Vec<Expr> = Vec::new();
        for e in &definition.partition_by {
            let position = self.position(e);
            let bound = self.bind_expr(e, Clause::WindowPartition)?;
            let bound = self.resolve_unknown(bound, position)?;
            self.check_hashable_or_sortable(bound.ty.oid, position)?;
            if !partition_by.iter().any(|p| same(p, &bound)) {
                partition_by.push(bound);
            }
        }
        let mut order_by = Vec::new();
        for item in &definition.order_by {
            let position = self.position(&item.expr);
            let bound = self.bind_expr(&item.expr, Clause::WindowOrder)?;
            let bound = self.resolve_unknown(bound, position)?;
            self.check_sortable(bound.ty.oid, position)?;
            let desc = item.options.asc == Some(false);
            order_by.push((bound, desc, item.options.nulls_first.unwrap_or(desc)));
        }
        let mut window = BoundWindow {
            partition_by,
            order_by,
            unit: FrameUnit::Range,
            start: FrameBound::UnboundedPreceding,
            end: FrameBound::CurrentRow,
            exclude: definition.exclude,
            in_range: None,
            calls: Vec::new(),
        };
        if let Some(frame) = &definition.frame {
            self.bind_frame(frame, &mut window)?;
        }
        Ok(window)
    }

    fn bind_frame(&mut self, frame: &ast::WindowFrame, window: &mut BoundWindow) -> Result<()> {
        window.unit = match frame.units {
            ast::WindowFrameUnits::Rows => FrameUnit::Rows,
            ast::WindowFrameUnits::Range => FrameUnit::Range,
            ast::WindowFrameUnits::Groups => FrameUnit::Groups,
        };
        let end = frame.end_bound.clone().unwrap_or(ast::WindowFrameBound::CurrentRow);
        check_frame(&frame.start_bound, &end)?;
        if window.unit == FrameUnit::Groups && window.order_by.is_empty() {
            let text = "GROUPS mode requires an ORDER BY clause";
            return Err(PgError::new(SqlState::WINDOWING_ERROR, text));
        }
        window.start = self.bind_frame_bound(&frame.start_bound, window)?;
        window.end = self.bind_frame_bound(&end, window)?;
        Ok(())
    }

    fn bind_frame_bound(
        &mut self,
        bound: &ast::WindowFrameBound,
        window: &mut BoundWindow,
    ) -> Result<FrameBound> {
        let (e, preceding) = match bound {
            ast::WindowFrameBound::CurrentRow => return Ok(FrameBound::CurrentRow),
            ast::WindowFrameBound::Preceding(None) => return Ok(FrameBound::UnboundedPreceding),
            ast::WindowFrameBound::Following(None) => return Ok(FrameBound::UnboundedFollowing),
            ast::WindowFrameBound::Preceding(Some(e)) => (e, true),
            ast::WindowFrameBound::Following(Some(e)) => (e, false),
        };
        let offset = self.bind_frame_offset(e, window)?;
        Ok(if preceding { FrameBound::Preceding(offset) } else { FrameBound::Following(offset) })
    }

    fn bind_frame_offset(&mut self, e: &ast::Expr, window: &mut BoundWindow) -> Result<Expr> {
        // sqlparser takes a string in front of PRECEDING for an interval.
        let e = match e {
            ast::Expr::Interval(interval) if interval.leading_field.is_none() => &interval.value,
            e => e,
        };
        let position = self.position(e);
        let clause = match window.unit {
            FrameUnit::Rows => Clause::WindowFrameRows,
            FrameUnit::Groups => Clause::WindowFrameGroups,
            FrameUnit::Range => Clause::WindowFrameRange,
        };
        let bound = self.bind_expr(e, clause)?;
        let own = crate::walk::expr_columns(&bound);
        let level: crate::walk::ColumnSet = self
            .scope()
            .items
            .iter()
            .flat_map(|i| &i.columns)
            .flat_map(|c| crate::walk::expr_columns(&c.expr))
            .collect();
        if own.iter().any(|c| level.contains(c)) {
            let word = clause.name().trim_start_matches("window ");
            let text = format!("argument of {word} must not contain variables");
            return Err(PgError::new(SqlState::INVALID_COLUMN_REFERENCE, text).at(position));
        }
        if window.unit != FrameUnit::Range {
            let context = CoercionContext::Assignment;
            return self.coerce_to(bound, PgType::new(INT8), context, position);
        }
        let [(key, _, _)] = window.order_by.as_slice() else {
            let text = "RANGE with offset PRECEDING/FOLLOWING requires exactly one ORDER BY column";
            return Err(PgError::new(SqlState::WINDOWING_ERROR, text).at(position));
        };
        let (func, offset) = in_range(key.ty.oid, bound.ty.oid).ok_or_else(|| {
            let name = self.display_type(key.ty.oid);
            let text = format!(
                "RANGE with offset PRECEDING/FOLLOWING is not supported for column type {name}"
            );
            PgError::unsupported(text).at(position)
        })?;
        window.in_range = Some(func);
        self.coerce_to(bound, PgType::new(offset), CoercionContext::Implicit, position)
    }

    /// The `Window` nodes.
    pub(crate) fn assemble_windows(&mut self, mut rel: Rel, windows: Vec<BoundWindow>) -> Rel {
        for window in windows {
            let made = crate::walk::output_set(&rel);
            let mut computed: Vec<(Column, Expr)> = Vec::new();
            let mut column = |e: &Expr| match e.kind {
                ExprKind::Column(id) if made.contains(&id) => id,
                _ => match computed.iter().find(|(_, c)| same(c, e)) {
                    Some((c, _)) => c.id,
                    None => {
                        let c = self.new_column("window", e.ty);
                        computed.push((c.clone(), e.clone()));
                        c.id
                    }
                },
            };
            let partition_by = window.partition_by.iter().map(&mut column).collect();
            let mut order_by = Vec::new();
            for (e, desc, nulls_first) in &window.order_by {
                let key = SortKey { column: column(e), desc: *desc, nulls_first: *nulls_first };
                push_key(&mut order_by, key);
            }
            let spec = WindowSpec {
                partition_by,
                order_by,
                unit: window.unit,
                start: window.start,
                end: window.end,
                exclude: window.exclude,
                in_range: window.in_range,
            };
            let input = Box::new(extended(rel, computed));
            rel = Rel::Window { input, spec, calls: window.calls };
        }
        rel
    }
}

/// Frames that end before they begin.
fn check_frame(start: &ast::WindowFrameBound, end: &ast::WindowFrameBound) -> Result<()> {
    use ast::WindowFrameBound as B;
    let text = match (start, end) {
        (B::Following(None), _) => "frame start cannot be UNBOUNDED FOLLOWING",
        (_, B::Preceding(None)) => "frame end cannot be UNBOUNDED PRECEDING",
        (B::CurrentRow, B::Preceding(_)) => {
            "frame starting from current row cannot have preceding rows"
        }
        (B::Following(_), B::Preceding(_)) => {
            "frame starting from following row cannot have preceding rows"
        }
        (B::Following(_), B::CurrentRow) => {
            "frame starting from following row cannot have preceding rows"
        }
        _ => return Ok(()),
    };
    Err(PgError::new(SqlState::WINDOWING_ERROR, text))
}

/// The `in_range` function for a sort type and the type that the offset is coerced to.
fn in_range(key: u32, offset: u32) -> Option<(FuncRef, u32)> {
    let wide = |o: u32| matches!(o, oid::INT2 | oid::INT4 | oid::INT8 | oid::UNKNOWN);
    let (oid, prosrc, offset) = match (key, offset) {
        (oid::INT8, o) if wide(o) => (4126, "in_range_int8_int8", oid::INT8),
        (oid::INT4, oid::INT8) => (4127, "in_range_int4_int8", oid::INT8),
        (oid::INT4, oid::INT2) => (4129, "in_range_int4_int2", oid::INT2),
        (oid::INT4, o) if wide(o) => (4128, "in_range_int4_int4", oid::INT4),
        (oid::INT2, oid::INT8) => (4130, "in_range_int2_int8", oid::INT8),
        (oid::INT2, oid::INT4) => (4131, "in_range_int2_int4", oid::INT4),
        (oid::INT2, o) if wide(o) => (4132, "in_range_int2_int2", oid::INT2),
        (oid::FLOAT8, _) => (4139, "in_range_float8_float8", oid::FLOAT8),
        (oid::FLOAT4, _) => (4140, "in_range_float4_float8", oid::FLOAT8),
        (oid::NUMERIC, _) => (4141, "in_range_numeric_numeric", oid::NUMERIC),
        (oid::DATE, _) => (4133, "in_range_date_interval", oid::INTERVAL),
        (oid::TIMESTAMP, _) => (4134, "in_range_timestamp_interval", oid::INTERVAL),
        (oid::TIMESTAMPTZ, _) => (4135, "in_range_timestamptz_interval", oid::INTERVAL),
        (oid::INTERVAL, _) => (4136, "in_range_interval_interval", oid::INTERVAL),
        (oid::TIME, _) => (4137, "in_range_time_interval", oid::INTERVAL),
        (oid::TIMETZ, _) => (4138, "in_range_timetz_interval", oid::INTERVAL),
        _ => return None,
    };
    let func = FuncRef {
        oid,
        name: "in_range".into(),
        prosrc: prosrc.into(),
        strict: true,
        volatility: if key == oid::TIMESTAMPTZ { b's' } else { b'i' },
        operator: None,
    };
    Some((func, offset))
}
