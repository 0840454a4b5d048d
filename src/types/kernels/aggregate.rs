//! Counting, summing, extremes, bits and collections.
//!
//! Sums of integers are kept in 128 bits and sums of `numeric` exactly, so the answer does not
//! depend on the order of rows; sums of floats do, as in PostgreSQL.

use std::cmp::Ordering;

use super::call::out_of_range;
use crate::numeric::Numeric;
use crate::order;
use crate::registry::{AggregateKernel, AggregateState};
use crate::{CallInfo, Datum, Result};

/// `count(*)` and `count(x)`.
#[derive(Debug, Default)]
struct Count(i64);

impl AggregateState for Count {
    fn update(&mut self, _: &CallInfo<'_>, args: &[Datum]) -> Result<()> {
        self.0 += i64::from(!args.first().is_some_and(Datum::is_null));
        Ok(())
    }

    fn finish(&self, _: &CallInfo<'_>) -> Result<Datum> {
        Ok(Datum::Int8(self.0))
    }
}

/// What a sum of integers becomes.
#[derive(Clone, Copy, Debug)]
enum Answer {
    SumBigint,
    SumNumeric,
    Average,
}

/// Sums and averages of integers and money.
#[derive(Debug)]
struct Integers {
    sum: i128,
    count: i64,
    answer: Answer,
}

impl AggregateState for Integers {
    fn update(&mut self, _: &CallInfo<'_>, args: &[Datum]) -> Result<()> {
        if let Some(v) = args.first().and_then(Datum::as_i64) {
            self.sum += i128::from(v);
            self.count += 1;
        }
        Ok(())
    }

    fn finish(&self, _: &CallInfo<'_>) -> Result<Datum> {
        if self.count == 0 {
            return Ok(Datum::Null);
        }
        Ok(match self.answer {
            Answer::SumBigint => Datum::Int8(
                i64::try_from(self.sum).map_err(|_| out_of_range("bigint out of range"))?,
            ),
            Answer::SumNumeric => Datum::Numeric(Numeric::from(self.sum)),
            Answer::Average => {
                let count = Numeric::from(self.count);
                Datum::Numeric(Numeric::from(self.sum).div(&count)?)
            }
        })
    }
}

/// Sums and averages of `numeric`.
#[derive(Debug)]
struct Numerics {
    sum: Numeric,
    count: i64,
    average: bool,
}

impl AggregateState for Numerics {
    fn update(&mut self, _: &CallInfo<'_>, args: &[Datum]) -> Result<()> {
        if let Some(Datum::Numeric(v)) = args.first() {
            self.sum = if self.count == 0 { v.clone() } else { self.sum.add(v)? };
            self.count += 1;
        }
        Ok(())
    }

    fn finish(&self, _: &CallInfo<'_>) -> Result<Datum> {
        if self.count == 0 {
            return Ok(Datum::Null);
        }
        if self.average {
            return Ok(Datum::Numeric(self.sum.div(&Numeric::from(self.count))?));
        }
        Ok(Datum::Numeric(self.sum.clone()))
    }

    fn size(&self) -> usize {
        64 + self.sum.heap_size()
    }
}

/// `sum(float4)`, which adds in single precision, and `sum(float8)`.
#[derive(Debug, Default)]
struct Floats(Option<Datum>);

impl AggregateState for Floats {
    fn update(&mut self, _: &CallInfo<'_>, args: &[Datum]) -> Result<()> {
        let infinite = |v: f64| v.is_infinite();
        let next = match (&self.0, args.first()) {
            (_, None | Some(Datum::Null)) => return Ok(()),
            (None, Some(first)) => first.clone(),
            (Some(Datum::Float4(a)), Some(Datum::Float4(b))) => {
                let sum = a + b;
                if sum.is_infinite() && !a.is_infinite() && !b.is_infinite() {
                    return Err(out_of_range("value out of range: overflow"));
                }
                Datum::Float4(sum)
            }
            (Some(Datum::Float8(a)), Some(Datum::Float8(b))) => {
                let sum = a + b;
                if infinite(sum) && !infinite(*a) && !infinite(*b) {
                    return Err(out_of_range("value out of range: overflow"));
                }
                Datum::Float8(sum)
            }
            (_, Some(other)) => return Err(super::call::mismatch(std::slice::from_ref(other))),
        };
        self.0 = Some(next);
        Ok(())
    }

    fn finish(&self, _: &CallInfo<'_>) -> Result<Datum> {
        Ok(self.0.clone().unwrap_or(Datum::Null))
    }
}

/// `min` and `max`.
#[derive(Debug)]
struct Extreme {
    best: Datum,
    want: Ordering,
}

impl AggregateState for Extreme {
    fn update(&mut self, call: &CallInfo<'_>, args: &[Datum]) -> Result<()> {
        let Some(value) = args.first().filter(|v| !v.is_null()) else { return Ok(()) };
        let type_oid = call.args.first().map_or(0, |t| t.oid);
        if self.best.is_null() || order::compare(type_oid, value, &self.best) == self.want {
            self.best = value.clone();
        }
        Ok(())
    }

    fn finish(&self, _: &CallInfo<'_>) -> Result<Datum> {
        Ok(self.best.clone())
    }
}

/// `bool_and`, `bool_or`, `every`.
#[derive(Debug)]
struct Truth {
    state: Option<bool>,
    all: bool,
}

impl AggregateState for Truth {
    fn update(&mut self, _: &CallInfo<'_>, args: &[Datum]) -> Result<()> {
        if let Some(v) = args.first().and_then(Datum::as_bool) {
            self.state = Some(match self.state {
                None => v,
                Some(s) if self.all => s && v,
                Some(s) => s || v,
            });
        }
        Ok(())
    }

    fn finish(&self, _: &CallInfo<'_>) -> Result<Datum> {
        Ok(self.state.map_or(Datum::Null, Datum::Bool))
    }
}

/// `bit_and`, `bit_or`, `bit_xor` of integers.
#[derive(Debug)]
struct Bits {
    state: Datum,
    join: fn(i64, i64) -> i64,
}

impl AggregateState for Bits {
    fn update(&mut self, _: &CallInfo<'_>, args: &[Datum]) -> Result<()> {
        let Some(value) = args.first().filter(|v| !v.is_null()) else { return Ok(()) };
        let (Some(a), Some(b)) = (self.state.as_i64(), value.as_i64()) else {
            self.state = value.clone();
            return Ok(());
        };
        let joined = (self.join)(a, b);
        // Bit operations on sign-extended values stay within the narrower type.
        self.state = match value {
            Datum::Int2(_) => Datum::Int2(joined as i16),
            Datum::Int4(_) => Datum::Int4(joined as i32),
            _ => Datum::Int8(joined),
        };
        Ok(())
    }

    fn finish(&self, _: &CallInfo<'_>) -> Result<Datum> {
        Ok(self.state.clone())
    }
}

/// `string_agg` of text or bytea: the delimiter of a row goes before its value.
#[derive(Debug, Default)]
struct Joined(Option<Vec<u8>>);

fn raw(datum: Option<&Datum>) -> Option<&[u8]> {
    match datum {
        Some(Datum::Text(s)) => Some(s.as_bytes()),
        Some(Datum::Bytea(b)) => Some(b),
        _ => None,
    }
}

impl AggregateState for Joined {
    fn update(&mut self, _: &CallInfo<'_>, args: &[Datum]) -> Result<()> {
        let Some(value) = raw(args.first()) else { return Ok(()) };
        match &mut self.0 {
            None => self.0 = Some(value.to_vec()),
            Some(buffer) => {
                buffer.extend_from_slice(raw(args.get(1)).unwrap_or_default());
                buffer.extend_from_slice(value);
            }
        }
        Ok(())
    }

    fn finish(&self, call: &CallInfo<'_>) -> Result<Datum> {
        let Some(buffer) = &self.0 else { return Ok(Datum::Null) };
        if call.ret.oid == crate::oid::BYTEA {
            return Ok(Datum::Bytea(bytes::Bytes::copy_from_slice(buffer)));
        }
        Ok(Datum::text(String::from_utf8_lossy(buffer)))
    }

    fn size(&self) -> usize {
        64 + self.0.as_ref().map_or(0, Vec::capacity)
    }
}

macro_rules! extremes {
    ($($ty:literal),* $(,)?) => {
        &[$(
            (concat!("min(", $ty, ")"), |_| {
                Box::new(Extreme { best: Datum::Null, want: Ordering::Less })
            }),
            (concat!("max(", $ty, ")"), |_| {
                Box::new(Extreme { best: Datum::Null, want: Ordering::Greater })
            }),
        )*]
    };
}

pub(crate) const EXTREMES: &[(&str, AggregateKernel)] = extremes![
    "int2",
    "int4",
    "int8",
    "oid",
    "float4",
    "float8",
    "numeric",
    "money",
    "text",
    "bpchar",
    "date",
    "time",
    "timetz",
    "timestamp",
    "timestamptz",
    "interval",
    "anyarray",
    "pg_lsn",
    "xid8",
    "anyenum",
];

fn integers(answer: Answer) -> Box<dyn AggregateState> {
    Box::new(Integers { sum: 0, count: 0, answer })
}

fn numerics(average: bool) -> Box<dyn AggregateState> {
    Box::new(Numerics { sum: Numeric::ZERO, count: 0, average })
}

fn bits(join: fn(i64, i64) -> i64) -> Box<dyn AggregateState> {
    Box::new(Bits { state: Datum::Null, join })
}

pub(crate) const BASIC: &[(&str, AggregateKernel)] = &[
    ("count()", |_| Box::new(Count::default())),
    ("count(any)", |_| Box::new(Count::default())),
    ("sum(int2)", |_| integers(Answer::SumBigint)),
    ("sum(int4)", |_| integers(Answer::SumBigint)),
    ("sum(int8)", |_| integers(Answer::SumNumeric)),
    ("sum(money)", |_| integers(Answer::SumBigint)),
    ("avg(int2)", |_| integers(Answer::Average)),
    ("avg(int4)", |_| integers(Answer::Average)),
    ("avg(int8)", |_| integers(Answer::Average)),
    ("sum(numeric)", |_| numerics(false)),
    ("avg(numeric)", |_| numerics(true)),
    ("sum(float4)", |_| Box::new(Floats::default())),
    ("sum(float8)", |_| Box::new(Floats::default())),
    ("bool_and(bool)", |_| Box::new(Truth { state: None, all: true })),
    ("every(bool)", |_| Box::new(Truth { state: None, all: true })),
    ("bool_or(bool)", |_| Box::new(Truth { state: None, all: false })),
    ("bit_and(int2)", |_| bits(|a, b| a & b)),
    ("bit_and(int4)", |_| bits(|a, b| a & b)),
    ("bit_and(int8)", |_| bits(|a, b| a & b)),
    ("bit_or(int2)", |_| bits(|a, b| a | b)),
    ("bit_or(int4)", |_| bits(|a, b| a | b)),
    ("bit_or(int8)", |_| bits(|a, b| a | b)),
    ("bit_xor(int2)", |_| bits(|a, b| a ^ b)),
    ("bit_xor(int4)", |_| bits(|a, b| a ^ b)),
    ("bit_xor(int8)", |_| bits(|a, b| a ^ b)),
    ("string_agg(text,text)", |_| Box::new(Joined::default())),
    ("string_agg(bytea,bytea)", |_| Box::new(Joined::default())),
];
