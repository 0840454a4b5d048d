//! Type names of column definitions.

use meridian_sql::ast::{ArrayElemTypeDef, DataType};
use meridian_types::oid::{self, Oid};
use meridian_types::{PgError, PgType, Result, SqlState, builtin};

use super::DdlContext;
use crate::catalog_store::SessionCatalog;

/// Which integer a serial type stands for.
pub(crate) fn serial_type(data_type: &DataType) -> Option<Oid> {
    let DataType::Custom(name, _) = data_type else { return None };
    let [part] = &name.0[..] else { return None };
    match part.as_ident()?.value.as_str() {
        "serial" | "serial4" => Some(oid::INT4),
        "bigserial" | "serial8" => Some(oid::INT8),
        "smallserial" | "serial2" => Some(oid::INT2),
        _ => None,
    }
}

fn modifier(ty: Oid, modifiers: &[String]) -> Result<i32> {
    let invalid = |text: String| PgError::new(SqlState::INVALID_PARAMETER_VALUE, text);
    let numbers: Vec<i32> = modifiers.iter().filter_map(|m| m.trim().parse().ok()).collect();
    if numbers.len() != modifiers.len() {
        return Err(invalid("type modifiers must be simple constants or identifiers".into()));
    }
    let Some(&first) = numbers.first() else {
        return Ok(if ty == oid::BPCHAR { 4 + 1 } else { -1 });
    };
    let name = || builtin::format_type(ty, -1);
    match ty {
        oid::VARCHAR | oid::BPCHAR => {
            let word = if ty == oid::VARCHAR { "varchar" } else { "char" };
            match first {
                n if n < 1 => Err(invalid(format!("length for type {word} must be at least 1"))),
                n if n > 10_485_760 => {
                    Err(invalid(format!("length for type {word} cannot exceed 10485760")))
                }
                n => Ok(n + 4),
            }
        }
        oid::NUMERIC => {
            let scale = numbers.get(1).copied().unwrap_or(0);
            if !(1..=1000).contains(&first) {
                let text = format!("NUMERIC precision {first} must be between 1 and 1000");
                return Err(invalid(text));
            }
            if !(-1000..=1000).contains(&scale) {
                let text = format!("NUMERIC scale {scale} must be between -1000 and 1000");
                return Err(invalid(text));
            }
            Ok(((first << 16) | (scale & 0x7ff)) + 4)
        }
        oid::TIME | oid::TIMETZ | oid::TIMESTAMP | oid::TIMESTAMPTZ => Ok(first.clamp(0, 6)),
        oid::INTERVAL => {
            let precision = numbers.get(1).copied().unwrap_or(0xffff);
            Ok(((first & 0x7fff) << 16) | (precision & 0xffff))
        }
        oid::BIT | oid::VARBIT => Ok(first),
        _ => Err(PgError::new(
            SqlState::SYNTAX_ERROR,
            format!("type modifier is not allowed for type \"{}\"", name()),
        )),
    }
}

/// The type that a type name means.
pub(crate) fn resolve_type(view: &SessionCatalog, data_type: &DataType) -> Result<PgType> {
    match data_type {
        DataType::Array(ArrayElemTypeDef::SquareBracket(inner, _)) => {
            let element = resolve_type(view, inner)?;
            if builtin::array_element(element.oid).is_some() {
                return Ok(element);
            }
            let array = builtin::array_of(element.oid).or_else(|| {
                view.catalog.relation_of_row_type(element.oid)?;
                Some(meridian_catalog::snapshot::array_of_row_type(element.oid))
            });
            let Some(array) = array else {
                let name = view.format_type(element.oid, -1);
                let text = format!("could not find array type for data type {name}");
                return Err(PgError::new(SqlState::UNDEFINED_OBJECT, text));
            };
            Ok(PgType::with_typmod(array, element.typmod))
        }
        DataType::Custom(name, modifiers) => named_type(view, name, modifiers),
        other => Err(PgError::unsupported(format!("type {other} is not supported yet"))),
    }
}

fn named_type(
    view: &SessionCatalog,
    name: &meridian_sql::ast::ObjectName,
    modifiers: &[String],
) -> Result<PgType> {
    use meridian_sql::bind::CatalogView;
    let parts: Vec<&str> =
        name.0.iter().filter_map(|p| Some(p.as_ident()?.value.as_str())).collect();
    let (schema, plain) = match parts[..] {
        [plain] => (None, plain),
        [.., schema, plain] => (Some(schema), plain),
        [] => (None, ""),
    };
    let found = match schema {
        None | Some("pg_catalog") => builtin::type_by_name(plain).map(|row| row.oid),
        Some(_) => None,
    };
    let Some(found) = found.or_else(|| view.type_by_name(schema, plain)) else {
        let span = name.0.first().and_then(|p| Some(p.as_ident()?.span.start));
        let position = span.filter(|s| s.line > 0).and_then(|s| u32::try_from(s.column).ok());
        let text = format!("type \"{}\" does not exist", parts.join("."));
        return Err(PgError::new(SqlState::UNDEFINED_OBJECT, text).at(position));
    };
    // `bpchar` as such has no length; `character` does, and arrives as `pg_catalog.bpchar`.
    let bare_bpchar = found == oid::BPCHAR && modifiers.is_empty() && schema.is_none();
    let typmod = if bare_bpchar { -1 } else { modifier(found, modifiers)? };
    Ok(PgType::with_typmod(found, typmod))
}

impl DdlContext<'_> {
    /// The type of a column.
    pub(crate) fn column_type(&self, column: &str, data_type: &DataType) -> Result<PgType> {
        let ty = resolve_type(&self.view(), data_type)?;
        let pseudo = builtin::type_by_oid(ty.oid).is_some_and(|t| t.typtype == 'p');
        if pseudo {
            let name = builtin::type_name(ty.oid);
            let text = format!("column \"{column}\" has pseudo-type {name}");
            return Err(PgError::new(SqlState::INVALID_TABLE_DEFINITION, text));
        }
        Ok(ty)
    }
}
