//! Payment (clause 2.5): two round trips, or two as well when the customer is named by its last name,
//! since the look-up goes out with the updates of warehouse and district.

use meridian_base::rng::Rng;
use meridian_bench::{Failure, Outcome, Session, call};

use super::{Customer, Terminal, field, middle, only};
use crate::decimal::Decimal;
use crate::random::{DISTRICTS, between, integer};
use crate::statements::id;

#[derive(Debug)]
pub(crate) struct Payment {
    warehouse: i32,
    district: i32,
    customer_warehouse: i32,
    customer_district: i32,
    customer: Customer,
    amount: Decimal,
}

impl Payment {
    pub(super) fn input(terminal: &Terminal, rng: &mut Rng) -> Self {
        let (warehouse, district) = (terminal.home, integer(rng, 1, DISTRICTS));
        let (customer_warehouse, customer_district) = match rng.below(100) {
            0..85 => (warehouse, district),
            _ => (terminal.other_warehouse(rng), integer(rng, 1, DISTRICTS)),
        };
        Self {
            warehouse,
            district,
            customer_warehouse,
            customer_district,
            customer: Customer::input(terminal, rng),
            amount: Decimal::cents(between(rng, 100, 500_000)),
        }
    }

    pub(super) async fn run(&self, session: &Session) -> Result<Outcome, Failure> {
        let (w, d, amount) = (&self.warehouse, &self.district, &self.amount);
        let (cw, cd) = (&self.customer_warehouse, &self.customer_district);
        let mut calls = vec![call(id::BEGIN, [])];
        if let Customer::Name(name) = &self.customer {
            calls.push(call(id::C_BY_NAME, [cw, cd, name]));
        }
        calls.push(call(id::P_DISTRICT, [w, d, amount]));
        // Last, as it locks the row that all payments of the warehouse need.
        calls.push(call(id::P_WAREHOUSE, [w, amount]));
        let answers = session.batch(&calls).await?;
        let customer = match &self.customer {
            Customer::Id(customer) => *customer,
            Customer::Name(_) => middle(&answers[1])?,
        };
        let [.., district, warehouse] = answers.as_slice() else { unreachable!("two at least") };
        let district: &str = field(only(district, "district")?, 0)?;
        let warehouse: &str = field(only(warehouse, "warehouse")?, 0)?;

        let note = format!("{warehouse}    {district}");
        let data = format!("{customer} {cd} {cw} {d} {w} {amount} ");
        let calls = [
            call(id::P_CUSTOMER, [cw, cd, &customer, amount, &data]),
            call(id::P_HISTORY, [&customer, cd, cw, d, w, amount, &note]),
            call(id::COMMIT, []),
        ];
        let answers = session.batch(&calls).await?;
        // COMMIT went out with it: a customer that is not there would be seen by `tpcc check`, too.
        only(&answers[0], "customer")?;
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
impl Payment {
    pub(super) fn is_remote(&self) -> bool {
        self.customer_warehouse != self.warehouse
    }

    pub(super) fn is_by_name(&self) -> bool {
        matches!(self.customer, Customer::Name(_))
    }
}
