//! Names and oids: `reg*` types, visibility, `to_reg*`.

use meridian_sql::bind::CatalogView;
use meridian_types::oid::{self, Oid};
use meridian_types::{Datum, PgError, Result, SqlState, builtin};

use super::{CatalogHost, oid_arg, text_arg};
use crate::catalog_store::quote_ident;
use crate::virtuals::privileges;

/// Takes a dotted name apart; `None` when it isn't well-formed.
pub(crate) fn split_name(text: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    loop {
        let (part, after) = if let Some(quoted) = rest.strip_prefix('"') {
            let mut name = String::new();
            let mut tail = quoted;
            loop {
                let (head, after) = tail.split_once('"')?;
                name.push_str(head);
                match after.strip_prefix('"') {
                    Some(more) => {
                        name.push('"');
                        tail = more;
                    }
                    None => break (name, after),
                }
            }
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            let name = rest[..end].trim().to_lowercase();
            if name.is_empty() || name.contains(char::is_whitespace) {
                return None;
            }
            (name, &rest[end..])
        };
        parts.push(part);
        rest = after.trim_start();
        match rest.strip_prefix('.') {
            Some(more) => rest = more.trim_start(),
            None if rest.is_empty() => return Some(parts),
            None => return None,
        }
    }
}

fn invalid_name(text: &str) -> PgError {
    if text.trim().is_empty() {
        return PgError::new(SqlState::INVALID_NAME, "invalid name syntax");
    }
    PgError::new(SqlState::INVALID_NAME, "invalid name syntax")
}

impl CatalogHost {
    pub(super) fn names(&self, prosrc: &str, args: &[Datum]) -> Option<Result<Datum>> {
        let oid = oid_arg(args, 0);
        let catalog = &self.view.catalog;
        let found = |ty: Oid| match self.read_reg(ty, text_arg(args, 0)) {
            Ok(oid) => Datum::Oid(oid),
            Err(_) => Datum::Null,
        };
        Some(Ok(match prosrc {
            "pg_table_is_visible" => match self.relation(oid) {
                Some(relation) => Datum::Bool(catalog.is_visible(&self.view.path, &relation)),
                None => Datum::Null,
            },
            "pg_type_is_visible" => {
                if builtin::type_by_oid(oid).is_some() {
                    return Some(Ok(Datum::Bool(true)));
                }
                match catalog
                    .relation_of_row_type(oid)
                    .or_else(|| catalog.relation_of_row_type(oid + 1))
                {
                    Some(relation) => Datum::Bool(catalog.is_visible(&self.view.path, &relation)),
                    None => Datum::Null,
                }
            }
            "pg_function_is_visible"
            | "pg_operator_is_visible"
            | "pg_collation_is_visible"
            | "pg_conversion_is_visible"
            | "pg_opclass_is_visible"
            | "pg_opfamily_is_visible"
            | "pg_ts_config_is_visible"
            | "pg_ts_dict_is_visible"
            | "pg_ts_parser_is_visible"
            | "pg_ts_template_is_visible"
            | "pg_statistics_obj_is_visible" => Datum::Bool(true),
            "acldefault_sql" => {
                let owner = oid_arg(args, 1);
                return Some(privileges::acl_default(catalog, text_arg(args, 0), owner));
            }
            "text_regclass" => {
                return Some(self.read_reg(oid::REGCLASS, text_arg(args, 0)).map(Datum::Oid));
            }
            "to_regclass" => found(oid::REGCLASS),
            "to_regtype" => found(oid::REGTYPE),
            "to_regnamespace" => found(oid::REGNAMESPACE),
            "to_regrole" => found(oid::REGROLE),
            "to_regproc" => found(oid::REGPROC),
            "to_regprocedure" => found(oid::REGPROCEDURE),
            "pg_my_temp_schema" => Datum::Oid(self.view.path.temp.unwrap_or(0)),
            "pg_is_other_temp_schema" => {
                let temp = catalog.schema(oid).is_some_and(|s| s.name.starts_with("pg_temp_"));
                Datum::Bool(temp && self.view.path.temp != Some(oid))
            }
            _ => return None,
        }))
    }

    fn named_type(&self, text: &str) -> Option<Oid> {
        let data_type = meridian_sql::parse::parse_type(text).ok()?;
        crate::ddl::resolve_type(&self.view, &data_type).ok().map(|ty| ty.oid)
    }

    pub(super) fn read_reg(&self, type_oid: Oid, text: &str) -> Result<Oid> {
        if text == "-" {
            return Ok(0);
        }
        if text.starts_with(|c: char| c.is_ascii_digit())
            && text.chars().all(|c| c.is_ascii_digit())
        {
            return text.parse().map_err(|_| {
                let text = format!("value \"{text}\" is out of range for type oid");
                PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, text)
            });
        }
        let missing = |state: SqlState, what: &str| {
            PgError::new(state, format!("{what} \"{text}\" does not exist"))
        };
        match type_oid {
            oid::REGCLASS => {
                split_name(text).ok_or_else(|| invalid_name(text))?;
                let relation = self.relation_by_text(text);
                relation
                    .map(|r| r.oid())
                    .ok_or_else(|| missing(SqlState::UNDEFINED_TABLE, "relation"))
            }
            oid::REGTYPE => {
                self.named_type(text).ok_or_else(|| missing(SqlState::UNDEFINED_OBJECT, "type"))
            }
            oid::REGNAMESPACE => {
                let parts = split_name(text).ok_or_else(|| invalid_name(text))?;
                let name = parts.last().map_or("", String::as_str);
                let schema = self.view.schema_oid(name);
                schema.ok_or_else(|| {
                    let text = format!("schema \"{name}\" does not exist");
                    PgError::new(SqlState::INVALID_SCHEMA_NAME, text)
                })
            }
            oid::REGROLE => {
                let parts = split_name(text).ok_or_else(|| invalid_name(text))?;
                let name = parts.last().map_or("", String::as_str);
                let role = self.view.catalog.role_by_name(name);
                role.map(|r| r.oid).ok_or_else(|| {
                    let text = format!("role \"{name}\" does not exist");
                    PgError::new(SqlState::UNDEFINED_OBJECT, text)
                })
            }
            oid::REGPROC => {
                let parts = split_name(text).ok_or_else(|| invalid_name(text))?;
                let name = parts.last().map_or("", String::as_str);
                let mut found = builtin::procs_by_name(name);
                match (found.next(), found.next()) {
                    (Some(one), None) => Ok(one.oid),
                    (Some(_), Some(_)) => Err(PgError::new(
                        SqlState::AMBIGUOUS_FUNCTION,
                        format!("more than one function named \"{text}\""),
                    )),
                    _ => Err(missing(SqlState::UNDEFINED_FUNCTION, "function")),
                }
            }
            oid::REGPROCEDURE => self.procedure(text),
            oid::REGCOLLATION => {
                let name = split_name(text).and_then(|mut p| p.pop()).unwrap_or_default();
                let found = builtin::collations().iter().find(|c| c.name == name);
                found.map(|c| c.oid).ok_or_else(|| missing(SqlState::UNDEFINED_OBJECT, "collation"))
            }
            oid::REGOPER => {
                let name = text.rsplit('.').next().unwrap_or(text);
                let mut found = builtin::operators_by_name(name);
                match (found.next(), found.next()) {
                    (Some(one), None) => Ok(one.oid),
                    (Some(_), Some(_)) => Err(PgError::new(
                        SqlState::AMBIGUOUS_FUNCTION,
                        format!("more than one operator named {text}"),
                    )),
                    _ => Err(PgError::new(
                        SqlState::UNDEFINED_FUNCTION,
                        format!("operator does not exist: {text}"),
                    )),
                }
            }
            _ => Err(PgError::unsupported(format!(
                "reading names of type {} is not supported yet",
                builtin::type_name(type_oid)
            ))),
        }
    }

    fn procedure(&self, text: &str) -> Result<Oid> {
        let missing = || {
            let text = format!("function \"{text}\" does not exist");
            PgError::new(SqlState::UNDEFINED_FUNCTION, text)
        };
        let (name, args) = text.split_once('(').ok_or_else(|| {
            PgError::new(SqlState::INVALID_TEXT_REPRESENTATION, "expected a left parenthesis")
        })?;
        let name = split_name(name).and_then(|mut p| p.pop()).ok_or_else(missing)?;
        let args = args.trim_end().strip_suffix(')').ok_or_else(missing)?.trim();
        let mut types = Vec::new();
        for arg in args.split(',').filter(|a| !a.trim().is_empty()) {
            types.push(self.named_type(arg.trim()).ok_or_else(missing)?);
        }
        let mut found = builtin::procs_by_name(&name);
        found.find(|p| p.argtypes == types).map(|p| p.oid).ok_or_else(missing)
    }

    pub(super) fn write_reg(&self, type_oid: Oid, value: Oid) -> String {
        let known = match type_oid {
            oid::REGCLASS => self.relation(value).map(|r| self.view.relation_name(&r)),
            oid::REGTYPE if value != 0 => {
                let name = self.view.format_type(value, -1);
                (name != "???").then_some(name)
            }
            oid::REGNAMESPACE => self.view.catalog.schema(value).map(|s| quote_ident(&s.name)),
            oid::REGROLE => self.view.catalog.role(value).map(|r| quote_ident(&r.name)),
            oid::REGPROC => builtin::proc_by_oid(value).map(|p| {
                // A name that several functions share has to be qualified.
                let shared = builtin::procs_by_name(p.name).nth(1).is_some();
                let name = quote_ident(p.name);
                if shared { format!("pg_catalog.{name}") } else { name }
            }),
            oid::REGPROCEDURE => builtin::proc_by_oid(value).map(|p| {
                let args = p.argtypes.iter().map(|t| builtin::format_type(*t, -1));
                format!("{}({})", quote_ident(p.name), args.collect::<Vec<String>>().join(","))
            }),
            oid::REGOPER => builtin::operator_by_oid(value).map(|o| {
                let shared = builtin::operators_by_name(o.name).nth(1).is_some();
                if shared { format!("pg_catalog.{}", o.name) } else { o.name.to_owned() }
            }),
            oid::REGOPERATOR => builtin::operator_by_oid(value).map(|o| {
                let side = |t: Oid| match t {
                    0 => "NONE".to_owned(),
                    t => builtin::format_type(t, -1),
                };
                format!("{}({},{})", o.name, side(o.left), side(o.right))
            }),
            oid::REGCOLLATION => {
                let found = builtin::collations().iter().find(|c| c.oid == value);
                found.map(|c| quote_ident(c.name))
            }
            _ => None,
        };
        match (known, value) {
            (Some(name), _) => name,
            (None, 0) => "-".to_owned(),
            (None, value) => value.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::split_name;

    #[test]
    fn names_are_taken_apart() {
        let parts = |t: &str| split_name(t).expect("well-formed");
        assert_eq!(parts("Foo.bar"), ["foo", "bar"]);
        assert_eq!(parts("\"A.b\".\"c\"\"d\""), ["A.b", "c\"d"]);
        assert!(split_name("a.").is_none());
        assert!(split_name("\"a").is_none());
        assert!(split_name("a b").is_none());
    }
}
