//! The session's state, and the transaction control that all kinds of statements share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use meridian_base::clock::{Clock, SystemClock};
use meridian_catalog::{Catalog, DatabaseDesc, RoleDesc};
use meridian_cluster::{Isolation, KvError, Txn, TxnOptions};
use meridian_exec::virtuals::{CatalogHost, SessionInfo};
use meridian_exec::{Node, StatementContext, catalog_store, from_kv};
use meridian_types::context::Settings as Formatting;
use meridian_types::{EvalContext, Host, PgError, Result, SqlState};
use parking_lot::Mutex;

use crate::again::Executed;
use crate::block::{Block, State};
use crate::client::{Client, Severity};
use crate::cursor::SqlCursor;
use crate::extended::Portal;
use crate::host::{self, Peers, SessionShared};
use crate::interrupt::{IdleLimit, Interrupt};
use crate::plan::View;
use crate::run::replace_if_other;
use crate::sessions::Opening;
use crate::settings::{Hot, Settings};
use crate::simple::Shaped;
use crate::statements::{PreparedStatement, Shape, TextCache};

/// Microseconds from 1970-01-01 to 2000-01-01.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// The wall clock in PostgreSQL's unit: microseconds since 2000-01-01 UTC.
pub(crate) fn now_micros() -> i64 {
    i64::try_from(SystemClock.now_micros()).unwrap_or(i64::MAX) - POSTGRES_EPOCH_MICROS
}

/// A view, and the kernels' host that shows it.
struct CurrentView {
    /// Epochs of catalog and identity at which it was found to be current; `None` when it shows a
    /// transaction's own changes.
    epochs: Option<(u64, u64)>,
    view: Arc<View>,
    host: Arc<dyn Host>,
}

/// Copies of what statements ask of the settings, and what the client was told of them.
struct Copied {
    epoch: Option<u64>,
    told: Option<u64>,
    hot: Hot,
    formatting: Arc<Formatting>,
}

/// One client's session.
pub struct Session {
    pub(crate) node: Arc<Node>,
    pub(crate) shared: Arc<SessionShared>,
    pub(crate) interrupt: Interrupt,
    pub(crate) block: Block,
    view: Option<CurrentView>,
    copied: Copied,
    /// The context of the last short statement, to be filled in anew for the next.
    pub(crate) spare: Option<Arc<StatementContext>>,
    pub(crate) statements: HashMap<String, Arc<PreparedStatement>>,
    pub(crate) unnamed: Option<Arc<PreparedStatement>>,
    pub(crate) portals: HashMap<String, Portal>,
    pub(crate) unnamed_portal: Option<Portal>,
    pub(crate) executed: Option<Executed>,
    pub(crate) cursors: HashMap<String, SqlCursor>,
    pub(crate) texts: TextCache<Arc<PreparedStatement>>,
    pub(crate) shapes: TextCache<Shape>,
    /// What [`Session::shaped`] has said of the text that is run next.
    pub(crate) shaped_ahead: Option<Option<Shaped>>,
    /// The text that is run has several statements.
    pub(crate) several: bool,
    pub(crate) statement_time: i64,
    reported: Vec<(&'static str, String)>,
}

impl Session {
    pub(crate) fn new(
        node: Arc<Node>,
        opening: &Opening<'_>,
        role: &RoleDesc,
        database: &DatabaseDesc,
        settings: Settings,
        peers: &Arc<Peers>,
    ) -> Session {
        let reported = settings.reported();
        let shared = SessionShared::new(opening, role, database, settings, peers);
        let shared = Arc::new(shared);
        host::enter(peers, &shared);
        Session {
            node,
            shared,
            interrupt: opening.interrupt.clone(),
            block: Block::idle(),
            view: None,
            copied: Copied {
                epoch: None,
                told: None,
                hot: Hot::default(),
                formatting: Arc::default(),
            },
            spare: None,
            statements: HashMap::new(),
            unnamed: None,
            portals: HashMap::new(),
            unnamed_portal: None,
            executed: None,
            cursors: HashMap::new(),
            texts: TextCache::default(),
            shapes: TextCache::default(),
            shaped_ahead: None,
            several: false,
            statement_time: now_micros(),
            reported,
        }
    }

    /// How the session is interrupted.
    pub fn interrupt(&self) -> Interrupt {
        self.interrupt.clone()
    }

    /// The byte of ReadyForQuery: `I`, `T` or `E`.
    pub fn status(&self) -> u8 {
        self.block.status()
    }

    /// No transaction is open, not even one that ends with its message.
    pub fn rests(&self) -> bool {
        self.block.state == State::Idle
    }

    /// The settings that a new client is told of.
    pub fn reported_settings(&self) -> Vec<(String, String)> {
        self.reported.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    /// How long the client may be silent now.
    pub fn idle_limit(&mut self) -> IdleLimit {
        let settings = self.hot();
        let (millis, state, message) = if self.block.is_explicit() {
            (
                settings.idle_in_transaction_timeout_ms,
                SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
                "terminating connection due to idle-in-transaction timeout",
            )
        } else {
            (
                settings.idle_session_timeout_ms,
                SqlState::IDLE_SESSION_TIMEOUT,
                "terminating connection due to idle-session timeout",
            )
        };
        let limit = std::time::Duration::from_millis(millis);
        IdleLimit((millis > 0).then(|| (limit, PgError::new(state, message))))
    }

    /// Ends the session: its transaction is rolled back, its temporary tables are dropped.
    pub async fn close(mut self) {
        self.rollback();
        if let Err(error) = self.drop_temporary().await {
            tracing::warn!(%error, "temporary tables were not dropped");
        }
        self.node.store().advisory_unlock_all(self.shared.backend());
    }

    /// The catalog that statements see: the node's newest, with this transaction's changes.
    pub(crate) fn catalog(&mut self) -> Arc<Catalog> {
        let newest = self.node.catalog();
        if self.block.overlay.is_some() {
            return Arc::clone(self.block.overlay(&newest).catalog());
        }
        newest
    }

    /// The view that names are resolved in. It is the same one until catalog, search path or role
    /// change, so that a plan is current exactly when its view is this one.
    pub(crate) fn view(&mut self) -> Arc<View> {
        Arc::clone(&self.current_view().view)
    }

    fn current_view(&mut self) -> &CurrentView {
        // Read before catalog and identity themselves, so that they are never taken for newer.
        let epochs = (self.node.catalog_epoch(), self.shared.identity_epoch());
        let epochs = self.block.overlay.is_none().then_some(epochs);
        let mut current = self.view.take();
        if epochs.is_none() || current.as_ref().is_none_or(|current| current.epochs != epochs) {
            let (catalog, identity) = (self.catalog(), self.shared.identity());
            current = current.filter(|current| {
                Arc::ptr_eq(&current.view.catalog, &catalog)
                    && Arc::ptr_eq(&current.view.identity, &identity)
            });
            let view = match &current {
                Some(current) => Arc::clone(&current.view),
                None => Arc::new(View::new(catalog, identity)),
            };
            current = Some(CurrentView {
                epochs,
                host: current.map_or_else(|| self.host_of(&view), |current| current.host),
                view,
            });
        }
        self.view.insert(current.expect("made above where there was none"))
    }

    /// What kernels see of a view, the node and this session.
    fn host_of(&self, view: &Arc<View>) -> Arc<dyn Host> {
        Arc::new(CatalogHost {
            view: Arc::clone(view),
            node: Arc::clone(&self.node),
            session: Arc::clone(&self.shared) as Arc<dyn SessionInfo>,
        })
    }

    /// What kernels may know of the session, for one statement.
    pub(crate) fn eval(&mut self) -> EvalContext {
        let host = Arc::clone(&self.current_view().host);
        EvalContext {
            settings: Arc::clone(&self.copy_settings().formatting),
            transaction_time: self.block.started,
            statement_time: self.statement_time,
            host,
        }
    }

    /// Makes an older context of this session like [`Session::eval`]'s.
    pub(crate) fn fill_eval(&mut self, eval: &mut EvalContext) {
        eval.transaction_time = self.block.started;
        eval.statement_time = self.statement_time;
        replace_if_other(&mut eval.settings, &self.copy_settings().formatting);
        replace_if_other(&mut eval.host, &self.current_view().host);
    }

    /// The settings that every statement asks for.
    pub(crate) fn hot(&mut self) -> Hot {
        self.copy_settings().hot
    }

    fn copy_settings(&mut self) -> &Copied {
        let epoch = Some(self.shared.settings_epoch.load(Ordering::Acquire));
        if self.copied.epoch != epoch {
            let settings = self.shared.settings.lock();
            self.copied.hot = settings.hot();
            self.copied.formatting = Arc::clone(settings.formatting());
            self.copied.epoch = epoch;
        }
        &self.copied
    }

    /// Makes sure that a transaction is open, as the statement about to run needs.
    pub(crate) fn ensure_transaction(&mut self) {
        if self.block.state != State::Idle {
            return;
        }
        let settings = self.hot();
        self.block.isolation = settings.isolation;
        self.block.read_only = settings.read_only;
        self.block.deferrable = settings.deferrable;
        self.block.started = self.statement_time;
        self.block.state = State::Implicit;
        self.begin_txn();
    }

    /// Begins the transaction itself, at the block's isolation level.
    pub(crate) fn begin_txn(&mut self) {
        self.block.txn = Some(self.new_txn());
        self.shared.settings.lock().push(0);
    }

    /// A transaction at the block's isolation level.
    pub(crate) fn new_txn(&mut self) -> Txn {
        let options = TxnOptions {
            isolation: self.block.isolation,
            read_only: self.block.read_only,
            backend: self.shared.backend(),
            database: self.shared.identity().database,
        };
        let time = self.follower_time();
        let store = self.node.store();
        let past = time.and_then(|time| Some((time, store.begin_as_of(options, time).ok()?)));
        self.block.follows = past.is_some();
        self.block.as_of = past.as_ref().map(|(time, _)| *time);
        let mut txn = past.map_or_else(|| store.begin(options), |(_, txn)| txn);
        txn.set_cancel(self.interrupt.token());
        txn
    }

    /// Takes the statement's snapshot and its lock time-out.
    pub(crate) fn begin_statement(&mut self) {
        self.limit_locks();
        if let Some(txn) = &mut self.block.txn {
            txn.begin_statement();
        }
        self.block.used = true;
    }

    /// Takes the lock time-out, before the statement has its tables.
    pub(crate) fn limit_locks(&mut self) {
        let lock_timeout = self.hot().lock_timeout_ms;
        if let Some(txn) = &mut self.block.txn {
            let limit = std::time::Duration::from_millis(lock_timeout);
            txn.set_lock_timeout((lock_timeout > 0).then_some(limit));
        }
    }

    /// Commits: deferred constraints, the catalog's changes, the transaction, the new catalog.
    pub(crate) async fn commit(&mut self) -> Result<()> {
        let outcome = self.try_commit().await;
        self.end_transaction(outcome.is_ok());
        outcome
    }

    async fn try_commit(&mut self) -> Result<()> {
        self.hold_cursors().await?;
        if !self.block.deferred.lock().is_empty() {
            self.check_deferred().await?;
        }
        let Some(mut txn) = self.block.txn.take() else { return Ok(()) };
        let overlay = self.block.overlay.take().filter(|overlay| !overlay.is_empty());
        if overlay.is_some() {
            let locked = txn.lock_definitions().await;
            locked.map_err(|e| self.interrupt.explain(from_kv(e)))?;
        }
        let committed = txn.commit().await;
        if overlay.is_some() && committed == Err(KvError::Ambiguous) {
            catalog_store::reread(&self.node).await;
        }
        committed.map_err(|e| self.interrupt.explain(from_kv(e)))?;
        if let Some(overlay) = &overlay {
            catalog_store::publish(&self.node, overlay);
            catalog_store::announce(&self.node, overlay, &txn).await?;
        }
        // Only now may others use the tables that were changed: they will see the new catalog.
        txn.release_locks();
        Ok(())
    }

    /// Rolls back whatever is open.
    pub(crate) fn rollback(&mut self) {
        if let Some(mut txn) = self.block.txn.take() {
            txn.rollback();
        }
        self.end_transaction(false);
    }

    pub(crate) fn end_transaction(&mut self, committed: bool) {
        if self.block.state == State::Idle {
            return;
        }
        self.block.end();
        self.shared.settings.lock().end_transaction(committed);
        self.shared.advisory.lock().end();
        self.close_portals_at_end(committed);
    }

    /// An error outside of a statement's own handling: the transaction fails.
    pub fn fail(&mut self) {
        match self.block.state {
            State::Implicit => self.rollback(),
            State::Explicit => {
                self.block.state = State::Failed;
                // Nothing can bring it back but a savepoint: without one its locks go now.
                if self.block.depth() == 0
                    && let Some(mut txn) = self.block.txn.take()
                {
                    txn.rollback();
                    txn.release_locks();
                    self.shared.advisory.lock().end();
                }
            }
            State::Idle | State::Failed => {}
        }
    }

    /// Tells the client of notices, and of settings that have changed.
    pub(crate) fn tell<C: Client>(&mut self, client: &mut C) {
        let epoch = Some(self.shared.settings_epoch.load(Ordering::Acquire));
        if self.copied.told == epoch {
            return;
        }
        self.copied.told = epoch;
        let notices = std::mem::take(&mut *self.shared.notices.lock());
        if !notices.is_empty() {
            let least = severity(self.shared.settings.lock().get("client_min_messages"));
            for (severity, notice) in notices {
                if severity >= least {
                    client.notice(severity, &notice);
                }
            }
        }
        let mut settings = self.shared.settings.lock();
        if !settings.take_changed() {
            return;
        }
        let now = settings.reported();
        drop(settings);
        for (old, new) in self.reported.iter().zip(&now) {
            if old.1 != new.1 {
                client.parameter_status(new.0, &new.1);
            }
        }
        self.reported = now;
    }

    /// Keeps a notice for the client.
    pub(crate) fn notice(&self, severity: Severity, notice: PgError) {
        self.shared.notice(severity, notice);
    }
}

/// An isolation level by its name.
pub(crate) fn isolation(name: &str) -> Isolation {
    match name {
        "serializable" => Isolation::Serializable,
        "repeatable read" => Isolation::RepeatableRead,
        _ => Isolation::ReadCommitted,
    }
}

fn severity(name: &str) -> Severity {
    match name {
        "notice" => Severity::Notice,
        "warning" => Severity::Warning,
        "log" => Severity::Log,
        "error" => Severity::Info,
        _ => Severity::Debug,
    }
}

/// Notices of a session that wait to be sent.
pub(crate) type Notices = Mutex<Vec<(Severity, PgError)>>;
