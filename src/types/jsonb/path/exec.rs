//! Runs a path over a value.

use super::compare::{compare, regex};
use super::show::{name, operator_text};
use super::{Binary, Expr, Method, Path, Step};
use crate::jsonb::Value;
use crate::numeric::Numeric;
use crate::{PgError, SqlState};

const ARRAY_NOT_FOUND: SqlState = SqlState::from_code("22039");
const MEMBER_NOT_FOUND: SqlState = SqlState::from_code("2203A");
const NUMBER_NOT_FOUND: SqlState = SqlState::from_code("2203B");
const OBJECT_NOT_FOUND: SqlState = SqlState::from_code("2203C");
const INVALID_SUBSCRIPT: SqlState = SqlState::from_code("22033");
const NON_NUMERIC: SqlState = SqlState::from_code("22036");
const SINGLETON_REQUIRED: SqlState = SqlState::from_code("22038");

/// Why a run ended early.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    /// An error that `silent` and predicates hold back.
    Soft(PgError),
    /// An error that nothing holds back.
    Hard(PgError),
}

type Run<T> = Result<T, Stop>;

fn soft<T>(state: SqlState, text: impl Into<String>) -> Run<T> {
    Err(Stop::Soft(PgError::new(state, text)))
}

struct Machine<'a> {
    lax: bool,
    root: &'a Value,
    variables: &'a Value,
}

/// What `@` and `last` mean at some place.
#[derive(Clone, Copy)]
struct Scope<'a> {
    current: &'a Value,
    /// Length of the array whose subscript is computed.
    length: Option<usize>,
}

/// Appends the values of a path; those found before an error stay.
pub fn run(path: &Path, root: &Value, variables: &Value, found: &mut Vec<Value>) -> Run<()> {
    let machine = Machine { lax: path.lax, root, variables };
    machine.expr(&path.expr, Scope { current: root, length: None }, found)
}

impl Machine<'_> {
    fn expr(&self, e: &Expr, scope: Scope<'_>, found: &mut Vec<Value>) -> Run<()> {
        if e.is_predicate() {
            let value = self.predicate(e, scope)?;
            found.push(value.map_or(Value::Null, Value::Bool));
            return Ok(());
        }
        found.push(match e {
            Expr::Root => self.root.clone(),
            Expr::Current => scope.current.clone(),
            Expr::Last => match scope.length {
                Some(n) => Value::Number(Numeric::from(n as i64 - 1)),
                None => {
                    let text = "evaluating jsonpath LAST outside of array subscript";
                    return Err(Stop::Hard(PgError::internal(text)));
                }
            },
            Expr::Variable(name) => self.variable(name)?,
            Expr::Null => Value::Null,
            Expr::Bool(b) => Value::Bool(*b),
            Expr::Number(n) => Value::Number(n.clone()),
            Expr::String(s) => Value::String(s.clone()),
            Expr::Steps(start, steps) => {
                let mut items = Vec::new();
                self.expr(start, scope, &mut items)?;
                return items.iter().try_for_each(|i| self.steps(i, steps, scope, found));
            }
            Expr::Binary(op, left, right) => self.arithmetic(*op, left, right, scope)?,
            Expr::Unary(minus, inner) => return self.sign(*minus, inner, scope, found),
            _ => Value::Null,
        });
        Ok(())
    }

    fn variable(&self, name: &str) -> Run<Value> {
        let Value::Object(pairs) = self.variables else { return Ok(Value::Null) };
        match Value::find(pairs, name) {
            Ok(at) => Ok(pairs[at].1.clone()),
            Err(_) => Err(Stop::Hard(PgError::new(
                SqlState::UNDEFINED_OBJECT,
                format!("could not find jsonpath variable \"{name}\""),
            ))),
        }
    }

    /// The items of an expression, arrays among them unwrapped in lax mode.
    fn unwrapped(&self, e: &Expr, scope: Scope<'_>) -> Run<Vec<Value>> {
        let mut items = Vec::new();
        self.expr(e, scope, &mut items)?;
        if !self.lax {
            return Ok(items);
        }
        Ok(items
            .into_iter()
            .flat_map(|i| match i {
                Value::Array(inner) => inner,
                other => vec![other],
            })
            .collect())
    }

    fn arithmetic(&self, op: Binary, left: &Expr, right: &Expr, scope: Scope<'_>) -> Run<Value> {
        let operand = |e: &Expr, side: &str| match self.unwrapped(e, scope)?.as_slice() {
            [Value::Number(n)] => Ok(n.clone()),
            _ => soft(
                SINGLETON_REQUIRED,
                format!(
                    "{side} operand of jsonpath operator {} is not a single numeric value",
                    operator_text(op)
                ),
            ),
        };
        let (a, b) = (operand(left, "left")?, operand(right, "right")?);
        let result = match op {
            Binary::Add => a.add(&b),
            Binary::Sub => a.sub(&b),
            Binary::Mul => a.mul(&b),
            Binary::Div => a.div(&b),
            _ => a.rem(&b),
        };
        result.map(Value::Number).map_err(Stop::Soft)
    }

    fn sign(&self, minus: bool, e: &Expr, scope: Scope<'_>, found: &mut Vec<Value>) -> Run<()> {
        for item in self.unwrapped(e, scope)? {
            let Value::Number(n) = item else {
                let symbol = if minus { '-' } else { '+' };
                return soft(
                    NUMBER_NOT_FOUND,
                    format!("operand of unary jsonpath operator {symbol} is not a numeric value"),
                );
            };
            found.push(Value::Number(if minus { n.neg() } else { n }));
        }
        Ok(())
    }

    fn steps(
        &self,
        item: &Value,
        steps: &[Step],
        scope: Scope<'_>,
        found: &mut Vec<Value>,
    ) -> Run<()> {
        let Some((step, rest)) = steps.split_first() else {
            found.push(item.clone());
            return Ok(());
        };
        let unwraps = match step {
            Step::Key(_) | Step::AnyKey | Step::Filter(_) => true,
            Step::Method(m) => !matches!(m, Method::Type | Method::Size),
            _ => false,
        };
        if let (true, true, Value::Array(items)) = (self.lax, unwraps, item) {
            return items.iter().try_for_each(|i| self.step(i, step, rest, scope, found));
        }
        self.step(item, step, rest, scope, found)
    }

    fn step(
        &self,
        item: &Value,
        step: &Step,
        rest: &[Step],
        scope: Scope<'_>,
        found: &mut Vec<Value>,
    ) -> Run<()> {
        match step {
            Step::Key(key) => match item {
                Value::Object(pairs) => match Value::find(pairs, key) {
                    Ok(at) => self.steps(&pairs[at].1, rest, scope, found),
                    Err(_) if self.lax => Ok(()),
                    Err(_) => soft(
                        MEMBER_NOT_FOUND,
                        format!("JSON object does not contain key \"{key}\""),
                    ),
                },
                _ if self.lax => Ok(()),
                _ => soft(
                    MEMBER_NOT_FOUND,
                    "jsonpath member accessor can only be applied to an object",
                ),
            },
            Step::AnyKey => match item {
                Value::Object(pairs) => {
                    pairs.iter().try_for_each(|(_, v)| self.steps(v, rest, scope, found))
                }
                _ if self.lax => Ok(()),
                _ => soft(
                    OBJECT_NOT_FOUND,
                    "jsonpath wildcard member accessor can only be applied to an object",
                ),
            },
            Step::AnyElement => match item {
                Value::Array(items) => {
                    items.iter().try_for_each(|i| self.steps(i, rest, scope, found))
                }
                _ if self.lax => self.steps(item, rest, scope, found),
                _ => soft(
                    ARRAY_NOT_FOUND,
                    "jsonpath wildcard array accessor can only be applied to an array",
                ),
            },
            Step::Elements(list) => self.elements(item, list, rest, scope, found),
            Step::Deep(from, to) => self.deep(item, (*from, *to), 0, rest, scope, found),
            Step::Filter(predicate) => {
                let inner = Scope { current: item, ..scope };
                match self.predicate(predicate, inner)? {
                    Some(true) => self.steps(item, rest, scope, found),
                    _ => Ok(()),
                }
            }
            Step::Method(m) => {
                for value in self.method(*m, item)? {
                    self.steps(&value, rest, scope, found)?;
                }
                Ok(())
            }
        }
    }

    fn elements(
        &self,
        item: &Value,
        list: &[(Expr, Option<Expr>)],
        rest: &[Step],
        scope: Scope<'_>,
        found: &mut Vec<Value>,
    ) -> Run<()> {
        let single = std::slice::from_ref(item);
        let items = match item {
            Value::Array(items) => items.as_slice(),
            _ if self.lax => single,
            _ => {
                return soft(
                    ARRAY_NOT_FOUND,
                    "jsonpath array accessor can only be applied to an array",
                );
            }
        };
        let inner = Scope { length: Some(items.len()), ..scope };
        for (from, to) in list {
            let from = self.subscript(from, inner)?;
            let to = to.as_ref().map_or(Ok(from), |to| self.subscript(to, inner))?;
            let length = items.len() as i64;
            if !self.lax && (from < 0 || from > to || to >= length) {
                return soft(INVALID_SUBSCRIPT, "jsonpath array subscript is out of bounds");
            }
            for at in from.max(0)..=to.min(length - 1) {
                self.steps(&items[at as usize], rest, scope, found)?;
            }
        }
        Ok(())
    }

    fn subscript(&self, e: &Expr, scope: Scope<'_>) -> Run<i64> {
        let mut items = Vec::new();
        self.expr(e, scope, &mut items)?;
        let [Value::Number(n)] = items.as_slice() else {
            return soft(
                INVALID_SUBSCRIPT,
                "jsonpath array subscript is not a single numeric value",
            );
        };
        let whole = n.trunc(0).map_err(Stop::Soft)?.to_i64();
        match whole.filter(|v| i32::try_from(*v).is_ok()) {
            Some(v) => Ok(v),
            None => soft(INVALID_SUBSCRIPT, "jsonpath array subscript is out of integer range"),
        }
    }

    fn deep(
        &self,
        item: &Value,
        levels: (Option<u32>, Option<u32>),
        level: u32,
        rest: &[Step],
        scope: Scope<'_>,
        found: &mut Vec<Value>,
    ) -> Run<()> {
        let (from, to) = levels;
        let leaf = !item.is_container();
        let reached = from.map_or(leaf && level > 0, |from| level >= from);
        let inside = to.is_none_or(|to| level <= to);
        if reached && inside {
            self.steps(item, rest, scope, found)?;
        }
        if to.is_some_and(|to| level >= to) {
            return Ok(());
        }
        let mut down = |v: &Value| self.deep(v, levels, level + 1, rest, scope, found);
        match item {
            Value::Array(items) => items.iter().try_for_each(&mut down),
            Value::Object(pairs) => pairs.iter().try_for_each(|(_, v)| down(v)),
            _ => Ok(()),
        }
    }

    fn method(&self, m: Method, item: &Value) -> Run<Vec<Value>> {
        let only = |what: &str, state| {
            soft(
                state,
                format!("jsonpath item method .{}() can only be applied to {what}", name(m)),
            )
        };
        let number = match (m, item) {
            (Method::Type, _) => return Ok(vec![Value::string(type_name(item))]),
            (Method::Size, Value::Array(items)) => {
                return Ok(vec![Value::Number(Numeric::from(items.len() as i64))]);
            }
            (Method::Size, _) if self.lax => return Ok(vec![Value::Number(Numeric::from(1_i64))]),
            (Method::Size, _) => return only("an array", ARRAY_NOT_FOUND),
            (Method::Double, Value::Number(n)) => return Ok(vec![Value::Number(n.clone())]),
            (Method::Double, Value::String(s)) => return double(s),
            (Method::Double, _) => return only("a string or numeric value", NON_NUMERIC),
            (Method::KeyValue, _) | (Method::Datetime, _) => {
                return Err(Stop::Hard(PgError::unsupported(format!(
                    "jsonpath item method .{}() is not supported yet",
                    name(m)
                ))));
            }
            (_, Value::Number(n)) => n,
            _ => return only("a numeric value", NON_NUMERIC),
        };
        let result = match m {
            Method::Ceiling => number.ceil(),
            Method::Floor => number.floor(),
            _ => Ok(number.abs()),
        };
        Ok(vec![Value::Number(result.map_err(Stop::Soft)?)])
    }

    /// True, false or unknown.
    fn predicate(&self, e: &Expr, scope: Scope<'_>) -> Run<Option<bool>> {
        match e {
            Expr::Binary(Binary::And, a, b) => Ok(match self.predicate(a, scope)? {
                Some(false) => Some(false),
                Some(true) => self.predicate(b, scope)?,
                None => self.predicate(b, scope)?.filter(|b| !b),
            }),
            Expr::Binary(Binary::Or, a, b) => Ok(match self.predicate(a, scope)? {
                Some(true) => Some(true),
                Some(false) => self.predicate(b, scope)?,
                None => self.predicate(b, scope)?.filter(|b| *b),
            }),
            Expr::Not(inner) => Ok(self.predicate(inner, scope)?.map(|b| !b)),
            Expr::IsUnknown(inner) => Ok(Some(self.predicate(inner, scope)?.is_none())),
            Expr::Exists(inner) => {
                let mut items = Vec::new();
                match self.expr(inner, scope, &mut items) {
                    Err(Stop::Soft(_)) if self.lax && !items.is_empty() => Ok(Some(true)),
                    Err(Stop::Soft(_)) => Ok(None),
                    Err(hard) => Err(hard),
                    Ok(()) => Ok(Some(!items.is_empty())),
                }
            }
            Expr::LikeRegex(inner, pattern, flags) => {
                let matcher = regex(pattern, flags).map_err(Stop::Hard)?;
                self.any(inner, scope, |item| match item {
                    Value::String(s) => matcher.is_match(s).ok(),
                    _ => None,
                })
            }
            Expr::Binary(op, left, right) => {
                let others = match self.unwrap_or_not(*op, right, scope) {
                    Ok(items) => items,
                    Err(Stop::Soft(_)) => return Ok(None),
                    Err(hard) => return Err(hard),
                };
                self.pairs(*op, left, &others, scope)
            }
            other => {
                let mut items = Vec::new();
                match self.expr(other, scope, &mut items) {
                    Err(Stop::Hard(e)) => return Err(Stop::Hard(e)),
                    Err(Stop::Soft(_)) => return Ok(None),
                    Ok(()) => {}
                }
                Ok(match items.as_slice() {
                    [Value::Bool(b)] => Some(*b),
                    _ => None,
                })
            }
        }
    }

    /// The right side of `starts with` stays as it is.
    fn unwrap_or_not(&self, op: Binary, e: &Expr, scope: Scope<'_>) -> Run<Vec<Value>> {
        if op != Binary::StartsWith {
            return self.unwrapped(e, scope);
        }
        let mut items = Vec::new();
        self.expr(e, scope, &mut items)?;
        Ok(items)
    }

    fn pairs(
        &self,
        op: Binary,
        left: &Expr,
        others: &[Value],
        scope: Scope<'_>,
    ) -> Run<Option<bool>> {
        let items = match self.unwrapped(left, scope) {
            Ok(items) => items,
            Err(Stop::Soft(_)) => return Ok(None),
            Err(hard) => return Err(hard),
        };
        let pairs = items.iter().flat_map(|a| others.iter().map(move |b| compare(op, a, b)));
        Ok(self.fold(pairs))
    }

    fn any(
        &self,
        e: &Expr,
        scope: Scope<'_>,
        test: impl Fn(&Value) -> Option<bool>,
    ) -> Run<Option<bool>> {
        match self.unwrapped(e, scope) {
            Ok(items) => Ok(self.fold(items.iter().map(test))),
            Err(Stop::Soft(_)) => Ok(None),
            Err(hard) => Err(hard),
        }
    }

    /// One true pair is enough in lax mode; in strict mode one unknown pair spoils all.
    fn fold(&self, results: impl Iterator<Item = Option<bool>>) -> Option<bool> {
        let (mut seen, mut unknown) = (false, false);
        for result in results {
            match result {
                None if !self.lax => return None,
                None => unknown = true,
                Some(true) if self.lax => return Some(true),
                Some(true) => seen = true,
                Some(false) => {}
            }
        }
        match (seen, unknown) {
            (true, _) => Some(true),
            (_, true) => None,
            _ => Some(false),
        }
    }
}

fn type_name(item: &Value) -> &'static str {
    match item {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn double(text: &str) -> Run<Vec<Value>> {
    let value = text.trim().parse::<f64>().ok().filter(|v| v.is_finite());
    match value.map(Numeric::from_f64) {
        Some(Ok(n)) => Ok(vec![Value::Number(n)]),
        _ => soft(
            NON_NUMERIC,
            "string argument of jsonpath item method .double() is not a valid representation of a double precision number",
        ),
    }
}
