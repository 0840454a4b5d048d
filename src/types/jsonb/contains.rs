//! `@>` and the existence operators.

use super::order::compare;
use super::view::{Array, Ref};

/// `a @> b` at the top: an array also contains a bare scalar that is one of its elements.
pub fn contains(a: Ref<'_>, b: Ref<'_>) -> bool {
    match (a, b) {
        (Ref::Array(a), b) if !matches!(b, Ref::Array(_) | Ref::Object(_)) => has(a, b),
        (a, b) => within(a, b),
    }
}

fn has(a: Array<'_>, scalar: Ref<'_>) -> bool {
    a.iter().any(|item| compare(item, scalar).is_eq())
}

/// Containment of nested values: only like contains like.
fn within(a: Ref<'_>, b: Ref<'_>) -> bool {
    match (a, b) {
        (Ref::Object(a), Ref::Object(b)) => {
            a.len() >= b.len()
                && b.iter().all(|(key, value)| {
                    a.get(key).is_some_and(|found| within(Ref::new(found), value))
                })
        }
        (Ref::Array(a), Ref::Array(b)) => b.iter().all(|item| match item {
            Ref::Array(_) | Ref::Object(_) => a.iter().any(|other| within(other, item)),
            scalar => has(a, scalar),
        }),
        (Ref::Array(_) | Ref::Object(_), _) | (_, Ref::Array(_) | Ref::Object(_)) => false,
        (a, b) => compare(a, b).is_eq(),
    }
}

/// `a ? key`: a key of an object, a string in an array, or the string itself.
pub fn exists(a: Ref<'_>, key: &str) -> bool {
    match a {
        Ref::Object(o) => o.get(key).is_some(),
        Ref::Array(items) => items.iter().any(|i| matches!(i, Ref::String(s) if s == key)),
        Ref::String(s) => s == key,
        _ => false,
    }
}
