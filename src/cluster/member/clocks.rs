//! A node whose clock is wrong knows it by its peers: it can't talk to most of them, and each says why.
//!
//! It could do nothing useful then, and would only come back with a clock that jumps. So it stops, and says
//! what is to be done. Who disagrees with few others is not the one that is wrong.

use std::time::Duration;

use crate::store::Store;

/// How often the peers' clocks are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// So many looks in a row have to agree: a connection that ends may have been about to be made anew.
const AGREE: u32 = 5;

impl Store {
    /// Waits until this node's clock is further off than it may be from those of most nodes. Why it has to
    /// stop.
    pub async fn clock_fault(&self) -> String {
        let Some(among) = &self.among else { return std::future::pending().await };
        let mut agreed = 0;
        loop {
            tokio::time::sleep(LOOK).await;
            let known = among.register.nodes();
            let mut apart = among.rpc.clocks_apart();
            apart.retain(|node, _| known.iter().any(|row| row.id == node.0));
            agreed = if apart.len() * 2 > known.len() { agreed + 1 } else { 0 };
            if agreed < AGREE {
                continue;
            }
            let off = apart.values().min().copied().unwrap_or_default();
            return format!(
                "the clock of this node is at least {} ms off from those of {} of {} nodes, at most {} ms are \
                 allowed: synchronise it, for instance by NTP, and start the node again",
                off.as_millis(),
                apart.len(),
                known.len(),
                meridian_base::limits::CLOCK_OFFSET_MS_MAX,
            );
        }
    }
}
