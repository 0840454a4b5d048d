//! ALTER RANGE … RELOCATE LEASE TO …: has a node lead a range.

use meridian_base::{NodeId, RangeId};
use meridian_types::{PgError, Result, SqlState};

use crate::block::refuses_block;
use crate::session::Session;
use crate::split::refused;

impl Session {
    /// The lease moves before this returns; no transaction takes it back.
    pub(crate) async fn relocate(
        &mut self,
        (range, node): (u64, u64),
        several: bool,
    ) -> Result<String> {
        if self.block.is_explicit() || several {
            return Err(refuses_block("ALTER RANGE RELOCATE LEASE"));
        }
        if !self.shared.is_superuser() {
            let text = "must be superuser to relocate leases";
            return Err(PgError::new(SqlState::INSUFFICIENT_PRIVILEGE, text));
        }
        let store = self.node.store();
        let invalid = |text| Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, text));
        if !store.ranges().iter().any(|known| known.id.0 == range) {
            return invalid(format!("range {range} does not exist"));
        }
        let is_own = store.node().0 == node;
        if !is_own && !store.nodes().iter().any(|known| known.id == node) {
            return invalid(format!("node {node} does not exist"));
        }
        store.relocate_lease(RangeId(range), NodeId(node)).await.map_err(refused)?;
        Ok("ALTER RANGE".to_owned())
    }
}
