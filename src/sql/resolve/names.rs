//! Type names to types.

use meridian_types::builtin;
use meridian_types::oid::{self, Oid};
use meridian_types::{PgError, PgType, Result, SqlState};

use super::typmod;
use crate::ast::{ArrayElemTypeDef, DataType, Ident, ObjectNamePart};
use crate::bind::Binder;

impl Binder<'_> {
    /// The type that a type name means, with its modifier: 42704 when there is none.
    pub fn resolve_type(&self, data_type: &DataType) -> Result<PgType> {
        match data_type {
            DataType::Custom(name, modifiers) => {
                let idents: Vec<&Ident> = name
                    .0
                    .iter()
                    .filter_map(|p| match p {
                        ObjectNamePart::Identifier(i) => Some(i),
                        ObjectNamePart::Function(_) => None,
                    })
                    .collect();
                let position = idents.first().and_then(|i| self.source.position(i.span.start));
                let ty = self.named_type(&idents, position)?;
                let typmod = typmod::from_modifiers(ty, modifiers, position)?;
                Ok(PgType::with_typmod(ty, typmod))
            }
            DataType::Array(
                ArrayElemTypeDef::SquareBracket(element, _)
                | ArrayElemTypeDef::AngleBracket(element)
                | ArrayElemTypeDef::Parenthesis(element),
            ) => {
                let element = self.resolve_type(element)?;
                // An array of arrays is the same type.
                if self.type_info(element.oid).element != 0 {
                    return Ok(element);
                }
                match self.array_type(element.oid) {
                    Some(array) => Ok(PgType::with_typmod(array, element.typmod)),
                    None => Err(no_type(&format!("{}[]", self.display_type(element.oid)))),
                }
            }
            // sqlparser's own reading of a type name: its text is PostgreSQL's.
            other => self.resolve_type(&crate::parse::parse_type(&other.to_string())?),
        }
    }

    fn named_type(&self, idents: &[&Ident], position: Option<u32>) -> Result<Oid> {
        let (schema, name) = match idents {
            [name] => (None, *name),
            [schema, name] => (Some(schema.value.as_str()), *name),
            [.., schema, name] => (Some(schema.value.as_str()), *name),
            [] => return Err(no_type("")),
        };
        let builtin = schema.is_none_or(|s| s == "pg_catalog");
        if builtin && let Some(row) = builtin::type_by_name(&name.value) {
            return Ok(row.oid);
        }
        if let Some(ty) = self.catalog.type_by_name(schema, &name.value) {
            return Ok(ty);
        }
        if let Some(element) = name.value.strip_prefix('_')
            && let Some(ty) = self.catalog.type_by_name(schema, element)
            && let Some(array) = self.array_type(ty)
        {
            return Ok(array);
        }
        let text: Vec<&str> = idents.iter().map(|i| i.value.as_str()).collect();
        if let Some(schema) = schema
            && schema != "pg_catalog"
            && self.catalog.schema_oid(schema).is_none()
        {
            let text = format!("schema \"{schema}\" does not exist");
            return Err(PgError::new(SqlState::INVALID_SCHEMA_NAME, text).at(position));
        }
        Err(no_type(&text.join(".")).at(position))
    }
}

fn no_type(name: &str) -> PgError {
    PgError::new(SqlState::UNDEFINED_OBJECT, format!("type \"{name}\" does not exist"))
}

/// True for types that only functions may name.
pub(crate) fn is_pseudo(ty: Oid) -> bool {
    ty != oid::RECORD && builtin::type_by_oid(ty).is_some_and(|r| r.typtype == 'p')
}
