//! Polymorphic types: `anyelement` and its family, `anycompatible` and its family.
//!
//! In the first family all arguments of a call must agree exactly; in the second they are brought
//! to a common type first. Literals of type `unknown` follow the others; alone they become `text`.

use meridian_types::builtin;
use meridian_types::oid::{self, Oid};
use meridian_types::{PgError, Result, SqlState};

use super::mismatch;
use crate::bind::Binder;

/// Whether the type is a polymorphic pseudo-type.
pub(crate) fn is_polymorphic(ty: Oid) -> bool {
    matches!(
        ty,
        oid::ANYELEMENT
            | oid::ANYARRAY
            | oid::ANYNONARRAY
            | oid::ANYENUM
            | oid::ANYRANGE
            | oid::ANYMULTIRANGE
            | oid::ANYCOMPATIBLE
            | oid::ANYCOMPATIBLEARRAY
            | oid::ANYCOMPATIBLENONARRAY
            | oid::ANYCOMPATIBLERANGE
            | oid::ANYCOMPATIBLEMULTIRANGE
    )
}

/// Declared types with the polymorphic ones replaced, and the result type.
pub(crate) struct Resolved {
    pub(crate) args: Vec<Oid>,
    pub(crate) ret: Oid,
}

#[derive(Default)]
struct Family {
    element: Oid,
    array: Oid,
    range: Oid,
    multirange: Oid,
    unknowns: bool,
    nonarray: bool,
    enumerated: bool,
}

fn agree(slot: &mut Oid, actual: Oid, declared: &str, b: &Binder<'_>) -> Result<()> {
    if *slot != 0 && *slot != actual {
        let text = format!("arguments declared \"{declared}\" are not all alike");
        let detail = format!("{} versus {}", b.display_type(*slot), b.display_type(actual));
        return Err(mismatch(text, None).detail(detail));
    }
    *slot = actual;
    Ok(())
}

fn inconsistent(what: &str, with: &str, b: &Binder<'_>, x: Oid, y: Oid) -> PgError {
    let text = format!("argument declared {what} is not consistent with argument declared {with}");
    mismatch(text, None).detail(format!("{} versus {}", b.display_type(x), b.display_type(y)))
}

fn range_of(range: Oid) -> Option<&'static builtin::RangeRow> {
    builtin::ranges().iter().find(|r| r.typid == range || r.multitypid == range)
}

impl Binder<'_> {
    /// Replaces the polymorphic types of a signature by what the arguments' types make of them.
    pub(crate) fn resolve_polymorphic(
        &self,
        declared: &[Oid],
        actual: &[Oid],
        ret: Oid,
    ) -> Result<Resolved> {
        if !declared.iter().any(|d| is_polymorphic(*d)) && !is_polymorphic(ret) {
            return Ok(Resolved { args: declared.to_vec(), ret });
        }
        let mut one = Family::default();
        let mut compatible = Family::default();
        let mut commons = Vec::new();
        for (&declared, &actual) in declared.iter().zip(actual) {
            let actual = match actual {
                oid::UNKNOWN => actual,
                other => self.base_type(other),
            };
            self.note_argument(declared, actual, &mut one, &mut compatible, &mut commons)?;
        }
        self.finish_family(&mut one)?;
        self.finish_compatible(&mut compatible, commons)?;
        let replace = |ty: Oid| self.replace(ty, &one, &compatible);
        let args: Result<Vec<Oid>> = declared.iter().map(|d| replace(*d)).collect();
        Ok(Resolved { args: args?, ret: replace(ret)? })
    }

    fn note_argument(
        &self,
        declared: Oid,
        actual: Oid,
        one: &mut Family,
        compatible: &mut Family,
        commons: &mut Vec<Oid>,
    ) -> Result<()> {
        let first = is_polymorphic(declared) && declared < oid::ANYCOMPATIBLEMULTIRANGE;
        one.nonarray |= declared == oid::ANYNONARRAY;
        one.enumerated |= declared == oid::ANYENUM;
        compatible.nonarray |= declared == oid::ANYCOMPATIBLENONARRAY;
        if actual == oid::UNKNOWN {
            one.unknowns |= first;
            compatible.unknowns |= is_polymorphic(declared) && !first;
            return Ok(());
        }
        match declared {
            oid::ANYELEMENT | oid::ANYNONARRAY | oid::ANYENUM => {
                agree(&mut one.element, actual, "anyelement", self)
            }
            oid::ANYARRAY => agree(&mut one.array, actual, "anyarray", self),
            oid::ANYRANGE => agree(&mut one.range, actual, "anyrange", self),
            oid::ANYMULTIRANGE => agree(&mut one.multirange, actual, "anymultirange", self),
            oid::ANYCOMPATIBLE | oid::ANYCOMPATIBLENONARRAY => {
                commons.push(actual);
                Ok(())
            }
            oid::ANYCOMPATIBLEARRAY => {
                let element = self.type_info(actual).element;
                if element == 0 {
                    return Err(self.not_a("anycompatiblearray", "array", actual));
                }
                commons.push(element);
                Ok(())
            }
            oid::ANYCOMPATIBLERANGE => {
                agree(&mut compatible.range, actual, "anycompatiblerange", self)
            }
            oid::ANYCOMPATIBLEMULTIRANGE => {
                agree(&mut compatible.multirange, actual, "anycompatiblemultirange", self)
            }
            _ => Ok(()),
        }
    }

    fn not_a(&self, declared: &str, kind: &str, actual: Oid) -> PgError {
        let article = if kind == "array" { "an" } else { "a" };
        let text = format!(
            "argument declared {declared} is not {article} {kind} but type {}",
            self.display_type(actual)
        );
        mismatch(text, None)
    }

    fn finish_family(&self, f: &mut Family) -> Result<()> {
        if f.array != 0 && f.array != oid::ANYARRAY {
            let element = self.type_info(f.array).element;
            if element == 0 {
                return Err(self.not_a("anyarray", "array", f.array));
            }
            if f.element != 0 && f.element != element {
                return Err(inconsistent("anyarray", "anyelement", self, f.array, f.element));
            }
            f.element = element;
        }
        if f.multirange != 0 {
            let Some(row) = range_of(f.multirange).filter(|r| r.multitypid == f.multirange) else {
                return Err(self.not_a("anymultirange", "multirange type", f.multirange));
            };
            if f.range != 0 && f.range != row.typid {
                return Err(inconsistent("anymultirange", "anyrange", self, f.multirange, f.range));
            }
            f.range = row.typid;
        }
        if f.range != 0 {
            let Some(row) = range_of(f.range).filter(|r| r.typid == f.range) else {
                return Err(self.not_a("anyrange", "range type", f.range));
            };
            if f.element != 0 && f.element != row.subtype {
                return Err(inconsistent("anyrange", "anyelement", self, f.range, f.element));
            }
            (f.element, f.multirange) = (row.subtype, row.multitypid);
        }
        if f.element == 0 && f.array == oid::ANYARRAY {
            f.element = oid::ANYELEMENT;
        } else if f.element == 0 && f.unknowns {
            f.element = oid::TEXT;
        }
        if f.nonarray && self.type_info(f.element).element != 0 {
            let name = self.display_type(f.element);
            let text = format!("type matched to anynonarray is an array type: {name}");
            return Err(mismatch(text, None));
        }
        if f.enumerated && self.type_info(f.element).typtype != 'e' {
            let name = self.display_type(f.element);
            return Err(mismatch(
                format!("type matched to anyenum is not an enum type: {name}"),
                None,
            ));
        }
        Ok(())
    }

    fn finish_compatible(&self, f: &mut Family, mut commons: Vec<Oid>) -> Result<()> {
        if f.multirange != 0 && f.range == 0 {
            f.range = range_of(f.multirange).map_or(0, |r| r.typid);
        }
        if let Some(row) = range_of(f.range) {
            f.multirange = row.multitypid;
            commons.push(row.subtype);
        }
        f.element = match commons.is_empty() {
            false => self.common_of_oids(&commons).ok_or_else(|| {
                let text = "arguments of anycompatible family cannot be cast to a common type";
                PgError::new(SqlState::DATATYPE_MISMATCH, text)
            })?,
            true if f.unknowns => oid::TEXT,
            true => 0,
        };
        if f.nonarray && self.type_info(f.element).element != 0 {
            let name = self.display_type(f.element);
            let text = format!("type matched to anycompatiblenonarray is an array type: {name}");
            return Err(mismatch(text, None));
        }
        Ok(())
    }

    fn replace(&self, ty: Oid, one: &Family, compatible: &Family) -> Result<Oid> {
        let array = |f: &Family| match f.element {
            oid::ANYELEMENT => Some(oid::ANYARRAY),
            0 => Some(0),
            element => self.array_type(element),
        };
        let concrete = match ty {
            oid::ANYELEMENT | oid::ANYNONARRAY | oid::ANYENUM => one.element,
            oid::ANYARRAY if one.array != 0 => one.array,
            oid::ANYARRAY => array(one).ok_or_else(|| self.no_array(one.element))?,
            oid::ANYRANGE => one.range,
            oid::ANYMULTIRANGE => one.multirange,
            oid::ANYCOMPATIBLE | oid::ANYCOMPATIBLENONARRAY => compatible.element,
            oid::ANYCOMPATIBLEARRAY => {
                array(compatible).ok_or_else(|| self.no_array(compatible.element))?
            }
            oid::ANYCOMPATIBLERANGE => compatible.range,
            oid::ANYCOMPATIBLEMULTIRANGE => compatible.multirange,
            other => return Ok(other),
        };
        if concrete == 0 {
            let name = builtin::type_name(ty);
            let text = format!(
                "could not determine polymorphic type {name} because input has type unknown"
            );
            return Err(mismatch(text, None));
        }
        Ok(concrete)
    }

    fn no_array(&self, element: Oid) -> PgError {
        let name = self.display_type(element);
        let text = format!("could not find array type for data type {name}");
        PgError::new(SqlState::UNDEFINED_OBJECT, text)
    }
}
