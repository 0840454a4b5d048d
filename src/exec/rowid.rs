//! Values for the hidden key of tables without a primary key.
//!
//! A row id is the wall clock in units of a 4096th of a microsecond, or one more than the last one
//! given out: unique in the process, ascending in time, and above those of earlier starts.

use std::sync::atomic::{AtomicI64, Ordering};

use meridian_base::clock::{Clock, SystemClock};
use meridian_catalog::TableDesc;
use meridian_types::Datum;

/// Microseconds from 1970-01-01 to 2000-01-01: counted from there, ids last beyond the year 2070.
const EPOCH_MICROS: u64 = 946_684_800_000_000;

static LAST: AtomicI64 = AtomicI64::new(0);

/// A new row id.
pub(crate) fn next() -> i64 {
    let micros = SystemClock.now_micros().saturating_sub(EPOCH_MICROS);
    let now = i64::try_from(micros << 12).unwrap_or(i64::MAX);
    let step = |last: i64| Some(now.max(last + 1));
    LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step)
        .map_or(now, |last| now.max(last + 1))
}

/// Gives a new row its hidden key, if its table has one.
pub(crate) fn fill(table: &TableDesc, row: &mut [Datum]) {
    for (column, value) in table.columns.iter().zip(row) {
        if column.hidden && !column.dropped && value.is_null() {
            *value = Datum::Int8(next());
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn row_ids_ascend() {
        let ids: Vec<i64> = (0..1000).map(|_| super::next()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
