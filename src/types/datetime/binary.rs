//! The binary wire form of dates, times and intervals: big-endian integers.

use super::calendar::{USECS_PER_DAY, checked_date, date_infinite};
use super::calendar::{timestamp_infinite, timestamp_valid};
use super::fail::timestamp_out_of_range;
use super::{date_out_of_range, interval_scale, time_scale, timestamp_scale};
use crate::{Interval, PgError, Result, SqlState};

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| {
        let short = bytes.len() < N;
        let (state, text) = match short {
            true => (SqlState::PROTOCOL_VIOLATION, "insufficient data left in message"),
            false => (SqlState::INVALID_BINARY_REPRESENTATION, "incorrect binary data format"),
        };
        PgError::new(state, text)
    })
}

/// Reads a `date`.
pub fn date_recv(bytes: &[u8]) -> Result<i32> {
    let date = i32::from_be_bytes(array(bytes)?);
    if date_infinite(date) {
        return Ok(date);
    }
    checked_date(i64::from(date)).ok_or_else(date_out_of_range)
}

/// Reads a `timestamp` or `timestamptz`.
pub fn timestamp_recv(bytes: &[u8], typmod: i32) -> Result<i64> {
    let ts = i64::from_be_bytes(array(bytes)?);
    if !timestamp_infinite(ts) && !timestamp_valid(ts) {
        return Err(timestamp_out_of_range());
    }
    timestamp_scale(ts, typmod)
}

fn time(value: i64, typmod: i32) -> Result<i64> {
    if !(0..=USECS_PER_DAY).contains(&value) {
        return Err(PgError::new(SqlState::DATETIME_FIELD_OVERFLOW, "time out of range"));
    }
    Ok(time_scale(value, typmod))
}

/// Reads a `time`.
pub fn time_recv(bytes: &[u8], typmod: i32) -> Result<i64> {
    time(i64::from_be_bytes(array(bytes)?), typmod)
}

/// Reads a `timetz`.
pub fn timetz_recv(bytes: &[u8], typmod: i32) -> Result<(i64, i32)> {
    let b: [u8; 12] = array(bytes)?;
    let value = time(i64::from_be_bytes(array(&b[..8])?), typmod)?;
    let west = i32::from_be_bytes(array(&b[8..])?);
    if west.unsigned_abs() >= 16 * 3600 {
        return Err(PgError::new(
            SqlState::INVALID_TIME_ZONE_DISPLACEMENT_VALUE,
            "time zone displacement out of range",
        ));
    }
    Ok((value, west))
}

/// Reads an `interval`.
pub fn interval_recv(bytes: &[u8], typmod: i32) -> Result<Interval> {
    let b: [u8; 16] = array(bytes)?;
    let v = Interval {
        micros: i64::from_be_bytes(array(&b[..8])?),
        days: i32::from_be_bytes(array(&b[8..12])?),
        months: i32::from_be_bytes(array(&b[12..])?),
    };
    interval_scale(v, typmod)
}

/// Writes a `timetz`.
pub fn timetz_send(out: &mut Vec<u8>, value: i64, west: i32) {
    out.extend_from_slice(&value.to_be_bytes());
    out.extend_from_slice(&west.to_be_bytes());
}

/// Writes an `interval`.
pub fn interval_send(out: &mut Vec<u8>, v: Interval) {
    out.extend_from_slice(&v.micros.to_be_bytes());
    out.extend_from_slice(&v.days.to_be_bytes());
    out.extend_from_slice(&v.months.to_be_bytes());
}
