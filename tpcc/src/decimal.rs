//! Amounts of money and rates as PostgreSQL's `numeric`, in its binary format: exact, and without a
//! library for decimals.

use std::error::Error;
use std::fmt;

use bytes::{BufMut as _, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

/// A number with four digits behind the point; money uses two of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Decimal(i64);

/// Units of a [`Decimal`] in 1, and the base of numeric's digits: one digit is what is behind the point.
const UNIT: i64 = 10_000;
const NEGATIVE: u16 = 0x4000;

impl Decimal {
    /// An amount of cents.
    pub(crate) const fn cents(cents: u64) -> Self {
        Self(cents as i64 * (UNIT / 100))
    }

    /// A rate in ten-thousandths.
    pub(crate) const fn ten_thousandths(rate: u64) -> Self {
        Self(rate as i64)
    }

    /// This amount, `count` times.
    pub(crate) const fn times(self, count: i32) -> Self {
        Self(self.0 * count as i64)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, rest) = (self.0.unsigned_abs() / 10_000, self.0.unsigned_abs() % 10_000);
        if rest.is_multiple_of(100) {
            write!(f, "{sign}{whole}.{:02}", rest / 100)
        } else {
            write!(f, "{sign}{whole}.{rest:04}")
        }
    }
}

impl ToSql for Decimal {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let mut digits = Vec::with_capacity(6);
        let mut rest = self.0.unsigned_abs();
        while rest > 0 {
            digits.push((rest % UNIT as u64) as u16);
            rest /= UNIT as u64;
        }
        digits.resize(digits.len().max(1), 0);
        out.put_u16(digits.len() as u16);
        // The weight of the first digit: the last one is the fraction, whose weight is -1.
        out.put_i16(digits.len() as i16 - 2);
        out.put_u16(if self.0 < 0 { NEGATIVE } else { 0 });
        out.put_u16(if self.0 % 100 == 0 { 2 } else { 4 });
        digits.iter().rev().for_each(|digit| out.put_u16(*digit));
        Ok(IsNull::No)
    }

    accepts!(NUMERIC);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Decimal {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let mut words = raw.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        let mut word = || words.next().ok_or("a numeric is cut off");
        let (count, weight, sign, _scale) = (word()?, word()? as i16, word()?, word()?);
        if sign != 0 && sign != NEGATIVE {
            return Err("not a finite number".into());
        }
        let mut value = 0i64;
        for position in 0..count {
            let digit = i64::from(word()?);
            // Digits behind the first fraction digit are beyond our columns' scale.
            let power = i32::from(weight) - i32::from(position) + 1;
            let Ok(power) = u32::try_from(power) else { break };
            let part = UNIT.checked_pow(power).and_then(|unit| unit.checked_mul(digit));
            value = part.and_then(|part| value.checked_add(part)).ok_or("too large a numeric")?;
        }
        Ok(Self(if sign == NEGATIVE { -value } else { value }))
    }

    accepts!(NUMERIC);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numerics_come_back_as_sent() {
        let cents = [0, 1, 99, 100, 500_000, 999_999, 30_000_000, 999_999_999_999];
        let rates = [1, 1999, 2000, 10_001].map(Decimal::ten_thousandths);
        for value in cents.map(Decimal::cents).into_iter().chain(rates) {
            for value in [value, Decimal(-value.0)] {
                let mut raw = BytesMut::new();
                value.to_sql(&Type::NUMERIC, &mut raw).expect("it is a numeric");
                let back = Decimal::from_sql(&Type::NUMERIC, &raw).expect("it was a numeric");
                assert_eq!(back, value);
            }
        }
    }

    #[test]
    fn servers_leave_out_zero_digits() {
        // 10000 has one digit of weight 1; 0 has none.
        let raw = [0, 1, 0, 1, 0, 0, 0, 2, 0, 1];
        let value = Decimal::from_sql(&Type::NUMERIC, &raw).expect("valid");
        assert_eq!(value, Decimal::cents(1_000_000));
        let zero = Decimal::from_sql(&Type::NUMERIC, &[0; 8]).expect("valid");
        assert_eq!(zero, Decimal::default());
        assert!(Decimal::from_sql(&Type::NUMERIC, &[0, 1, 0, 1]).is_err());
    }

    #[test]
    fn text_is_what_copy_reads() {
        assert_eq!(Decimal::cents(5).to_string(), "0.05");
        assert_eq!(Decimal(-100_000).to_string(), "-10.00");
        assert_eq!(Decimal::ten_thousandths(123).to_string(), "0.0123");
        assert_eq!(Decimal::cents(250).times(4).to_string(), "10.00");
    }
}
