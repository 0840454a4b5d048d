//! New-Order (clause 2.4): an order of five to fifteen lines, in three round trips: what is read and the
//! order's number; order and stock; lines and COMMIT.

use meridian_base::rng::Rng;
use meridian_bench::{Call, Failure, Outcome, Session, call};
use tokio_postgres::Row;

use super::{Terminal, field, only};
use crate::decimal::Decimal;
use crate::random::{DISTRICTS, ITEMS, integer};
use crate::statements::id;

#[derive(Debug)]
pub(crate) struct NewOrder {
    warehouse: i32,
    district: i32,
    customer: i32,
    all_local: i32,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    number: i32,
    item: i32,
    supplier: i32,
    quantity: i32,
    /// 1 if the supplier is not the terminal's warehouse.
    remote: i32,
}

/// A line that goes into the order: what it costs, and what the stock says about the district.
struct Priced {
    amount: Decimal,
    info: String,
}

impl NewOrder {
    pub(super) fn input(terminal: &Terminal, rng: &mut Rng) -> Self {
        let count = integer(rng, 5, 15);
        let rolled_back = rng.below(100) == 0;
        let mut lines: Vec<_> = (1..=count).map(|n| Line::input(n, terminal, rng)).collect();
        if let Some(last) = lines.last_mut().filter(|_| rolled_back) {
            last.item = ITEMS + 1;
        }
        Self {
            warehouse: terminal.home,
            district: integer(rng, 1, DISTRICTS),
            customer: terminal.constants.customer(rng),
            all_local: i32::from(lines.iter().all(|line| line.remote == 0)),
            lines,
        }
    }

    pub(super) async fn run(&self, session: &Session) -> Result<Outcome, Failure> {
        let (w, d, c) = (&self.warehouse, &self.district, &self.customer);
        let mut calls = vec![
            call(id::BEGIN, []),
            call(id::NO_WAREHOUSE, [w]),
            call(id::NO_CUSTOMER, [w, d, c]),
        ];
        calls.extend(self.lines.iter().map(|line| call(id::NO_ITEM, [&line.item])));
        // Last, as it locks the row that all orders of the district need.
        calls.push(call(id::NO_DISTRICT, [w, d]));
        let read = session.batch(&calls).await?;
        let (items, district) = read[3..].split_at(self.lines.len());
        let order: i32 = field(only(&district[0], "district")?, 1)?;
        // What taxes and discount make of the total would only be shown on the terminal's screen.
        only(&read[1], "warehouse")?;
        only(&read[2], "customer")?;

        // All lines but the one with an unused item, which must be the last.
        let found: Vec<_> = self.lines.iter().zip(items).filter(|(_, i)| !i.is_empty()).collect();
        let rolled_back = found.len() < self.lines.len();
        if rolled_back != self.is_rolled_back() {
            return Err(Failure::data("an item is missing"));
        }
        let priced = self.take_stock(session, &order, &found).await?;

        let mut calls: Vec<Call<'_>> = Vec::with_capacity(priced.len() + 1);
        for ((line, _), priced) in found.iter().zip(&priced) {
            let Line { number, item, supplier, quantity, .. } = line;
            let Priced { amount, info } = priced;
            calls.push(call(
                id::NO_LINE,
                [&order, d, w, number, item, supplier, quantity, amount, info],
            ));
        }
        calls.push(call(if rolled_back { id::ROLLBACK } else { id::COMMIT }, []));
        session.batch(&calls).await?;
        Ok(if rolled_back { Outcome::RolledBack } else { Outcome::Done })
    }

    /// Enters the order, and takes its items out of stock.
    async fn take_stock(
        &self,
        session: &Session,
        order: &i32,
        found: &[(&Line, &Vec<Row>)],
    ) -> Result<Vec<Priced>, Failure> {
        let (w, d, c) = (&self.warehouse, &self.district, &self.customer);
        let count = self.lines.len() as i32;
        let stock = id::NO_STOCK + self.district as usize - 1;
        let mut calls = vec![
            call(id::NO_ORDER, [order, d, w, c, &count, &self.all_local]),
            call(id::NO_NEW_ORDER, [order, d, w]),
        ];
        // In one order for all terminals, so that they don't wait for each other in a circle.
        let mut places: Vec<_> = (0..found.len()).collect();
        places.sort_by_key(|place| (found[*place].0.supplier, found[*place].0.item));
        for place in &places {
            let Line { item, supplier, quantity, remote, .. } = found[*place].0;
            calls.push(call(stock, [supplier, item, quantity, remote]));
        }
        let answers = session.batch(&calls).await?;

        let mut priced: Vec<_> = found.iter().map(|_| None).collect();
        for (place, rows) in places.iter().zip(&answers[2..]) {
            let (line, item) = found[*place];
            let price: Decimal = field(only(item, "item")?, 0)?;
            let (stock, amount) = (only(rows, "stock")?, price.times(line.quantity));
            priced[*place] = Some(Priced { amount, info: field(stock, 2)? });
        }
        Ok(priced.into_iter().flatten().collect())
    }

    pub(super) fn is_rolled_back(&self) -> bool {
        self.lines.last().is_some_and(|line| line.item > ITEMS)
    }
}

impl Line {
    fn input(number: i32, terminal: &Terminal, rng: &mut Rng) -> Self {
        let supplier = match rng.below(100) {
            0 => terminal.other_warehouse(rng),
            _ => terminal.home,
        };
        Self {
            number,
            item: terminal.constants.item(rng),
            supplier,
            quantity: integer(rng, 1, 10),
            remote: i32::from(supplier != terminal.home),
        }
    }
}

#[cfg(test)]
impl NewOrder {
    pub(super) fn lines(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn remote_lines(&self) -> usize {
        self.lines.iter().filter(|line| line.remote == 1).count()
    }
}
