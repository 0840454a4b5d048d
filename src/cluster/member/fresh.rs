//! Whether this node may know an old catalog: others have defined something while they had given it up.

use crate::locking::WaitLimits;
use crate::store::Store;

impl Store {
    /// Waits until this node's catalog is the newest, but not for long. Whether it wasn't at first.
    pub async fn catch_up(&self) -> bool {
        if self.core().fence.holds(&self.core().hlc) {
            return false;
        }
        // Who waits longer than a lost leaseholder takes to be replaced says what it found.
        let _ = self.core().await_guard(&WaitLimits::default()).await;
        true
    }
}
