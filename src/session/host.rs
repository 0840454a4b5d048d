//! What kernels and the catalog's functions may know of a session, and change in it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use meridian_catalog::{DatabaseDesc, RoleDesc};
use meridian_exec::catalog_store::SessionIdentity;
use meridian_exec::ddl::SequenceState;
use meridian_types::oid::Oid;
use meridian_types::{PgError, Result};
use parking_lot::Mutex;

use crate::client::Severity;
use crate::session::Notices;
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
    ) -> SessionShared {
        let login = Role::of(role);
        let roles = Roles { session: login.clone(), current: login.clone(), login };
        let database = (database.oid, Arc::from(database.name.as_str()));
        let identity = Arc::new(identity(&roles, &database, &settings, opening.pid));
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
        let new =
            identity(&self.roles.lock(), &self.database, &self.settings.lock(), self.pid);
        let mut current = self.identity.lock();
        if **current != new {
            *current = Arc::new(new);
        }
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
