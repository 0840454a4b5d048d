//! Hypothetical-set aggregates: where a row would stand among the group's.

use std::cmp::Ordering;

use meridian_types::{Datum, PgType};

use super::window::ordering;

/// Which place is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Place {
    Rank,
    DenseRank,
    PercentRank,
    CumeDist,
}

impl Place {
    pub(crate) fn named(aggregate: &str) -> Option<Place> {
        Some(match aggregate {
            "rank" => Place::Rank,
            "dense_rank" => Place::DenseRank,
            "percent_rank" => Place::PercentRank,
            "cume_dist" => Place::CumeDist,
            _ => return None,
        })
    }

    /// The place of `row` among the sorted `rows`, by keys of (type, descending, NULLs first).
    pub(crate) fn of<'a>(
        self,
        row: &[Datum],
        rows: impl Iterator<Item = &'a [Datum]>,
        keys: &[(PgType, bool, bool)],
    ) -> Datum {
        let order = |a: &[Datum], b: &[Datum]| {
            let pairs = a.iter().zip(b).zip(keys);
            let mut orders =
                pairs.map(|((a, b), (ty, desc, nulls))| ordering(a, b, *ty, *desc, *nulls));
            orders.find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
        };
        let (mut all, mut less, mut distinct, mut equal) = (0_i64, 0_i64, 0_i64, 0_i64);
        let mut last: Option<&[Datum]> = None;
        for other in rows {
            all += 1;
            match order(other, row) {
                Ordering::Less => {
                    less += 1;
                    distinct += i64::from(last.is_none_or(|l| order(l, other).is_ne()));
                }
                Ordering::Equal => equal += 1,
                Ordering::Greater => {}
            }
            last = Some(other);
        }
        #[expect(clippy::cast_precision_loss, reason = "a share of rows, as PostgreSQL gives it")]
        let share = |part: i64, whole: i64| Datum::Float8(part as f64 / whole as f64);
        match self {
            Place::Rank => Datum::Int8(less + 1),
            Place::DenseRank => Datum::Int8(distinct + 1),
            Place::PercentRank if all == 0 => Datum::Float8(0.0),
            Place::PercentRank => share(less, all),
            Place::CumeDist => share(less + equal + 1, all + 1),
        }
    }
}
