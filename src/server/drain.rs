//! Clients of a node that is to be stopped or worked on: no new ones come, and those that are there end well.
//!
//! ```text
//! drained: not ready ─ GRACE ─▶ new clients hear 57P03 ─ sessions' time ─▶ sessions end
//! SIGTERM: not ready ─────────▶ new clients hear 57P03 ─ leases gone ────▶ sessions end
//! ```
//! A session without a transaction ends at once, one with a transaction after it, or after some seconds; both are
//! told `57P01`. Leases are given away meanwhile (`src/cluster/member/drain.rs`): statements go on, by the
//! next leaseholder.

use std::sync::Arc;
use std::time::Duration;

use meridian_cluster::Store;
use meridian_gateway::Gateway;
use meridian_types::{PgError, SqlState};

/// New clients are let in for so long, until whoever spreads them has seen that the node is not ready. Half of it
/// is less than the usual pause between two looks; with twice of it every drain takes that much longer.
const GRACE: Duration = Duration::from_secs(5);
/// How long a transaction may take to end. Less cuts off what would have ended; more, and a client that has
/// forgotten its transaction delays a restart.
const TRANSACTIONS_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks at who is still there.
const LOOK: Duration = Duration::from_millis(20);

fn refusal(message: &str) -> PgError {
    PgError::new(SqlState::CANNOT_CONNECT_NOW, message)
}

/// What new clients hear of a node that is being stopped.
pub(crate) fn shutting_down() -> PgError {
    refusal("the database system is shutting down")
}

/// Closes the door while the node is drained, and opens it again.
pub(crate) async fn follow(store: Arc<Store>, gateway: Arc<Gateway>) {
    let Some(mut asked) = store.draining() else { return };
    loop {
        let Ok(sessions) = asked.wait_for(Option::is_some).await.map(|asked| *asked) else {
            return;
        };
        tracing::info!("the node is being drained");
        tokio::select! {
            () = close(&gateway, sessions.unwrap_or_default()) => {}
            _ = asked.wait_for(Option::is_none) => {}
        }
        gateway.refuse(None);
        tracing::info!("the node is not drained any more");
    }
}

/// Never ends.
async fn close(gateway: &Gateway, sessions: Duration) {
    tokio::time::sleep(GRACE).await;
    let why = refusal("the database system is not accepting connections");
    gateway.refuse(Some(why.detail("The node is being drained.")));
    tokio::time::sleep(sessions.saturating_sub(GRACE)).await;
    end_sessions(gateway).await;
    std::future::pending().await
}

/// Ends all sessions: those without a transaction at once, others after it, or after some time anyhow.
pub(crate) async fn end_sessions(gateway: &Gateway) {
    let ended = async {
        while !gateway.registry().is_empty() {
            // Again: one may have been let in just before the door was closed.
            gateway.registry().retire_all();
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(TRANSACTIONS_LIMIT, ended).await.is_err() {
        gateway.registry().terminate_all();
    }
}
