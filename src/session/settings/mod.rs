//! A session's settings (`SET`, `SHOW`, `RESET`), with PostgreSQL's transaction rules.
//!
//! A value set by SET lasts for the session unless the transaction that set it is rolled back; one
//! set by SET LOCAL lasts until the transaction ends. Both are undone by ROLLBACK TO a savepoint
//! that is older. [`Settings`] keeps the values that differ from the defaults, a second layer for
//! SET LOCAL, and a copy of both for the transaction's start and each savepoint.

mod table;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use meridian_types::context::Settings as Formatting;
use meridian_types::{PgError, Result, SqlState};

pub(crate) use table::{Context, Kind, SETTINGS, Setting, Unit};
pub use table::{SERVER_VERSION, SERVER_VERSION_NUM};

type Values = BTreeMap<String, String>;

/// The settings of one session.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What RESET goes back to: from the start-up packet, the role and the database.
    session_defaults: Values,
    /// SET
    values: Arc<Values>,
    /// SET LOCAL
    local: Arc<Values>,
    /// State at the start of the transaction and at each of its savepoints: (savepoint depth, …).
    saved: Vec<(usize, Arc<Values>, Arc<Values>)>,
    formatting: Arc<Formatting>,
    hot: Hot,
    epoch: Arc<AtomicU64>,
    /// A value has changed since [`Settings::take_changed`] was last asked.
    changed: bool,
}

/// What every statement asks for, worked out when a value changes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hot {
    pub(crate) isolation: meridian_cluster::Isolation,
    pub(crate) read_only: bool,
    pub(crate) deferrable: bool,
    pub(crate) statement_timeout_ms: u64,
    pub(crate) lock_timeout_ms: u64,
    pub(crate) idle_session_timeout_ms: u64,
    pub(crate) idle_in_transaction_timeout_ms: u64,
    pub(crate) work_mem_bytes: u64,
    pub(crate) follower_reads: bool,
    pub(crate) follower_read_staleness_ms: u64,
}

/// One line of `pg_settings`.
#[derive(Clone, Debug)]
pub struct SettingRow {
    /// `name`
    pub name: &'static str,
    /// `setting`, in the base unit
    pub setting: String,
    /// `unit`
    pub unit: Option<&'static str>,
    /// `category`
    pub category: &'static str,
    /// `short_desc`
    pub description: &'static str,
    /// `context`
    pub context: &'static str,
    /// `vartype`
    pub vartype: &'static str,
    /// `source`
    pub source: &'static str,
    /// `min_val`
    pub min: Option<String>,
    /// `max_val`
    pub max: Option<String>,
    /// `enumvals`
    pub enum_values: Option<&'static [&'static str]>,
    /// `boot_val`
    pub boot: &'static str,
}

impl Default for Settings {
    fn default() -> Settings {
        let mut settings = Settings {
            session_defaults: Values::new(),
            values: Arc::default(),
            local: Arc::default(),
            saved: vec![],
            formatting: Arc::default(),
            hot: Hot::default(),
            epoch: Arc::default(),
            changed: false,
        };
        settings.refresh_known();
        settings.changed = false;
        settings
    }
}

impl Settings {
    /// The value of a setting as SHOW prints it.
    pub fn show(&self, name: &str) -> Result<String> {
        match table::find(name) {
            Some(setting) => Ok(self.current(setting).to_owned()),
            None => self.custom(name).ok_or_else(|| unknown(name)),
        }
    }

    fn custom(&self, name: &str) -> Option<String> {
        let name = name.to_lowercase();
        [&*self.local, &*self.values, &self.session_defaults]
            .iter()
            .find_map(|values| values.get(&name))
            .cloned()
    }

    fn current<'a>(&'a self, setting: &'a Setting) -> &'a str {
        [&*self.local, &*self.values, &self.session_defaults]
            .iter()
            .find_map(|values| values.get(setting.name))
            .map_or(setting.default, String::as_str)
    }

    /// A setting that this code knows to exist.
    pub(crate) fn get(&self, name: &str) -> &str {
        table::find(name).map_or("", |setting| self.current(setting))
    }

    /// A boolean setting that this code knows to exist.
    pub(crate) fn get_bool(&self, name: &str) -> bool {
        self.get(name) == "on"
    }

    /// A number that has changed whenever a value has.
    pub(crate) fn epoch(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.epoch)
    }

    /// The settings that every statement asks for.
    pub(crate) fn hot(&self) -> Hot {
        self.hot
    }

    /// A time setting in milliseconds; 0 is "no limit".
    fn get_millis(&self, name: &str) -> u64 {
        value::base_units(self.get(name), Unit::Milliseconds)
            .and_then(|v| u64::try_from(v).ok())
            .unwrap_or(0)
    }

    /// A memory setting in bytes.
    fn get_bytes(&self, name: &str) -> u64 {
        value::base_units(self.get(name), Unit::Kilobytes)
            .and_then(|v| u64::try_from(v).ok())
            .unwrap_or(0)
            * 1024
    }

    /// How values are read and written.
    pub fn formatting(&self) -> &Arc<Formatting> {
        &self.formatting
    }

    /// Checks and sets a value. `superuser` tells whether the session may change what others may
    /// not; `local` is SET LOCAL.
    pub fn set(&mut self, name: &str, text: &str, local: bool, superuser: bool) -> Result<()> {
        let (key, value) = self.checked(name, text, superuser)?;
        if local {
            Arc::make_mut(&mut self.local).insert(key, value);
        } else {
            Arc::make_mut(&mut self.local).remove(&key);
            Arc::make_mut(&mut self.values).insert(key, value);
        }
        self.refresh()
    }

    /// Sets what RESET goes back to.
    pub(crate) fn set_default(&mut self, name: &str, text: &str) -> Result<()> {
        let (key, value) = self.checked(name, text, true)?;
        self.session_defaults.insert(key, value);
        self.refresh()
    }

    /// Sets a value that only the session itself may change.
    pub(crate) fn set_internal(&mut self, name: &'static str, value: &str) {
        self.session_defaults.insert(name.to_owned(), value.to_owned());
        self.changed = true;
        self.epoch.fetch_add(1, Ordering::Release);
    }

    fn checked(&self, name: &str, text: &str, superuser: bool) -> Result<(String, String)> {
        let Some(setting) = table::find(name) else {
            return custom_name(name).map(|key| (key, text.to_owned()));
        };
        match setting.context {
            Context::Internal => {
                return Err(cannot(format!("parameter \"{}\" cannot be changed", setting.name)));
            }
            Context::Postmaster => {
                return Err(cannot(format!(
                    "parameter \"{}\" cannot be changed without restarting the server",
                    setting.name
                )));
            }
            Context::Superuser if !superuser => {
                return Err(PgError::new(
                    SqlState::INSUFFICIENT_PRIVILEGE,
                    format!("permission denied to set parameter \"{}\"", setting.name),
                ));
            }
            Context::Superuser | Context::User => {}
        }
        Ok((setting.name.to_owned(), value::canonical(setting, text, self.get("DateStyle"))?))
    }

    /// RESET name, or SET name TO DEFAULT.
    pub fn reset(&mut self, name: &str, local: bool) -> Result<()> {
        let key = match table::find(name) {
            Some(setting) => {
                if matches!(setting.context, Context::Internal | Context::Postmaster) {
                    return Err(cannot(format!(
                        "parameter \"{}\" cannot be changed",
                        setting.name
                    )));
                }
                setting.name.to_owned()
            }
            None => custom_name(name)?,
        };
        if local {
            let default = self.session_defaults.get(&key).cloned();
            let default = default.or_else(|| table::find(&key).map(|s| s.default.to_owned()));
            Arc::make_mut(&mut self.local).insert(key, default.unwrap_or_default());
        } else {
            Arc::make_mut(&mut self.local).remove(&key);
            Arc::make_mut(&mut self.values).remove(&key);
        }
        self.refresh()
    }

    /// RESET ALL
    pub fn reset_all(&mut self) -> Result<()> {
        // RESET ALL leaves the identity of the session and of the transaction alone.
        let keep = |name: &str| {
            name.starts_with("transaction_") || matches!(name, "role" | "session_authorization")
        };
        Arc::make_mut(&mut self.values).retain(|name, _| keep(name));
        Arc::make_mut(&mut self.local).retain(|name, _| keep(name));
        self.refresh()
    }

    /// Remembers the values at the start of a transaction (depth 0) or at a savepoint.
    pub(crate) fn push(&mut self, depth: usize) {
        self.saved.push((depth, self.values.clone(), self.local.clone()));
    }

    /// Forgets what was remembered at this depth and deeper, keeping the values (RELEASE).
    pub(crate) fn forget(&mut self, depth: usize) {
        self.saved.retain(|(d, _, _)| *d < depth);
    }

    /// Goes back to the values at this depth, which stays remembered (ROLLBACK TO).
    pub(crate) fn restore(&mut self, depth: usize) {
        self.saved.retain(|(d, _, _)| *d <= depth);
        if let Some((d, values, local)) = self.saved.last()
            && *d == depth
        {
            (self.values, self.local) = (values.clone(), local.clone());
            self.refresh_known();
        }
    }

    /// Ends the transaction: SET LOCAL is undone, and at a rollback SET as well.
    pub(crate) fn end_transaction(&mut self, committed: bool) {
        if !committed && let Some((_, values, _)) = self.saved.first() {
            self.values.clone_from(values);
        }
        let changed = self.local.keys().any(|name| !name.starts_with("transaction_"))
            || (!committed && !self.saved.is_empty());
        if !self.local.is_empty() {
            self.local = Arc::default();
        }
        self.saved.clear();
        if changed {
            self.refresh_known();
        }
    }

    /// The settings that clients are told of, with their values.
    pub fn reported(&self) -> Vec<(&'static str, String)> {
        let reported = SETTINGS.iter().filter(|s| s.report);
        reported.map(|s| (s.name, self.current(s).to_owned())).collect()
    }

    /// All settings, as SHOW ALL and `pg_settings` list them.
    pub fn rows(&self) -> Vec<SettingRow> {
        SETTINGS.iter().map(|s| value::row(s, self.current(s), self.source(s))).collect()
    }

    fn source(&self, setting: &Setting) -> &'static str {
        if self.local.contains_key(setting.name) || self.values.contains_key(setting.name) {
            "session"
        } else if self.session_defaults.contains_key(setting.name) {
            "client"
        } else {
            "default"
        }
    }

    /// Sets what a setting tells until the transaction ends.
    pub(crate) fn set_for_transaction(&mut self, name: &str, value: &str) {
        Arc::make_mut(&mut self.local).insert(name.to_owned(), value.to_owned());
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// Whether a value has changed since this was last asked.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Works the formatting settings out anew.
    fn refresh(&mut self) -> Result<()> {
        self.changed = true;
        self.hot = Hot {
            isolation: crate::session::isolation(self.get("default_transaction_isolation")),
            read_only: self.get_bool("default_transaction_read_only"),
            deferrable: self.get_bool("default_transaction_deferrable"),
            statement_timeout_ms: self.get_millis("statement_timeout"),
            lock_timeout_ms: self.get_millis("lock_timeout"),
            idle_session_timeout_ms: self.get_millis("idle_session_timeout"),
            idle_in_transaction_timeout_ms: self.get_millis("idle_in_transaction_session_timeout"),
            work_mem_bytes: self.get_bytes("work_mem"),
            follower_reads: self.get_bool("follower_reads"),
            follower_read_staleness_ms: self.get_millis("follower_read_staleness"),
        };
        let formatting = value::formatting(|name| self.get(name).to_owned())?;
        if formatting != *self.formatting {
            self.formatting = Arc::new(formatting);
        }
        self.epoch.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// The same for values that were valid before.
    fn refresh_known(&mut self) {
        let _ = self.refresh();
    }
}

/// The elements of a list of identifiers such as `search_path`.
pub(crate) fn identifier_list(text: &str) -> Vec<String> {
    value::identifier_list(text)
}

fn unknown(name: &str) -> PgError {
    PgError::new(
        SqlState::UNDEFINED_OBJECT,
        format!("unrecognized configuration parameter \"{name}\""),
    )
}

fn cannot(message: String) -> PgError {
    PgError::new(SqlState::CANT_CHANGE_RUNTIME_PARAM, message)
}

/// A setting of the user's own needs a prefix: `app.user_id`.
fn custom_name(name: &str) -> Result<String> {
    let valid = |part: &str| {
        part.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '$')
    };
    match name.split_once('.') {
        None => Err(unknown(name)),
        Some((prefix, rest)) if valid(prefix) && rest.split('.').all(valid) => {
            Ok(name.to_lowercase())
        }
        Some(_) => Err(PgError::new(
            SqlState::INVALID_NAME,
            format!("invalid configuration parameter name \"{name}\""),
        )
        .detail(
            "Custom parameter names must be two or more simple identifiers separated by dots.",
        )),
    }
}

#[cfg(test)]
mod tests;
