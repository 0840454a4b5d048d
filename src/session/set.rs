//! SET, SHOW, RESET, and SET CONSTRAINTS.

use std::sync::Arc;

use meridian_sql::deparse::quote_ident;
use meridian_sql::parse::statement::{Set, SetValue};
use meridian_types::{Datum, PgError, PgType, Result, SqlState, oid};

use crate::client::{Client, ResultColumn};
use crate::extended::with_formats;
use crate::output;
use crate::session::Session;
use crate::settings::SETTINGS;

impl Session {
    /// SET
    pub(crate) fn set(&mut self, set: &Set) -> Result<String> {
        if set.from_current {
            return Err(PgError::unsupported("SET … FROM CURRENT is for functions only"));
        }
        match set.name.as_str() {
            "role" | "session_authorization" => return self.set_role(set),
            "transaction_isolation" | "transaction_read_only" | "transaction_deferrable" => {
                return self.set_transaction_setting(set);
            }
            _ => {}
        }
        let superuser = self.shared.is_superuser();
        let local = set.local;
        let Some(values) = &set.values else {
            self.shared.change(|settings| settings.reset(&set.name, local))?;
            return Ok("SET".to_owned());
        };
        let value = joined(&set.name, values)?;
        self.shared.change(|settings| settings.set(&set.name, &value, local, superuser))?;
        Ok("SET".to_owned())
    }

    fn set_transaction_setting(&mut self, set: &Set) -> Result<String> {
        use meridian_sql::parse::statement::{IsolationLevel, TransactionModes};
        let value = match &set.values {
            Some(values) => joined(&set.name, values)?,
            None => self
                .shared
                .settings
                .lock()
                .get(&set.name.replace("transaction_", "default_transaction_"))
                .to_owned(),
        };
        let flag = || {
            meridian_types::io::chars::parse_bool(&value).ok_or_else(|| {
                PgError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("parameter \"{}\" requires a Boolean value", set.name),
                )
            })
        };
        let mut modes = TransactionModes::default();
        match set.name.as_str() {
            "transaction_read_only" => modes.read_only = Some(flag()?),
            "transaction_deferrable" => modes.deferrable = Some(flag()?),
            _ => {
                modes.isolation = Some(match value.to_lowercase().as_str() {
                    "serializable" => IsolationLevel::Serializable,
                    "repeatable read" => IsolationLevel::RepeatableRead,
                    "read committed" => IsolationLevel::ReadCommitted,
                    "read uncommitted" => IsolationLevel::ReadUncommitted,
                    _ => {
                        return Err(PgError::new(
                            SqlState::INVALID_PARAMETER_VALUE,
                            format!("invalid value for parameter \"transaction_isolation\": \"{value}\""),
                        )
                        .hint("Available values: serializable, repeatable read, read committed, read uncommitted."));
                    }
                });
            }
        }
        self.set_modes(&modes, None)?;
        Ok("SET".to_owned())
    }

    /// SET ROLE and SET SESSION AUTHORIZATION
    fn set_role(&mut self, set: &Set) -> Result<String> {
        let catalog = self.catalog();
        let name = set.values.as_ref().and_then(|v| v.first()).map(SetValue::as_str);
        let session = set.name == "session_authorization";
        let wanted = match name {
            None => None,
            Some("none") if !session => None,
            Some(name) => Some(name),
        };
        match wanted {
            None => self.shared.reset_role(),
            Some(name) => {
                let role = catalog.role_by_name(name).ok_or_else(|| {
                    PgError::new(
                        SqlState::INVALID_PARAMETER_VALUE,
                        format!("role \"{name}\" does not exist"),
                    )
                })?;
                let login = self.shared.login_role();
                let may = catalog.role(login).is_some_and(|r| r.superuser)
                    || role.oid == login
                    || (!session && catalog.is_member(login, role.oid));
                if !may {
                    let what = if session { "session authorization" } else { "role" };
                    return Err(PgError::new(
                        SqlState::INSUFFICIENT_PRIVILEGE,
                        format!("permission denied to set {what} \"{name}\""),
                    ));
                }
                self.shared.take_role(role, session);
            }
        }
        Ok("SET".to_owned())
    }

    /// RESET
    pub(crate) fn reset(&mut self, name: Option<&str>) -> Result<String> {
        match name {
            Some("role" | "session_authorization") => self.shared.reset_role(),
            Some(name) => self.shared.change(|settings| settings.reset(name, false))?,
            None => self.shared.change(crate::settings::Settings::reset_all)?,
        }
        Ok("RESET".to_owned())
    }

    /// Columns of SHOW.
    pub(crate) fn show_columns(&self, name: Option<&str>) -> Result<Arc<[ResultColumn]>> {
        let names: Vec<String> = match name {
            Some(name) => {
                self.shared.settings.lock().show(name)?;
                let known = SETTINGS.iter().find(|s| s.name.eq_ignore_ascii_case(name));
                vec![known.map_or_else(|| name.to_owned(), |s| s.name.to_owned())]
            }
            None => ["name", "setting", "description"].map(str::to_owned).to_vec(),
        };
        let column = |name: String| ResultColumn {
            name: name.into(),
            ty: PgType::new(oid::TEXT),
            origin: None,
            binary: false,
        };
        Ok(names.into_iter().map(column).collect())
    }

    /// SHOW
    pub(crate) fn show<C: Client>(
        &mut self,
        name: Option<&str>,
        formats: &[i16],
        client: &mut C,
    ) -> Result<String> {
        let columns = with_formats(&self.show_columns(name)?, formats);
        let eval = self.eval();
        let rows: Vec<Vec<Datum>> = {
            let settings = self.shared.settings.lock();
            match name {
                Some(name) => vec![vec![Datum::text(settings.show(name)?)]],
                None => {
                    let line = |s: &crate::settings::Setting| {
                        vec![
                            Datum::text(s.name),
                            Datum::text(settings.get(s.name)),
                            Datum::text(s.description),
                        ]
                    };
                    SETTINGS.iter().map(line).collect()
                }
            }
        };
        if self.shared.simple() {
            client.row_description(&columns);
        }
        for row in &rows {
            output::put_row(client.buffer(), row, &columns, &eval)?;
        }
        Ok("SHOW".to_owned())
    }

    /// SET CONSTRAINTS
    pub(crate) async fn set_constraints(
        &mut self,
        names: &[meridian_sql::ast::ObjectName],
        deferred: bool,
    ) -> Result<String> {
        if !self.block.is_explicit() {
            self.notice(
                crate::client::Severity::Warning,
                PgError::new(
                    SqlState::NO_ACTIVE_SQL_TRANSACTION,
                    "SET CONSTRAINTS can only be used in transaction blocks",
                ),
            );
            return Ok("SET CONSTRAINTS".to_owned());
        }
        if names.is_empty() {
            self.block.deferred.lock().set_all(deferred);
        } else {
            for name in names {
                let oid = self.constraint_named(name)?;
                self.block.deferred.lock().set(oid, deferred);
            }
        }
        // What is immediate from now on has to hold now.
        if !deferred {
            self.check_deferred().await?;
        }
        Ok("SET CONSTRAINTS".to_owned())
    }

    /// The deferrable constraint of this name.
    fn constraint_named(&mut self, name: &meridian_sql::ast::ObjectName) -> Result<u32> {
        let (_, name) = crate::copy::split_name(name)?;
        let view = self.view();
        for relation in view.catalog.relations() {
            if let meridian_catalog::Relation::Table(table) = relation
                && let Some(constraint) = table.constraint(&name)
            {
                if constraint.deferrable {
                    return Ok(constraint.oid);
                }
                return Err(PgError::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    format!("constraint \"{name}\" is not deferrable"),
                ));
            }
        }
        Err(PgError::new(
            SqlState::UNDEFINED_OBJECT,
            format!("constraint \"{name}\" does not exist"),
        ))
    }
}

/// The values of a SET as one text: lists are joined, identifiers of a search path quoted.
fn joined(name: &str, values: &[SetValue]) -> Result<String> {
    let is_list = matches!(
        name,
        "search_path" | "datestyle" | "temp_tablespaces" | "session_preload_libraries"
    );
    match values {
        [SetValue::Interval(text)] if name == "timezone" => Ok(format!("<{text}>")),
        [one] if !is_list => Ok(one.as_str().to_owned()),
        values if is_list => {
            let quote = |v: &SetValue| match v {
                SetValue::Text(s) if name == "search_path" => quote_ident(s),
                other => other.as_str().to_owned(),
            };
            Ok(values.iter().map(quote).collect::<Vec<_>>().join(", "))
        }
        _ => Err(PgError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("SET {name} takes only one argument"),
        )),
    }
}
