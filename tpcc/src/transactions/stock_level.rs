//! Stock-Level (clause 2.8): items of the district's last twenty orders that run low, in two round trips.

use meridian_base::rng::Rng;
use meridian_bench::{Failure, Outcome, Session, call};

use super::{Terminal, field, only};
use crate::random::integer;
use crate::statements::id;

#[derive(Debug)]
pub(crate) struct StockLevel {
    warehouse: i32,
    district: i32,
    threshold: i32,
}

impl StockLevel {
    pub(super) fn input(terminal: &Terminal, rng: &mut Rng) -> Self {
        let threshold = integer(rng, 10, 20);
        Self { warehouse: terminal.home, district: terminal.district, threshold }
    }

    pub(super) async fn run(&self, session: &Session) -> Result<Outcome, Failure> {
        let (w, d) = (&self.warehouse, &self.district);
        let begin = [call(id::BEGIN, []), call(id::SL_DISTRICT, [w, d])];
        let next: i32 = field(only(&session.batch(&begin).await?[1], "district")?, 0)?;
        let count = call(id::SL_STOCK, [w, d, &next, &self.threshold]);
        let answers = session.batch(&[count, call(id::COMMIT, [])]).await?;
        only(&answers[0], "count").map(|_| Outcome::Done)
    }
}
