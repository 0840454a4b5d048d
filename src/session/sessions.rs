//! What all sessions of a node share, and how one is opened.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use meridian_cluster::Signal;
use meridian_exec::Node;
use meridian_exec::virtuals::privileges;
use meridian_types::{PgError, Result, SqlState};

use crate::host::Peers;
use crate::interrupt::Interrupt;
use crate::session::Session;
use crate::settings::Settings;

/// The sessions of one node.
#[derive(Debug)]
pub struct Sessions {
    node: Arc<Node>,
    peers: Arc<Peers>,
    /// `max_prepared_transactions`, if it isn't the default.
    prepared_max: Option<u32>,
}

/// A client that has been let in and asks for a session.
#[derive(Debug)]
pub struct Opening<'a> {
    /// The start-up packet: `user`, `database`, `options`, and settings by name.
    pub params: &'a BTreeMap<String, String>,
    /// What `pg_backend_pid()` says.
    pub pid: i32,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// Over TLS.
    pub encrypted: bool,
    /// How it is interrupted.
    pub interrupt: Interrupt,
}

impl Sessions {
    /// Sessions on this node, which may prepare so many transactions (PREPARE TRANSACTION).
    pub fn new(node: Arc<Node>, prepared_max: Option<u32>) -> Arc<Sessions> {
        let started = crate::session::now_micros();
        let peers = Arc::new(Peers { started, node: Some(Arc::clone(&node)), ..Peers::default() });
        Arc::new(Sessions { node, peers, prepared_max })
    }

    /// The node.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// The process id of a session, whose number among those of this node is `own`; none of another node
    /// has the same.
    pub fn process_id(&self, own: u32) -> i32 {
        let pid = meridian_cluster::process_id(self.node.store().node(), own);
        i32::try_from(pid).expect("a process id has 31 bits")
    }

    /// Hears of signals from other nodes for sessions here; the listener says whether there is such a one.
    pub fn on_signal(&self, heard: impl Fn(Signal) -> bool + Send + Sync + 'static) {
        self.node.store().on_signal(heard);
    }

    /// Passes a signal on to the node of its session.
    pub async fn pass_on(&self, signal: Signal) {
        // Who cancels is never told what came of it.
        let _ = self.node.store().signal(signal).await;
    }

    /// The verifier of a role's password, in PostgreSQL's form; `None` when it cannot log in by one.
    pub fn password_verifier(&self, role: &str) -> Option<String> {
        let catalog = self.node.catalog();
        let role = catalog.role_by_name(role)?;
        let expired = role.valid_until.is_some_and(|until| until < crate::session::now_micros());
        if expired { None } else { role.password.clone() }
    }

    /// The database has just been made: nobody has given its superuser a password.
    pub fn superuser_lacks_password(&self) -> bool {
        self.node.catalog().role_by_name("postgres").is_some_and(|role| role.password.is_none())
    }

    /// Opens a session: finds role and database, and takes the settings that come with them.
    pub async fn open(&self, opening: Opening<'_>) -> Result<Session> {
        let catalog = self.node.catalog();
        let user = opening.params.get("user").map_or("", String::as_str);
        let database = opening.params.get("database").map_or(user, String::as_str);
        let role = catalog.role_by_name(user).ok_or_else(|| {
            PgError::new(
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                format!("role \"{user}\" does not exist"),
            )
        })?;
        if !role.login {
            return Err(PgError::new(
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                format!("role \"{user}\" is not permitted to log in"),
            ));
        }
        let database = catalog.database_by_name(database).ok_or_else(|| {
            PgError::new(
                SqlState::INVALID_CATALOG_NAME,
                format!("database \"{database}\" does not exist"),
            )
        })?;
        if !database.allow_connections {
            return Err(PgError::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("database \"{}\" is not currently accepting connections", database.name),
            ));
        }
        if !privileges::database_privilege(&catalog, role.oid, database, 'c') {
            let text = format!("permission denied for database \"{}\"", database.name);
            return Err(PgError::new(SqlState::INSUFFICIENT_PRIVILEGE, text)
                .detail("User does not have CONNECT privilege."));
        }
        let mut settings = Settings::default();
        for (name, value) in database.settings.iter().chain(&role.settings) {
            settings.set_default(name, value)?;
        }
        for (name, value) in opening.params {
            match name.as_str() {
                "user" | "database" | "replication" => {}
                "options" => {
                    for (name, value) in command_line_options(value)? {
                        settings.set_default(&name, &value)?;
                    }
                }
                name => settings.set_default(name, value)?,
            }
        }
        if let Some(prepared_max) = self.prepared_max {
            settings.set_internal("max_prepared_transactions", &prepared_max.to_string());
        }
        settings.set_internal("session_authorization", user);
        settings.set_internal("is_superuser", if role.superuser { "on" } else { "off" });
        Ok(Session::new(Arc::clone(&self.node), &opening, role, database, settings, &self.peers))
    }

    /// Drops the temporary tables of sessions of this node that a crash has ended. To be called before any
    /// session is opened.
    pub async fn drop_left_over(&self) -> Result<()> {
        let catalog = self.node.catalog();
        let me = self.node.store().node();
        let left_over = |schema: &str| {
            let process = schema.strip_prefix("pg_temp_").and_then(|pid| pid.parse().ok());
            process.is_some_and(|process| meridian_cluster::home_of_process(process) == me)
        };
        for database in catalog.databases() {
            for schema in catalog.schemas(database.oid) {
                if left_over(&schema.name) {
                    let text = format!("DROP SCHEMA {} CASCADE", schema.name);
                    self.run_internal_in(&database.name, &text).await?;
                }
            }
        }
        Ok(())
    }

    /// Runs statements as the superuser, for the node itself.
    pub async fn run_internal(&self, text: &str) -> Result<()> {
        self.run_internal_in("postgres", text).await
    }

    async fn run_internal_in(&self, database: &str, text: &str) -> Result<()> {
        let params = BTreeMap::from([
            ("user".to_owned(), "postgres".to_owned()),
            ("database".to_owned(), database.to_owned()),
        ]);
        let opening = Opening {
            params: &params,
            pid: 0,
            peer: SocketAddr::from(([127, 0, 0, 1], 0)),
            encrypted: false,
            interrupt: Interrupt::default(),
        };
        let mut session = self.open(opening).await?;
        let mut client = crate::client::NoClient::default();
        let _ = session.simple_query(text, &mut client).await;
        session.close().await;
        client.into_result()
    }
}

/// Takes `-c name=value --name=value` apart; a backslash keeps the next character as it is.
fn command_line_options(text: &str) -> Result<Vec<(String, String)>> {
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.extend(chars.next()),
            c if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    let mut options = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let assignment = match word.strip_prefix("--") {
            Some(rest) => rest.to_owned(),
            None if word == "-c" => words.next().unwrap_or_default(),
            None => match word.strip_prefix("-c") {
                Some(rest) => rest.to_owned(),
                None => return Err(bad_option(&word)),
            },
        };
        let Some((name, value)) = assignment.split_once('=') else {
            return Err(bad_option(&assignment));
        };
        options.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(options)
}

fn bad_option(word: &str) -> PgError {
    PgError::new(
        SqlState::SYNTAX_ERROR,
        format!("invalid command-line argument for server process: {word}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_startup_packet_are_taken_apart() {
        let options = command_line_options(r"-c search_path=a\ b,c --work-mem=8MB -cgeqo=off")
            .expect("valid");
        let expected = [("search_path", "a b,c"), ("work_mem", "8MB"), ("geqo", "off")];
        assert_eq!(options, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
        assert!(command_line_options("-x").is_err());
    }
}
