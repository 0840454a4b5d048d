//! Delivery (clause 2.7): the oldest new order of each district, all ten in one database transaction of
//! three round trips. A district without new orders is skipped.

use meridian_base::rng::Rng;
use meridian_bench::{Failure, Outcome, Session, call};

use super::{Terminal, field, only};
use crate::decimal::Decimal;
use crate::random::{DISTRICTS, integer};
use crate::statements::id;

#[derive(Debug)]
pub(crate) struct Delivery {
    warehouse: i32,
    carrier: i32,
}

impl Delivery {
    pub(super) fn input(terminal: &Terminal, rng: &mut Rng) -> Self {
        Self { warehouse: terminal.home, carrier: integer(rng, 1, 10) }
    }

    pub(super) async fn run(&self, session: &Session) -> Result<Outcome, Failure> {
        let (w, carrier) = (&self.warehouse, &self.carrier);
        let districts: Vec<i32> = (1..=DISTRICTS).collect();
        let mut calls = vec![call(id::BEGIN, [])];
        calls.extend(districts.iter().map(|d| call(id::D_OLDEST, [w, d])));
        let oldest = session.batch(&calls).await?;

        let mut orders: Vec<(i32, i32)> = Vec::with_capacity(districts.len());
        for (district, rows) in districts.iter().zip(&oldest[1..]) {
            if let [row] = rows.as_slice() {
                orders.push((*district, field(row, 0)?));
            }
        }
        let calls = orders.iter().flat_map(|(d, o)| {
            [
                call(id::D_DELETE, [w, d, o]),
                call(id::D_ORDER, [w, d, o, carrier]),
                call(id::D_LINES, [w, d, o]),
                call(id::D_AMOUNT, [w, d, o]),
            ]
        });
        let answers = session.batch(&calls.collect::<Vec<_>>()).await?;

        let mut payers: Vec<(i32, i32, Decimal)> = Vec::with_capacity(orders.len());
        for ((district, _), rows) in orders.iter().zip(answers.chunks_exact(4)) {
            let customer = field(only(&rows[1], "order")?, 0)?;
            payers.push((*district, customer, field(only(&rows[3], "amount")?, 0)?));
        }
        let calls = payers.iter().map(|(d, c, amount)| call(id::D_CUSTOMER, [w, d, c, amount]));
        let calls: Vec<_> = calls.chain([call(id::COMMIT, [])]).collect();
        session.batch(&calls).await?;
        Ok(Outcome::Done)
    }
}
