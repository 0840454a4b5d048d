//! Aggregates that keep their input: `array_agg`, and the ordered-set aggregates `mode`,
//! `percentile_cont` and `percentile_disc`.
//!
//! An ordered-set aggregate gets its direct arguments before the aggregated one in every row, and
//! the rows in the order of its `WITHIN GROUP` clause.

use std::sync::Arc;

use crate::datetime::arith;
use crate::order;
use crate::registry::{AggregateKernel, AggregateState};
use crate::{ArrayValue, CallInfo, Datum, PgError, Result, SqlState};

/// `array_agg` of anything but arrays: NULLs count.
#[derive(Debug, Default)]
struct Elements(Vec<Datum>);

impl AggregateState for Elements {
    fn update(&mut self, _: &CallInfo<'_>, args: &[Datum]) -> Result<()> {
        self.0.extend(args.first().cloned());
        Ok(())
    }

    fn finish(&self, call: &CallInfo<'_>) -> Result<Datum> {
        if self.0.is_empty() {
            return Ok(Datum::Null);
        }
        let element = call.args.first().map_or(0, |t| t.oid);
        Ok(Datum::Array(Arc::new(ArrayValue::from_elements(element, self.0.clone()))))
    }

    fn size(&self) -> usize {
        64 + self.0.capacity() * (size_of::<Datum>() + 16)
    }
}

/// `array_agg` of arrays: one more dimension in front.
#[derive(Debug, Default)]
struct Arrays {
    count: i32,
    shape: Option<Arc<ArrayValue>>,
    elements: Vec<Datum>,
}

impl AggregateState for Arrays {
    fn update(&mut self, _: &CallInfo<'_>, args: &[Datum]) -> Result<()> {
        let Some(Datum::Array(a)) = args.first() else {
            return Err(PgError::new(
                SqlState::NULL_VALUE_NOT_ALLOWED,
                "cannot accumulate null arrays",
            ));
        };
        let fail = |m: &str| Err(PgError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, m));
        if a.dims.is_empty() {
            return fail("cannot accumulate empty arrays");
        }
        match &self.shape {
            None => self.shape = Some(Arc::clone(a)),
            Some(first) if first.dims != a.dims || first.lower_bounds != a.lower_bounds => {
                return fail("cannot accumulate arrays of different dimensionality");
            }
            Some(_) => {}
        }
        self.count += 1;
        self.elements.extend(a.elements.iter().cloned());
        Ok(())
    }

    fn finish(&self, _: &CallInfo<'_>) -> Result<Datum> {
        let Some(first) = &self.shape else { return Ok(Datum::Null) };
        let mut dims = vec![self.count];
        dims.extend(&first.dims);
        let mut lower_bounds = vec![1];
        lower_bounds.extend(&first.lower_bounds);
        Ok(Datum::Array(Arc::new(ArrayValue {
            element_type: first.element_type,
            dims,
            lower_bounds,
            elements: self.elements.clone(),
        })))
    }

    fn size(&self) -> usize {
        64 + self.elements.capacity() * (size_of::<Datum>() + 16)
    }
}

/// `mode`: the most frequent value of sorted input, the first of several.
#[derive(Debug, Default)]
struct Mode {
    best: Option<(Datum, u64)>,
    run: Option<(Datum, u64)>,
}

impl AggregateState for Mode {
    fn update(&mut self, call: &CallInfo<'_>, args: &[Datum]) -> Result<()> {
        let Some(value) = args.last().filter(|v| !v.is_null()) else { return Ok(()) };
        let type_oid = call.args.last().map_or(0, |t| t.oid);
        match &mut self.run {
            Some((v, n)) if order::compare(type_oid, v, value).is_eq() => *n += 1,
            run => *run = Some((value.clone(), 1)),
        }
        if let Some((v, n)) = &self.run
            && self.best.as_ref().is_none_or(|(_, best)| n > best)
        {
            self.best = Some((v.clone(), *n));
        }
        Ok(())
    }

    fn finish(&self, _: &CallInfo<'_>) -> Result<Datum> {
        Ok(self.best.as_ref().map_or(Datum::Null, |(v, _)| v.clone()))
    }
}

/// The percentiles: all values, and the fraction of the first row.
#[derive(Debug, Default)]
struct Percentile {
    fraction: Datum0,
    values: Vec<Datum>,
    continuous: bool,
}

/// A datum that starts as NULL.
#[derive(Debug)]
struct Datum0(Datum);

impl Default for Datum0 {
    fn default() -> Datum0 {
        Datum0(Datum::Null)
    }
}

impl AggregateState for Percentile {
    fn update(&mut self, _: &CallInfo<'_>, args: &[Datum]) -> Result<()> {
        let [fraction, value] = args else { return Err(super::call::mismatch(args)) };
        self.fraction.0 = fraction.clone();
        if !value.is_null() {
            self.values.push(value.clone());
        }
        Ok(())
    }

    fn finish(&self, call: &CallInfo<'_>) -> Result<Datum> {
        match &self.fraction.0 {
            Datum::Array(fractions) => {
                if self.values.is_empty() {
                    return Ok(Datum::Null);
                }
                let elements =
                    fractions.elements.iter().map(|f| self.at(f)).collect::<Result<Vec<_>>>()?;
                let element_type = crate::builtin::array_element(call.ret.oid)
                    .unwrap_or(call.args.last().map_or(0, |t| t.oid));
                Ok(Datum::Array(Arc::new(ArrayValue {
                    element_type,
                    elements,
                    ..(**fractions).clone()
                })))
            }
            fraction => self.at(fraction),
        }
    }

    fn size(&self) -> usize {
        64 + self.values.capacity() * (size_of::<Datum>() + 16)
    }
}

impl Percentile {
    fn at(&self, fraction: &Datum) -> Result<Datum> {
        let Datum::Float8(p) = fraction else { return Ok(Datum::Null) };
        if !(0.0..=1.0).contains(p) {
            let mut shown = Vec::new();
            crate::io::number::float8_out(&mut shown, *p, -9);
            return Err(PgError::new(
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                format!(
                    "percentile value {} is not between 0 and 1",
                    String::from_utf8_lossy(&shown)
                ),
            ));
        }
        if self.values.is_empty() {
            return Ok(Datum::Null);
        }
        #[expect(clippy::cast_precision_loss, reason = "a rank")]
        let n = self.values.len() as f64;
        if !self.continuous {
            let rank = (p * n).ceil().max(1.0) as usize;
            return Ok(self.values[rank.min(self.values.len()) - 1].clone());
        }
        let position = p * (n - 1.0);
        let (low, high) = (position.floor() as usize, position.ceil() as usize);
        interpolate(&self.values[low], &self.values[high], position - position.floor())
    }
}

fn interpolate(low: &Datum, high: &Datum, share: f64) -> Result<Datum> {
    Ok(match (low, high) {
        (Datum::Float8(a), Datum::Float8(b)) if share != 0.0 => Datum::Float8(a + share * (b - a)),
        (Datum::Interval(a), Datum::Interval(b)) if share != 0.0 => {
            let part = arith::interval_mul(arith::interval_sub(*b, *a)?, share)?;
            Datum::Interval(arith::interval_add(*a, part)?)
        }
        (low, _) => low.clone(),
    })
}

fn percentile(continuous: bool) -> Box<dyn AggregateState> {
    Box::new(Percentile { continuous, ..Percentile::default() })
}

pub(crate) const KERNELS: &[(&str, AggregateKernel)] = &[
    ("array_agg(anynonarray)", |_| Box::new(Elements::default())),
    ("array_agg(anyarray)", |_| Box::new(Arrays::default())),
    ("mode(anyelement)", |_| Box::new(Mode::default())),
    ("percentile_cont(float8,float8)", |_| percentile(true)),
    ("percentile_cont(float8,interval)", |_| percentile(true)),
    ("percentile_cont(_float8,float8)", |_| percentile(true)),
    ("percentile_cont(_float8,interval)", |_| percentile(true)),
    ("percentile_disc(float8,anyelement)", |_| percentile(false)),
    ("percentile_disc(_float8,anyelement)", |_| percentile(false)),
];
