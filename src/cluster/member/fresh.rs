//! Whether this node may know an old catalog: others have defined something while they had given it up.

use std::time::Duration;

use crate::store::Store;

/// Between two questions; reading the catalog takes a few of them.
const PAUSE: Duration = Duration::from_millis(20);
/// Three seconds: after that the statement that waits says what it found.
const TRIES: u32 = 150;

impl Store {
    /// Waits until the leaseholder takes this node's catalog for the newest. Whether it didn't at first.
    pub async fn catch_up(&self) -> bool {
        let Some(among) = &self.among else { return false };
        for attempt in 0..TRIES {
            if !among.cluster.is_turned_away().await {
                return attempt > 0;
            }
            tokio::time::sleep(PAUSE).await;
        }
        true
    }
}
