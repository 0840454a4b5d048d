//! PREPARE TRANSACTION, COMMIT PREPARED and ROLLBACK PREPARED.
//!
//! What is prepared is the store's ([`meridian_cluster::Claimed`]); here is who may do it, and what a
//! session may not take along: definitions, temporary tables, cursors that are to outlive the transaction.

use meridian_catalog::Descriptor;
use meridian_cluster::{KvError, NewPrepared, PrepareError, TxnOptions};
use meridian_exec::{catalog_store, from_kv};
use meridian_types::{PgError, Result, SqlState};

use crate::block::{State, refuses_block};
use crate::session::Session;

/// A name has fewer bytes than this.
const GID_BYTES: usize = 200;

impl Session {
    /// PREPARE TRANSACTION: the command tag.
    pub(crate) async fn prepare_transaction(&mut self, gid: &str) -> Result<String> {
        match self.block.state {
            State::Explicit => {}
            // As COMMIT: what has failed is rolled back, and outside of a block there is only a warning.
            State::Failed => return self.end_block(false, false).await,
            State::Idle | State::Implicit => {
                self.end_block(true, false).await?;
                return Ok("ROLLBACK".to_owned());
            }
        }
        let outcome = self.try_prepare(gid).await;
        // Its locks, if they are not somebody else's now, go with an error.
        if let Some(mut txn) = self.block.txn.take() {
            txn.rollback();
            txn.release_locks();
        }
        self.end_transaction(outcome.is_ok());
        outcome.map(|()| "PREPARE TRANSACTION".to_owned())
    }

    async fn try_prepare(&mut self, gid: &str) -> Result<()> {
        if !self.block.deferred.lock().is_empty() {
            self.check_deferred().await?;
        }
        self.refuse_what_stays()?;
        let limit = self.shared.settings.lock().get("max_prepared_transactions").parse();
        let limit: usize = limit.unwrap_or(0);
        if gid.len() >= GID_BYTES {
            let text = format!("transaction identifier \"{gid}\" is too long");
            return Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, text));
        }
        if limit == 0 {
            let text = "prepared transactions are disabled";
            return Err(PgError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, text)
                .hint("Set max_prepared_transactions to a nonzero value."));
        }
        let identity = self.shared.identity();
        let new = NewPrepared {
            gid: gid.to_owned(),
            owner: identity.user,
            database: identity.database,
            prepared: self.statement_time,
            limit,
            defines: self.block.overlay.as_ref().is_some_and(|overlay| !overlay.is_empty()),
            advisory: self.shared.advisory.lock().held(),
        };
        let Some(txn) = &mut self.block.txn else { return Ok(()) };
        txn.prepare(&new).await.map_err(|error| match error {
            PrepareError::InUse => {
                let text = format!("transaction identifier \"{gid}\" is already in use");
                PgError::new(SqlState::DUPLICATE_OBJECT, text)
            }
            PrepareError::Full => {
                let text = "maximum number of prepared transactions reached";
                let hint = format!("Increase max_prepared_transactions (currently {limit}).");
                PgError::new(SqlState::OUT_OF_MEMORY, text).hint(hint)
            }
            PrepareError::BothLevels => PgError::unsupported(
                "cannot PREPARE while holding both session-level and transaction-level locks on the same object",
            ),
            PrepareError::Unsupported(what) => {
                PgError::unsupported(format!("{what} is not supported yet"))
            }
            PrepareError::Kv(error) => self.interrupt.explain(from_kv(error)),
        })
    }

    /// What can't be taken along.
    fn refuse_what_stays(&mut self) -> Result<()> {
        if self.cursors.values().any(|cursor| cursor.is_to_be_held()) {
            let text = "cannot PREPARE a transaction that has created a cursor WITH HOLD";
            return Err(PgError::unsupported(text));
        }
        let changed = self.block.overlay.as_ref().is_some_and(|overlay| !overlay.is_empty());
        let tables: Vec<u32> = self.block.txn.iter().flat_map(|txn| txn.locked_tables()).collect();
        let view = self.view();
        let catalog = &view.catalog;
        let is_temporary =
            |oid: &u32| catalog.table(*oid).is_some_and(|table| table.temp_session.is_some());
        let mut changes = self.block.overlay.iter().flat_map(|overlay| overlay.changes());
        let made = changes.any(|(_, now)| {
            matches!(now, Some(Descriptor::Table(table)) if table.temp_session.is_some())
        });
        if made || tables.iter().any(is_temporary) {
            let text = "cannot PREPARE a transaction that has operated on temporary objects";
            return Err(PgError::unsupported(text));
        }
        match changed && self.node.store().has_peers() {
            true => Err(PgError::unsupported(
                "PREPARE TRANSACTION in a cluster, after a change of definitions, is not supported yet",
            )),
            false => Ok(()),
        }
    }

    /// COMMIT PREPARED and ROLLBACK PREPARED: the command tag.
    pub(crate) async fn finish_prepared(
        &mut self,
        gid: &str,
        commit: bool,
        several: bool,
    ) -> Result<String> {
        let what = if commit { "COMMIT PREPARED" } else { "ROLLBACK PREPARED" };
        if self.block.is_explicit() || several {
            return Err(refuses_block(what));
        }
        let identity = self.shared.identity();
        let options = TxnOptions {
            backend: self.shared.backend(),
            database: identity.database,
            ..TxnOptions::default()
        };
        let claimed = self.node.store().claim_prepared(gid, options).await;
        let named = |text: &str| format!("prepared transaction with identifier \"{gid}\" {text}");
        let claimed = claimed.map_err(|error| match error {
            KvError::LockNotAvailable => {
                PgError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, named("is busy"))
            }
            other => from_kv(other),
        })?;
        let Some(mut claimed) = claimed else {
            return Err(PgError::new(SqlState::UNDEFINED_OBJECT, named("does not exist")));
        };
        let info = claimed.info();
        if info.owner != identity.user && !self.shared.is_superuser() {
            let text = "permission denied to finish prepared transaction";
            return Err(PgError::new(SqlState::INSUFFICIENT_PRIVILEGE, text)
                .hint("Must be superuser or the user that prepared the transaction."));
        }
        if info.database != identity.database {
            let text = "prepared transaction belongs to another database";
            return Err(PgError::unsupported(text)
                .hint("Connect to the database where the transaction was prepared to finish it."));
        }
        claimed.finish(commit).await.map_err(from_kv)?;
        if commit && claimed.defines() {
            catalog_store::reread(&self.node).await;
        }
        Ok(what.to_owned())
    }
}
