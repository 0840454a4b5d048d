//! Variance, deviation, correlation and regression.
//!
//! Floats are accumulated after Youngs and Cramer (running sums of squared deviations, no
//! cancellation); integers and `numeric` exactly as `N`, `Σx`, `Σx²`, with PostgreSQL's scales.

use num_bigint::BigInt;

use super::call::out_of_range;
use crate::numeric::{Numeric, pow10, quotient};
use crate::registry::{AggregateKernel, AggregateState};
use crate::{CallInfo, Datum, Result};

/// Which statistic of one variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum One {
    Average,
    VarPop,
    VarSamp,
    StddevPop,
    StddevSamp,
}

impl One {
    fn is_sample(self) -> bool {
        matches!(self, One::VarSamp | One::StddevSamp)
    }

    fn is_deviation(self) -> bool {
        matches!(self, One::StddevPop | One::StddevSamp)
    }
}

/// Statistics of floats.
#[derive(Debug)]
struct Floats {
    n: f64,
    sx: f64,
    sxx: f64,
    what: One,
}

impl AggregateState for Floats {
    fn update(&mut self, _: &CallInfo<'_>, args: &[Datum]) -> Result<()> {
        let x = match args.first() {
            Some(Datum::Float8(x)) => *x,
            Some(Datum::Float4(x)) => f64::from(*x),
            _ => return Ok(()),
        };
        let before = self.sx;
        self.n += 1.0;
        self.sx += x;
        if self.n > 1.0 {
            let tmp = x * self.n - self.sx;
            self.sxx += tmp * tmp / (self.n * (self.n - 1.0));
            if self.sx.is_infinite() || self.sxx.is_infinite() {
                if !before.is_infinite() && !x.is_infinite() {
                    return Err(out_of_range("value out of range: overflow"));
                }
                self.sxx = f64::NAN;
            }
        } else if !x.is_finite() {
            self.sxx = f64::NAN;
        }
        Ok(())
    }

    fn finish(&self, _: &CallInfo<'_>) -> Result<Datum> {
        let least = if self.what.is_sample() { 1.0 } else { 0.0 };
        if self.n <= least {
            return Ok(Datum::Null);
        }
        let v = match self.what {
            One::Average => self.sx / self.n,
            One::VarPop => self.sxx / self.n,
            One::VarSamp => self.sxx / (self.n - 1.0),
            One::StddevPop => (self.sxx / self.n).sqrt(),
            One::StddevSamp => (self.sxx / (self.n - 1.0)).sqrt(),
        };
        Ok(Datum::Float8(v))
    }
}

/// Statistics of integers and `numeric`. The sums are kept as coefficients: a square may be beyond
/// what a `numeric` holds where the variance isn't.
#[derive(Debug)]
struct Exact {
    n: i64,
    /// An infinity or NaN was among the values.
    special: bool,
    /// Digits behind the point of `sum`; `squares` has twice as many.
    scale: i32,
    sum: BigInt,
    squares: BigInt,
    what: One,
}

impl AggregateState for Exact {
    fn update(&mut self, _: &CallInfo<'_>, args: &[Datum]) -> Result<()> {
        let whole;
        let x = match args.first() {
            Some(Datum::Numeric(x)) => x,
            Some(other) => match other.as_i64() {
                Some(x) => {
                    whole = Numeric::from(x);
                    &whole
                }
                None => return Ok(()),
            },
            None => return Ok(()),
        };
        self.n += 1;
        let Some((x, scale)) = x.finite() else {
            self.special = true;
            return Ok(());
        };
        let more = scale - self.scale;
        if more > 0 {
            let power = pow10(more.unsigned_abs());
            self.squares *= &power * &power;
            self.sum *= power;
            self.scale = scale;
        }
        let x = if more < 0 { x.as_ref() * pow10(more.unsigned_abs()) } else { x.into_owned() };
        self.squares += &x * &x;
        self.sum += x;
        Ok(())
    }

    fn finish(&self, _: &CallInfo<'_>) -> Result<Datum> {
        let least = i64::from(self.what.is_sample());
        if self.n <= least {
            return Ok(Datum::Null);
        }
        if self.special {
            return Ok(Datum::Numeric(Numeric::NAN));
        }
        let spread = &self.squares * self.n - &self.sum * &self.sum;
        if spread <= BigInt::ZERO {
            return Ok(Datum::Numeric(Numeric::ZERO));
        }
        let divisor = BigInt::from(self.n) * (self.n - least);
        let (variance, scale) = quotient((&spread, 2 * self.scale), (&divisor, 0))?;
        Ok(Datum::Numeric(if self.what.is_deviation() {
            variance.sqrt_to(scale)?
        } else {
            variance
        }))
    }
}

/// Which statistic of two variables.
#[derive(Clone, Copy, Debug)]
enum Two {
    Count,
    AvgX,
    AvgY,
    Sxx,
    Syy,
    Sxy,
    CovarPop,
    CovarSamp,
    Corr,
    R2,
    Slope,
    Intercept,
}

/// Statistics of pairs `(y, x)`.
#[derive(Debug)]
struct Pairs {
    n: f64,
    sx: f64,
    sxx: f64,
    sy: f64,
    syy: f64,
    sxy: f64,
    what: Two,
}

impl AggregateState for Pairs {
    fn update(&mut self, _: &CallInfo<'_>, args: &[Datum]) -> Result<()> {
        let [Datum::Float8(y), Datum::Float8(x)] = args else { return Ok(()) };
        let (x, y, before) = (*x, *y, (self.sx, self.sy));
        self.n += 1.0;
        self.sx += x;
        self.sy += y;
        if self.n > 1.0 {
            let (dx, dy) = (x * self.n - self.sx, y * self.n - self.sy);
            let scale = 1.0 / (self.n * (self.n - 1.0));
            self.sxx += dx * dx * scale;
            self.syy += dy * dy * scale;
            self.sxy += dx * dy * scale;
            self.settle_infinities(x, y, before)
        } else {
            self.first(x, y);
            Ok(())
        }
    }

    fn finish(&self, _: &CallInfo<'_>) -> Result<Datum> {
        if let Two::Count = self.what {
            return Ok(Datum::Int8(self.n as i64));
        }
        let least = if let Two::CovarSamp = self.what { 2.0 } else { 1.0 };
        if self.n < least {
            return Ok(Datum::Null);
        }
        Ok(self.statistic().map_or(Datum::Null, Datum::Float8))
    }
}

impl Pairs {
    fn first(&mut self, x: f64, y: f64) {
        if !x.is_finite() {
            (self.sxx, self.sxy) = (f64::NAN, f64::NAN);
        }
        if !y.is_finite() {
            (self.syy, self.sxy) = (f64::NAN, f64::NAN);
        }
    }

    fn settle_infinities(&mut self, x: f64, y: f64, before: (f64, f64)) -> Result<()> {
        let infinite_x = before.0.is_infinite() || x.is_infinite();
        let infinite_y = before.1.is_infinite() || y.is_infinite();
        let all = [self.sx, self.sxx, self.sy, self.syy, self.sxy];
        if !all.iter().any(|v| v.is_infinite()) {
            return Ok(());
        }
        let x_overflows = (self.sx.is_infinite() || self.sxx.is_infinite()) && !infinite_x;
        let y_overflows = (self.sy.is_infinite() || self.syy.is_infinite()) && !infinite_y;
        let both = self.sxy.is_infinite() && !infinite_x && !infinite_y;
        if x_overflows || y_overflows || both {
            return Err(out_of_range("value out of range: overflow"));
        }
        for v in [&mut self.sxx, &mut self.syy, &mut self.sxy] {
            if v.is_infinite() {
                *v = f64::NAN;
            }
        }
        Ok(())
    }

    fn statistic(&self) -> Option<f64> {
        let flat_x = self.sxx == 0.0;
        match self.what {
            Two::Count => None,
            Two::AvgX => Some(self.sx / self.n),
            Two::AvgY => Some(self.sy / self.n),
            Two::Sxx => Some(self.sxx),
            Two::Syy => Some(self.syy),
            Two::Sxy => Some(self.sxy),
            Two::CovarPop => Some(self.sxy / self.n),
            Two::CovarSamp => Some(self.sxy / (self.n - 1.0)),
            Two::Corr => {
                (!flat_x && self.syy != 0.0).then(|| self.sxy / (self.sxx * self.syy).sqrt())
            }
            Two::R2 if flat_x => None,
            Two::R2 if self.syy == 0.0 => Some(1.0),
            Two::R2 => Some((self.sxy * self.sxy) / (self.sxx * self.syy)),
            Two::Slope => (!flat_x).then(|| self.sxy / self.sxx),
            Two::Intercept => (!flat_x).then(|| (self.sy - self.sx * self.sxy / self.sxx) / self.n),
        }
    }
}

fn float(what: One) -> Box<dyn AggregateState> {
    Box::new(Floats { n: 0.0, sx: 0.0, sxx: 0.0, what })
}

fn exact(what: One) -> Box<dyn AggregateState> {
    let zero = BigInt::ZERO;
    Box::new(Exact { n: 0, special: false, scale: 0, sum: zero.clone(), squares: zero, what })
}

fn pairs(what: Two) -> Box<dyn AggregateState> {
    Box::new(Pairs { n: 0.0, sx: 0.0, sxx: 0.0, sy: 0.0, syy: 0.0, sxy: 0.0, what })
}

/// One statistic under one name for every argument type.
macro_rules! one {
    ($($name:literal => $what:ident;)*) => {
        &[$(
            (concat!($name, "(int2)"), |_| exact(One::$what)),
            (concat!($name, "(int4)"), |_| exact(One::$what)),
            (concat!($name, "(int8)"), |_| exact(One::$what)),
            (concat!($name, "(numeric)"), |_| exact(One::$what)),
            (concat!($name, "(float4)"), |_| float(One::$what)),
            (concat!($name, "(float8)"), |_| float(One::$what)),
        )*]
    };
}

pub(crate) const VARIANCES: &[(&str, AggregateKernel)] = one! {
    "var_pop" => VarPop; "var_samp" => VarSamp; "variance" => VarSamp;
    "stddev_pop" => StddevPop; "stddev_samp" => StddevSamp; "stddev" => StddevSamp;
};

pub(crate) const PAIRS: &[(&str, AggregateKernel)] = &[
    ("avg(float4)", |_| float(One::Average)),
    ("avg(float8)", |_| float(One::Average)),
    ("regr_count(float8,float8)", |_| pairs(Two::Count)),
    ("regr_avgx(float8,float8)", |_| pairs(Two::AvgX)),
    ("regr_avgy(float8,float8)", |_| pairs(Two::AvgY)),
    ("regr_sxx(float8,float8)", |_| pairs(Two::Sxx)),
    ("regr_syy(float8,float8)", |_| pairs(Two::Syy)),
    ("regr_sxy(float8,float8)", |_| pairs(Two::Sxy)),
    ("covar_pop(float8,float8)", |_| pairs(Two::CovarPop)),
    ("covar_samp(float8,float8)", |_| pairs(Two::CovarSamp)),
    ("corr(float8,float8)", |_| pairs(Two::Corr)),
    ("regr_r2(float8,float8)", |_| pairs(Two::R2)),
    ("regr_slope(float8,float8)", |_| pairs(Two::Slope)),
    ("regr_intercept(float8,float8)", |_| pairs(Two::Intercept)),
];
