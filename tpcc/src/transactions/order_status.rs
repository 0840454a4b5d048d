//! Order-Status (clause 2.6): a customer's last order, read at one snapshot in three round trips.

use meridian_base::rng::Rng;
use meridian_bench::{Failure, Outcome, Session, call};

use super::{Customer, Terminal, field, middle, only};
use crate::random::{DISTRICTS, integer};
use crate::statements::id;

#[derive(Debug)]
pub(crate) struct OrderStatus {
    warehouse: i32,
    district: i32,
    customer: Customer,
}

impl OrderStatus {
    pub(super) fn input(terminal: &Terminal, rng: &mut Rng) -> Self {
        let district = integer(rng, 1, DISTRICTS);
        Self { warehouse: terminal.home, district, customer: Customer::input(terminal, rng) }
    }

    pub(super) async fn run(&self, session: &Session) -> Result<Outcome, Failure> {
        let (w, d) = (&self.warehouse, &self.district);
        let mut begin = Some(call(id::BEGIN_READ, []));
        let customer = match &self.customer {
            Customer::Id(customer) => *customer,
            Customer::Name(name) => {
                let calls = begin.take().into_iter().chain([call(id::C_BY_NAME, [w, d, name])]);
                middle(&session.batch(&calls.collect::<Vec<_>>()).await?[1])?
            }
        };
        let c = &customer;
        let calls = [call(id::OS_CUSTOMER, [w, d, c]), call(id::OS_ORDER, [w, d, c])];
        let calls: Vec<_> = begin.into_iter().chain(calls).collect();
        let answers = session.batch(&calls).await?;
        let [.., customer, order] = answers.as_slice() else { unreachable!("two at least") };
        only(customer, "customer")?;
        let order: i32 = field(only(order, "last order")?, 0)?;
        let calls = [call(id::OS_LINES, [w, d, &order]), call(id::COMMIT, [])];
        match session.batch(&calls).await?[0].len() {
            5..=15 => Ok(Outcome::Done),
            lines => Err(Failure::data(format!("order {w}/{d}/{order} has {lines} lines"))),
        }
    }
}
