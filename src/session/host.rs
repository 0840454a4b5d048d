//! What kernels and the catalog's functions may know of a session, and change in it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use meridian_catalog::{DatabaseDesc, RoleDesc};
use meridian_cluster::{LockInfo, PreparedTxn, Signal, Store};
use meridian_exec::Node;
use meridian_exec::catalog_store::SessionIdentity;
use meridian_exec::ddl::SequenceState;
use meridian_exec::virtuals::{ActivityRow, PreparedRow, SessionInfo, SettingRow};
use meridian_types::oid::Oid;
use meridian_types::{PgError, Result, SqlState};
use parking_lot::Mutex;

use crate::advisory::AdvisoryLocks;
use crate::client::Severity;
use crate::interrupt::Interrupt;
use crate::session::{Notices, now_micros};
use crate::sessions::Opening;
use crate::settings::{self, Settings};

/// The part of a session that its statements share with it.
#[derive(Debug)]
pub(crate) struct SessionShared {
    pub(crate) pid: i32,
    pub(crate) peer: SocketAddr,
    pub(crate) settings: Mutex<Settings>,
    pub(crate) notices: Notices,
    pub(crate) sequences: Arc<SequenceState>,
    /// The simple protocol is spoken: rows of utility statements need their description.
    simple: AtomicBool,
    roles: Mutex<Roles>,
    database: (Oid, Arc<str>),
    identity: Mutex<Arc<SessionIdentity>>,
    /// Counts changes of the identity.
    identity_epoch: AtomicU64,
    /// Counts changes of settings, and notices: while it stands, a copy of either is current.
    pub(crate) settings_epoch: Arc<AtomicU64>,
    pub(crate) interrupt: Interrupt,
    activity: Mutex<Activity>,
    /// `pg_prepared_statements`, by name.
    pub(crate) prepared: Mutex<BTreeMap<String, PreparedRow>>,
    /// Advisory locks of the transaction.
    pub(crate) advisory: Mutex<AdvisoryLocks>,
    started: i64,
    peers: Weak<Peers>,
}

/// What `pg_stat_activity` tells of a session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Activity {
    pub(crate) query: Arc<str>,
    pub(crate) query_start: Option<i64>,
    pub(crate) state_change: Option<i64>,
    pub(crate) transaction_start: Option<i64>,
    pub(crate) state: &'static str,
}

/// All sessions of the node.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    pub(crate) sessions: Mutex<BTreeMap<i32, Weak<SessionShared>>>,
    pub(crate) started: i64,
    pub(crate) node: Option<Arc<Node>>,
}

#[derive(Clone, Debug)]
struct Role {
    oid: Oid,
    name: Arc<str>,
    superuser: bool,
}

#[derive(Debug)]
struct Roles {
    /// The role that logged in.
    login: Role,
    /// SET SESSION AUTHORIZATION
    session: Role,
    /// SET ROLE
    current: Role,
}

impl Role {
    fn of(role: &RoleDesc) -> Role {
        Role { oid: role.oid, name: role.name.as_str().into(), superuser: role.superuser }
    }
}

impl SessionShared {
    pub(crate) fn new(
        opening: &Opening<'_>,
        role: &RoleDesc,
        database: &DatabaseDesc,
        settings: Settings,
        peers: &Arc<Peers>,
    ) -> SessionShared {
        let login = Role::of(role);
        let roles = Roles { session: login.clone(), current: login.clone(), login };
        let database = (database.oid, Arc::from(database.name.as_str()));
        let identity = Arc::new(identity(&roles, &database, &settings, opening.pid));
        let settings_epoch = settings.epoch();
        SessionShared {
            pid: opening.pid,
            peer: opening.peer,
            settings: Mutex::new(settings),
            notices: Notices::default(),
            sequences: Arc::default(),
            simple: AtomicBool::new(true),
            roles: Mutex::new(roles),
            database,
            identity: Mutex::new(identity),
            identity_epoch: AtomicU64::new(0),
            settings_epoch,
            interrupt: opening.interrupt.clone(),
            activity: Mutex::new(Activity { state: "idle", ..Activity::default() }),
            prepared: Mutex::default(),
            advisory: Mutex::default(),
            started: now_micros(),
            peers: Arc::downgrade(peers),
        }
    }

    /// The process id as the KV layer knows it.
    pub(crate) fn backend(&self) -> u32 {
        u32::try_from(self.pid).unwrap_or_default()
    }

    /// Who runs statements, and where names are looked up. The same one until that changes.
    pub(crate) fn identity(&self) -> Arc<SessionIdentity> {
        Arc::clone(&self.identity.lock())
    }

    /// Changes settings, and the identity where it depends on them.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Settings) -> Result<()>) -> Result<()> {
        let outcome = change(&mut self.settings.lock());
        self.refresh();
        outcome
    }

    /// Works the identity out anew, after settings or roles have changed.
    pub(crate) fn refresh(&self) {
        let new = identity(&self.roles.lock(), &self.database, &self.settings.lock(), self.pid);
        let mut current = self.identity.lock();
        if **current != new {
            *current = Arc::new(new);
            self.identity_epoch.fetch_add(1, Ordering::Release);
        }
    }

    /// A number that has changed whenever the identity has.
    pub(crate) fn identity_epoch(&self) -> u64 {
        self.identity_epoch.load(Ordering::Acquire)
    }

    /// The role that logged in.
    pub(crate) fn login_role(&self) -> Oid {
        self.roles.lock().login.oid
    }

    /// The current role is a superuser.
    pub(crate) fn is_superuser(&self) -> bool {
        self.roles.lock().current.superuser
    }

    /// SET ROLE, or SET SESSION AUTHORIZATION.
    pub(crate) fn take_role(&self, role: &RoleDesc, session: bool) {
        let mut roles = self.roles.lock();
        roles.current = Role::of(role);
        let mut settings = self.settings.lock();
        if session {
            roles.session = Role::of(role);
            settings.set_internal("session_authorization", &role.name);
        } else {
            settings.set_internal("role", &role.name);
        }
        settings.set_internal("is_superuser", if role.superuser { "on" } else { "off" });
        drop((roles, settings));
        self.refresh();
    }

    /// Back to the role that logged in.
    pub(crate) fn reset_role(&self) {
        let mut roles = self.roles.lock();
        let login = roles.login.clone();
        let mut settings = self.settings.lock();
        settings.set_internal("session_authorization", &login.name);
        settings.set_internal("role", "none");
        settings.set_internal("is_superuser", if login.superuser { "on" } else { "off" });
        roles.session = login.clone();
        roles.current = login;
        drop((roles, settings));
        self.refresh();
    }

    /// Which protocol the statement came by.
    pub(crate) fn set_simple(&self, simple: bool) {
        self.simple.store(simple, Ordering::Relaxed);
    }

    /// The simple protocol is spoken.
    pub(crate) fn simple(&self) -> bool {
        self.simple.load(Ordering::Relaxed)
    }

    /// Keeps a notice for the client.
    pub(crate) fn notice(&self, severity: Severity, notice: PgError) {
        self.notices.lock().push((severity, notice));
        self.settings_epoch.fetch_add(1, Ordering::Release);
    }
}

fn identity(
    roles: &Roles,
    database: &(Oid, Arc<str>),
    settings: &Settings,
    backend: i32,
) -> SessionIdentity {
    SessionIdentity {
        database: database.0,
        database_name: Arc::clone(&database.1),
        user: roles.current.oid,
        user_name: Arc::clone(&roles.current.name),
        session_user: roles.session.oid,
        search_path: settings::identifier_list(settings.get("search_path")).into(),
        backend,
    }
}

impl SessionShared {
    /// A statement begins.
    pub(crate) fn active(&self, query: &Arc<str>, now: i64, transaction_start: i64) {
        let mut activity = self.activity.lock();
        if !Arc::ptr_eq(&activity.query, query) {
            activity.query = Arc::clone(query);
        }
        activity.query_start = Some(now);
        activity.state_change = Some(now);
        activity.transaction_start = Some(transaction_start);
        activity.state = "active";
    }

    /// It has ended, with this state of the block.
    pub(crate) fn idle(&self, status: u8) {
        let mut activity = self.activity.lock();
        activity.state = match status {
            b'T' => "idle in transaction",
            b'E' => "idle in transaction (aborted)",
            _ => "idle",
        };
        if status == b'I' {
            activity.transaction_start = None;
        }
    }

    fn store(&self) -> Result<Arc<Store>> {
        let node = self.peers.upgrade().and_then(|peers| peers.node.clone());
        node.map(|node| Arc::clone(node.store()))
            .ok_or_else(|| PgError::internal("a session without a store"))
    }

    fn activity_row(&self) -> ActivityRow {
        let activity = self.activity.lock().clone();
        let identity = self.identity();
        ActivityRow {
            database: identity.database,
            pid: self.pid,
            user: identity.session_user,
            application_name: self.settings.lock().get("application_name").to_owned(),
            client_addr: Some(self.peer.ip().to_string()),
            client_port: Some(i32::from(self.peer.port())),
            backend_start: Some(self.started),
            xact_start: activity.transaction_start,
            query_start: activity.query_start,
            state_change: activity.state_change,
            wait_event: None,
            state: Some(activity.state.to_owned()),
            query: activity.query.to_string(),
        }
    }
}

impl SessionInfo for SessionShared {
    fn identity(&self) -> Arc<SessionIdentity> {
        SessionShared::identity(self)
    }

    fn sequences(&self) -> Arc<SequenceState> {
        Arc::clone(&self.sequences)
    }

    fn setting(&self, name: &str) -> Option<String> {
        self.settings.lock().show(name).ok()
    }

    fn set_setting(&self, name: &str, value: &str, local: bool) -> Result<String> {
        let superuser = self.is_superuser();
        self.change(|settings| settings.set(name, value, local, superuser))?;
        self.settings.lock().show(name)
    }

    fn settings(&self) -> Vec<SettingRow> {
        let rows = self.settings.lock().rows();
        rows.into_iter()
            .map(|row| SettingRow {
                name: row.name.to_owned(),
                setting: row.setting.clone(),
                unit: row.unit.map(str::to_owned),
                category: row.category.to_owned(),
                short_desc: row.description.to_owned(),
                context: row.context.to_owned(),
                vartype: row.vartype.to_owned(),
                source: row.source.to_owned(),
                min_val: row.min,
                max_val: row.max,
                enumvals: row.enum_values.map(|v| v.iter().map(|s| (*s).to_owned()).collect()),
                boot_val: Some(row.boot.to_owned()),
                reset_val: Some(row.setting),
            })
            .collect()
    }

    fn activity(&self) -> Vec<ActivityRow> {
        let Some(peers) = self.peers.upgrade() else { return vec![] };
        let all: Vec<_> = peers.sessions.lock().values().filter_map(Weak::upgrade).collect();
        all.iter().map(|session| session.activity_row()).collect()
    }

    fn prepared_statements(&self) -> Vec<PreparedRow> {
        self.prepared.lock().values().cloned().collect()
    }

    fn follower_staleness(&self) -> Duration {
        let settings = self.settings.lock().hot();
        Duration::from_millis(settings.follower_read_staleness_ms)
    }

    fn server_start(&self) -> i64 {
        self.peers.upgrade().map_or(0, |peers| peers.started)
    }

    fn signal(&self, pid: i32, terminate: bool) -> bool {
        let Some(peers) = self.peers.upgrade() else { return false };
        let found = peers.sessions.lock().get(&pid).and_then(Weak::upgrade);
        let Some(session) = &found else {
            let (Ok(process), Ok(store)) = (u32::try_from(pid), self.store()) else { return false };
            let signal = Signal { process, terminate, secret: None };
            return store.has_peers() && wait_for(store.signal(signal));
        };
        if terminate {
            session.interrupt.terminate()
        } else {
            session.interrupt.cancel()
        }
        true
    }

    fn blocking_pids(&self, pid: i32) -> Vec<i32> {
        let (Ok(process), Ok(store)) = (u32::try_from(pid), self.store()) else { return vec![] };
        let blocking = wait_for(store.blocking(process));
        blocking.into_iter().filter_map(|pid| i32::try_from(pid).ok()).collect()
    }

    fn locks(&self) -> Option<Vec<LockInfo>> {
        let store = self.store().ok().filter(|store| store.has_peers())?;
        Some(wait_for(store.lock_view_everywhere()))
    }

    fn prepared_transactions(&self) -> Result<Vec<PreparedTxn>> {
        wait_for(self.store()?.prepared()).map_err(meridian_exec::from_kv)
    }

    fn advisory_lock(
        &self,
        key: (u32, u32, u32),
        shared: bool,
        session: bool,
        wait: bool,
    ) -> Result<bool> {
        let store = self.store()?;
        let millis = self.settings.lock().hot().lock_timeout_ms;
        let limit = (millis > 0).then(|| Duration::from_millis(millis));
        let mut held = self.advisory.lock();
        let txn = held.txn(&store, self.backend(), self.database.0);
        txn.set_cancel(self.interrupt.token());
        txn.set_lock_timeout(limit);
        let asked = txn.advisory_lock(key, shared, session, wait);
        wait_for(asked).map_err(meridian_exec::from_kv)
    }

    fn advisory_unlock(&self, key: (u32, u32, u32), shared: bool) -> Result<bool> {
        Ok(self.store()?.advisory_unlock(self.backend(), self.database.0, key, shared))
    }

    fn advisory_unlock_all(&self) {
        if let Ok(store) = self.store() {
            store.advisory_unlock_all(self.backend());
        }
    }

    fn sleep(&self, seconds: f64) -> Result<()> {
        let limit = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
        let token = self.interrupt.token();
        let asleep = tokio::time::timeout(limit, token.cancelled());
        match wait_for(asleep) {
            Err(_) => Ok(()),
            Ok(()) => Err(PgError::new(
                SqlState::QUERY_CANCELED,
                "canceling statement due to user request",
            )),
        }
    }
}

/// Blocks this worker, as the functions' contract is synchronous; others go on.
fn wait_for<T>(what: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(what))
}

/// Enters a session among its peers.
pub(crate) fn enter(peers: &Arc<Peers>, session: &Arc<SessionShared>) {
    peers.sessions.lock().insert(session.pid, Arc::downgrade(session));
}

impl Drop for SessionShared {
    fn drop(&mut self) {
        if let Some(peers) = self.peers.upgrade() {
            peers.sessions.lock().remove(&self.pid);
        }
    }
}
