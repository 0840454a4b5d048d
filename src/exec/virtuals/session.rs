//! What the catalog's relations and functions ask of the session that runs them.

use std::sync::Arc;
use std::time::Duration;

use meridian_cluster::{LockInfo, PreparedTxn};
use meridian_types::oid::Oid;
use meridian_types::{PgError, Result};

use crate::catalog_store::SessionIdentity;
use crate::ddl::SequenceState;

/// A row of `pg_settings`, in the order of its first columns.
#[derive(Clone, Debug, Default)]
pub struct SettingRow {
    /// `name`
    pub name: String,
    /// `setting`
    pub setting: String,
    /// `unit`
    pub unit: Option<String>,
    /// `category`
    pub category: String,
    /// `short_desc`
    pub short_desc: String,
    /// `context`: `user`, `superuser`, `sighup`, `postmaster`, `internal`, `backend`
    pub context: String,
    /// `vartype`: `bool`, `integer`, `real`, `string`, `enum`
    pub vartype: String,
    /// `source`: `default`, `session` …
    pub source: String,
    /// `min_val`
    pub min_val: Option<String>,
    /// `max_val`
    pub max_val: Option<String>,
    /// `enumvals`
    pub enumvals: Option<Vec<String>>,
    /// `boot_val`
    pub boot_val: Option<String>,
    /// `reset_val`
    pub reset_val: Option<String>,
}

/// A row of `pg_stat_activity`. Times are microseconds since 2000-01-01 UTC.
#[derive(Clone, Debug, Default)]
pub struct ActivityRow {
    /// Oid of the database.
    pub database: u32,
    /// Process id.
    pub pid: i32,
    /// Oid of the role.
    pub user: u32,
    /// `application_name`
    pub application_name: String,
    /// Address of the client.
    pub client_addr: Option<String>,
    /// Port of the client.
    pub client_port: Option<i32>,
    /// When the session began.
    pub backend_start: Option<i64>,
    /// When its transaction began.
    pub xact_start: Option<i64>,
    /// When its statement began.
    pub query_start: Option<i64>,
    /// When its state changed.
    pub state_change: Option<i64>,
    /// `wait_event_type` and `wait_event`
    pub wait_event: Option<(String, String)>,
    /// `active`, `idle`, `idle in transaction` …
    pub state: Option<String>,
    /// The statement.
    pub query: String,
}

/// A cursor or prepared statement: name, statement, time of creation.
pub type NamedStatement = (String, String, i64);

/// A row of `pg_prepared_statements`.
#[derive(Clone, Debug)]
pub struct PreparedRow {
    /// Its name.
    pub name: String,
    /// The text that it was made by.
    pub text: Arc<str>,
    /// When it was made, microseconds since 2000-01-01 UTC.
    pub time: i64,
    /// Types of its parameters.
    pub types: Vec<Oid>,
    /// By PREPARE rather than by the protocol.
    pub from_sql: bool,
}

/// A session, as the catalog's functions see it.
pub trait SessionInfo: Send + Sync + std::fmt::Debug {
    /// Who runs statements, and where names are looked up.
    fn identity(&self) -> Arc<SessionIdentity>;

    /// The sequences that it has used.
    fn sequences(&self) -> Arc<SequenceState>;

    /// `SHOW name`; `None` when there is no such setting.
    fn setting(&self, name: &str) -> Option<String>;

    /// `SET [LOCAL] name = value`; the answer is the setting's new text.
    fn set_setting(&self, name: &str, value: &str, local: bool) -> Result<String>;

    /// `pg_settings`
    fn settings(&self) -> Vec<SettingRow> {
        Vec::new()
    }

    /// `pg_stat_activity`
    fn activity(&self) -> Vec<ActivityRow> {
        Vec::new()
    }

    /// `pg_cursors`
    fn cursors(&self) -> Vec<NamedStatement> {
        Vec::new()
    }

    /// `pg_prepared_statements`
    fn prepared_statements(&self) -> Vec<PreparedRow> {
        Vec::new()
    }

    /// How far follower reads may be behind.
    fn follower_staleness(&self) -> Duration {
        Duration::from_millis(500)
    }

    /// When the server began, microseconds since 2000-01-01 UTC.
    fn server_start(&self) -> i64 {
        0
    }

    /// Ends the statement (`false`) or the session (`true`) of a process; whether there is one.
    fn signal(&self, pid: i32, terminate: bool) -> bool {
        let _ = (pid, terminate);
        false
    }

    /// `pg_blocking_pids`: the processes that keep this one waiting.
    fn blocking_pids(&self, pid: i32) -> Vec<i32> {
        let _ = pid;
        Vec::new()
    }

    /// The locks of all nodes; `None` if those of this one are all.
    fn locks(&self) -> Option<Vec<LockInfo>> {
        None
    }

    /// The transactions that wait for COMMIT PREPARED.
    fn prepared_transactions(&self) -> Result<Vec<PreparedTxn>> {
        Ok(Vec::new())
    }

    /// `pg_advisory_lock` and its kin: (class, object, 1 or 2 for one or two keys).
    fn advisory_lock(
        &self,
        key: (u32, u32, u32),
        shared: bool,
        session: bool,
        wait: bool,
    ) -> Result<bool> {
        let _ = (key, shared, session, wait);
        Err(PgError::unsupported("advisory locks are not supported here yet"))
    }

    /// `pg_advisory_unlock`
    fn advisory_unlock(&self, key: (u32, u32, u32), shared: bool) -> Result<bool> {
        let _ = (key, shared);
        Err(PgError::unsupported("advisory locks are not supported here yet"))
    }

    /// `pg_advisory_unlock_all`
    fn advisory_unlock_all(&self) {}

    /// `pg_sleep`
    fn sleep(&self, seconds: f64) -> Result<()> {
        let _ = seconds;
        Err(PgError::unsupported("pg_sleep is not supported here yet"))
    }
}

/// A session without a client: of background work, and of tests.
#[derive(Debug)]
pub struct PlainSession {
    identity: Arc<SessionIdentity>,
    sequences: Arc<SequenceState>,
}

impl Default for PlainSession {
    /// The bootstrap superuser in the database `postgres`.
    fn default() -> PlainSession {
        use meridian_catalog::builtin::{BOOTSTRAP_ROLE, POSTGRES_DATABASE};
        let identity = SessionIdentity {
            database: POSTGRES_DATABASE,
            database_name: Arc::from("postgres"),
            user: BOOTSTRAP_ROLE,
            user_name: Arc::from("postgres"),
            session_user: BOOTSTRAP_ROLE,
            search_path: Arc::from(["$user".to_owned(), "public".to_owned()]),
            backend: 1,
        };
        PlainSession { identity: Arc::new(identity), sequences: Arc::default() }
    }
}

impl SessionInfo for PlainSession {
    fn identity(&self) -> Arc<SessionIdentity> {
        Arc::clone(&self.identity)
    }

    fn sequences(&self) -> Arc<SequenceState> {
        Arc::clone(&self.sequences)
    }

    fn setting(&self, _: &str) -> Option<String> {
        None
    }

    fn set_setting(&self, name: &str, _: &str, _: bool) -> Result<String> {
        Err(PgError::unsupported(format!("there is no setting {name} here")))
    }
}
