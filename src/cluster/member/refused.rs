//! A node with which most others don't talk knows why: each says so. Its clock is wrong, its directory is a
//! copy or another cluster's, its program is too old.
//!
//! It could do nothing useful then, and would only come back with a clock that jumps. So it stops, and says
//! what it has heard. Who disagrees with few others is not the one that is wrong.

use std::time::Duration;

use crate::store::Store;

/// How often it is looked at what the others have said.
const LOOK: Duration = Duration::from_millis(500);
/// So many looks in a row have to agree: a connection that ends may have been about to be made anew.
const AGREE: u32 = 3;

impl Store {
    /// Waits until most nodes don't talk with this one, for a reason that only an operator can mend; which.
    pub async fn refused(&self) -> String {
        let Some(among) = &self.among else { return std::future::pending().await };
        let mut agreed = 0;
        loop {
            tokio::time::sleep(LOOK).await;
            let known = among.register.nodes();
            let mut refusals = among.rpc.refusals();
            refusals.retain(|address, _| known.iter().any(|row| row.address == *address));
            agreed = if refusals.len() * 2 > known.len() { agreed + 1 } else { 0 };
            if let (AGREE.., Some(why)) = (agreed, refusals.values().next()) {
                let (count, all) = (refusals.len(), known.len());
                return format!("{count} of {all} nodes do not talk with this one: {why}");
            }
        }
    }
}
