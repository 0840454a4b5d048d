//! Whether and how one type becomes another.

use meridian_types::builtin;
use meridian_types::oid::{self, Oid};

use super::{CoercionContext, is_polymorphic, is_record};
use crate::bind::Binder;

/// How a value of one type becomes one of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pathway {
    /// No change of representation.
    Relabel,
    /// By this function of `pg_proc`.
    Function(Oid),
    /// Element by element.
    Array,
    /// Through the text form.
    ViaText,
}

impl Binder<'_> {
    /// The way from `source` to `target` that this context allows.
    pub(crate) fn pathway(
        &self,
        source: Oid,
        target: Oid,
        context: CoercionContext,
    ) -> Option<Pathway> {
        let (source, target) = (self.base_type(source), self.base_type(target));
        if source == target {
            return Some(Pathway::Relabel);
        }
        if let Some(cast) = builtin::cast(source, target) {
            let needed = match cast.context {
                'i' => CoercionContext::Implicit,
                'a' => CoercionContext::Assignment,
                _ => CoercionContext::Explicit,
            };
            if context < needed {
                return None;
            }
            return Some(match cast.method {
                'f' => Pathway::Function(cast.func),
                'i' => Pathway::ViaText,
                _ => Pathway::Relabel,
            });
        }
        let (from, to) = (self.type_info(source), self.type_info(target));
        if from.element != 0 && to.element != 0 && target != oid::OIDVECTOR {
            match self.pathway(from.element, to.element, context) {
                Some(Pathway::ViaText) => return Some(Pathway::ViaText),
                Some(_) => return Some(Pathway::Array),
                None => {}
            }
        }
        let assigns = context >= CoercionContext::Assignment && to.category == 'S';
        let explicit = context == CoercionContext::Explicit && from.category == 'S';
        (assigns || explicit).then_some(Pathway::ViaText)
    }

    /// Whether values of these types can be given where those are declared.
    pub(crate) fn can_coerce(
        &self,
        actual: &[Oid],
        declared: &[Oid],
        context: CoercionContext,
    ) -> bool {
        let mut generic = false;
        for (&source, &target) in actual.iter().zip(declared) {
            if source == target || target == oid::ANY {
                continue;
            }
            if is_polymorphic(target) {
                generic = true;
                continue;
            }
            if source == oid::UNKNOWN {
                continue;
            }
            let possible = self.pathway(source, target, context).is_some() || {
                let (from, to) = (self.type_info(source), self.type_info(target));
                (source == oid::RECORD && to.typtype == 'c')
                    || (target == oid::RECORD && is_record(&from, source))
                    || (source == oid::RECORD_ARRAY && self.is_row_array(to.element))
                    || (target == oid::RECORD_ARRAY && self.is_row_array(from.element))
            };
            if !possible {
                return false;
            }
        }
        !generic || self.resolve_polymorphic(declared, actual, oid::VOID).is_ok()
    }

    fn is_row_array(&self, element: Oid) -> bool {
        element != 0 && is_record(&self.type_info(element), element)
    }
}
