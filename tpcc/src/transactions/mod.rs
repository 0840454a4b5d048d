//! The five transactions of clause 2: the input of each as a terminal would give it, and its statements
//! in as few round trips as their data allow.

mod delivery;
mod new_order;
mod order_status;
mod payment;
mod stock_level;

pub(crate) use delivery::Delivery;
pub(crate) use new_order::NewOrder;
pub(crate) use order_status::OrderStatus;
pub(crate) use payment::Payment;
pub(crate) use stock_level::StockLevel;

use meridian_base::rng::Rng;
use meridian_bench::{Failure, Outcome, Session, Transaction};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::mix::Kind;
use crate::random::{Constants, last_name};

/// A terminal's place, and what it knows about the database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    /// Warehouses in the database.
    pub(crate) warehouses: i32,
    /// The terminal's own warehouse.
    pub(crate) home: i32,
    /// The terminal's own district, for Stock-Level.
    pub(crate) district: i32,
    /// NURand's constants of this run.
    pub(crate) constants: Constants,
}

impl Terminal {
    /// The input of a transaction of this kind.
    pub(crate) fn input(&self, kind: Kind, rng: &mut Rng) -> Input {
        match kind {
            Kind::NewOrder => Input::NewOrder(NewOrder::input(self, rng)),
            Kind::Payment => Input::Payment(Payment::input(self, rng)),
            Kind::OrderStatus => Input::OrderStatus(OrderStatus::input(self, rng)),
            Kind::Delivery => Input::Delivery(Delivery::input(self, rng)),
            Kind::StockLevel => Input::StockLevel(StockLevel::input(self, rng)),
        }
    }

    /// A warehouse other than this terminal's, if there is one.
    fn other_warehouse(&self, rng: &mut Rng) -> i32 {
        if self.warehouses == 1 {
            return self.home;
        }
        let other = rng.below(self.warehouses as u64 - 1) as i32 + 1;
        if other < self.home { other } else { other + 1 }
    }
}

/// One transaction with its input.
#[derive(Debug)]
pub(crate) enum Input {
    NewOrder(NewOrder),
    Payment(Payment),
    OrderStatus(OrderStatus),
    Delivery(Delivery),
    StockLevel(StockLevel),
}

impl Transaction for Input {
    fn name(&self) -> &'static str {
        match self {
            Self::NewOrder(_) => Kind::NewOrder.name(),
            Self::Payment(_) => Kind::Payment.name(),
            Self::OrderStatus(_) => Kind::OrderStatus.name(),
            Self::Delivery(_) => Kind::Delivery.name(),
            Self::StockLevel(_) => Kind::StockLevel.name(),
        }
    }

    async fn attempt(&self, session: &Session) -> Result<Outcome, Failure> {
        match self {
            Self::NewOrder(input) => input.run(session).await,
            Self::Payment(input) => input.run(session).await,
            Self::OrderStatus(input) => input.run(session).await,
            Self::Delivery(input) => input.run(session).await,
            Self::StockLevel(input) => input.run(session).await,
        }
    }
}

/// How a terminal's user names a customer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Customer {
    /// By number: in 40 of 100.
    Id(i32),
    /// By last name: in 60 of 100. The one in the middle by first name is meant.
    Name(String),
}

impl Customer {
    fn input(terminal: &Terminal, rng: &mut Rng) -> Self {
        if rng.chance(0.6) {
            Self::Name(last_name(terminal.constants.last_name(rng)))
        } else {
            Self::Id(terminal.constants.customer(rng))
        }
    }
}

/// The one in the middle of the rows that have a last name, counted up (clause 2.5.2.2).
fn middle(rows: &[Row]) -> Result<i32, Failure> {
    let row = rows.get(rows.len().saturating_sub(1) / 2);
    field(row.ok_or_else(|| Failure::data("no customer has this last name"))?, 0)
}

/// The only row of an answer.
fn only<'r>(rows: &'r [Row], what: &str) -> Result<&'r Row, Failure> {
    match rows {
        [row] => Ok(row),
        rows => Err(Failure::data(format!("{what}: {} rows where one is due", rows.len()))),
    }
}

/// A field of a row.
fn field<'r, T: FromSql<'r>>(row: &'r Row, index: usize) -> Result<T, Failure> {
    row.try_get(index).map_err(|error| Failure::of("a field", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminal(warehouses: i32, home: i32, rng: &mut Rng) -> Terminal {
        Terminal { warehouses, home, district: 3, constants: Constants::for_run(rng) }
    }

    #[test]
    fn other_warehouses_are_all_but_the_own() {
        let mut rng = Rng::seeded(1);
        let terminal = terminal(4, 2, &mut rng);
        let mut seen = [0; 5];
        (0..4000).for_each(|_| seen[terminal.other_warehouse(&mut rng) as usize] += 1);
        assert_eq!((seen[0], seen[2]), (0, 0));
        assert!([1, 3, 4].iter().all(|w| (1200..1500).contains(&seen[*w])), "{seen:?}");
    }

    #[test]
    fn one_warehouse_has_no_other() {
        let mut rng = Rng::seeded(2);
        assert_eq!(terminal(1, 1, &mut rng).other_warehouse(&mut rng), 1);
    }

    #[test]
    fn inputs_have_the_shares_of_the_specification() {
        let mut rng = Rng::seeded(3);
        let terminal = terminal(10, 5, &mut rng);
        let (mut rollbacks, mut remote, mut lines) = (0, 0, 0);
        let (mut remote_payments, mut by_name) = (0, 0);
        for _ in 0..20_000 {
            let order = NewOrder::input(&terminal, &mut rng);
            rollbacks += u32::from(order.is_rolled_back());
            remote += order.remote_lines();
            lines += order.lines();
            let payment = Payment::input(&terminal, &mut rng);
            remote_payments += u32::from(payment.is_remote());
            by_name += u32::from(payment.is_by_name());
        }
        assert!((150..250).contains(&rollbacks), "{rollbacks}");
        assert!((198_000..202_000).contains(&lines), "{lines}");
        assert!((1800..2200).contains(&remote), "{remote}");
        assert!((2800..3200).contains(&remote_payments), "{remote_payments}");
        assert!((11_700..12_300).contains(&by_name), "{by_name}");
    }
}
