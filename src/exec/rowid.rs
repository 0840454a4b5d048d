//! Values for the hidden key of tables without a primary key.
//!
//! A row id is the time at which it was given out, in sixteenths of a microsecond, with the node between
//! them: unique in the cluster, ascending in time, and above those of earlier starts.
//!
//! ```text
//! microseconds since 2000 │ node: 8 bits │ sixteenth: 4 bits
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use meridian_base::NodeId;
use meridian_base::clock::{Clock, SystemClock};
use meridian_catalog::TableDesc;
use meridian_types::Datum;

/// Microseconds from 1970-01-01 to 2000-01-01: counted from there, ids last beyond the year 2070.
const EPOCH_MICROS: u64 = 946_684_800_000_000;

/// The last sixteenth of a microsecond that was given out by this process.
static LAST: AtomicU64 = AtomicU64::new(0);
static NODE: AtomicU64 = AtomicU64::new(0);

/// Says which node this is, before it gives out any.
pub(crate) fn set_node(node: NodeId) {
    NODE.store(node.0 & 0xFF, Ordering::Relaxed);
}

fn row_id(sixteenths: u64, node: u64) -> i64 {
    let id = (sixteenths >> 4 << 12) | (node << 4) | (sixteenths & 0xF);
    i64::try_from(id).unwrap_or(i64::MAX)
}

/// A new row id.
pub(crate) fn next() -> i64 {
    let now = SystemClock.now_micros().saturating_sub(EPOCH_MICROS) << 4;
    let step = |last: u64| Some(now.max(last + 1));
    let before = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
    let sixteenths = before.map_or(now, |last| now.max(last + 1));
    row_id(sixteenths, NODE.load(Ordering::Relaxed))
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

    #[test]
    fn nodes_never_give_out_the_same() {
        let of = |node| (0..64).map(move |sixteenths| super::row_id(sixteenths, node));
        assert!(of(1).all(|id| of(2).all(|other| id != other)));
    }
}
