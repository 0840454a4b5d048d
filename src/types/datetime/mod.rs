//! Dates, times, time zones and intervals.
//!
//! A `date` is a number of days, a `timestamp` a number of microseconds since 2000-01-01; a
//! `timestamptz` is the same in UTC. An interval keeps months, days and microseconds apart, since a
//! month has no fixed number of days and a day no fixed number of hours.
//!
//! Input goes through three steps: [`lex`] splits the text into fields, [`decode`] gives them a
//! meaning, [`io`] makes a value of them. `2026-11-22 10:00:00+02` and its like are read directly.
//! Output ([`encode`], [`interval_out()`]) appends to a buffer.
//!
//! **Invariant:** offsets named `west` are seconds west of UTC (as `timetz` keeps them), those named
//! `east` seconds east of it.

pub mod abbrev;
pub mod arith;
pub mod binary;
pub mod calendar;
mod decode;
pub mod encode;
mod fail;
pub mod interval;
mod interval_iso;
pub mod interval_out;
pub mod io;
mod lex;
mod numbers;
mod posix;
#[cfg(test)]
mod tests;
pub mod words;
mod zone;

pub use encode::{date_out, time_out, timestamp_out, timestamptz_out, timetz_out};
pub(crate) use fail::{
    date_out_of_range, interval_out_of_range, timestamp_out_of_range, unknown_zone,
};
pub use interval::{interval_in, interval_scale};
pub use interval_out::{Span, interval_out};
pub use io::{
    date_in, time_in, time_scale, timestamp_in, timestamp_scale, timestamp_with_offset,
    timestamptz_in, timetz_in,
};
pub use zone::{TimeZone, ZoneName, ZoneState};

/// Reads a numeric zone such as `+05:30`, as seconds west of UTC; `None` when it is not one, an
/// error when it is out of range.
pub(crate) fn numeric_zone(text: &str) -> std::result::Result<Option<i32>, ()> {
    match numbers::timezone(text) {
        Ok(west) => Ok(Some(west)),
        Err(fail::Fail::Zone) => Err(()),
        Err(_) => Ok(None),
    }
}
