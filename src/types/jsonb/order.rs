//! The order of `jsonb`, as its B-tree operators have it, and a key of bytes with the same order.
//!
//! Object > array > boolean > number > string > null; containers by their size first, then pair by
//! pair. One oddity is kept: at the top, an empty array comes before every scalar, since
//! PostgreSQL sees a scalar there as an array of one element.

use std::cmp::Ordering;

use super::view::Ref;

fn rank(v: &Ref<'_>) -> u8 {
    match v {
        Ref::Null => 1,
        Ref::String(_) => 2,
        Ref::Number(_) => 3,
        Ref::Bool(_) => 4,
        Ref::Array(_) => 5,
        Ref::Object(_) => 6,
    }
}

fn is_empty_array(v: &Ref<'_>) -> bool {
    matches!(v, Ref::Array(a) if a.is_empty())
}

/// Compares two values at the top.
pub fn compare(a: Ref<'_>, b: Ref<'_>) -> Ordering {
    let scalar = |v: &Ref<'_>| rank(v) < 5;
    if is_empty_array(&a) && scalar(&b) {
        return Ordering::Less;
    }
    if is_empty_array(&b) && scalar(&a) {
        return Ordering::Greater;
    }
    compare_inner(a, b)
}

fn compare_inner(a: Ref<'_>, b: Ref<'_>) -> Ordering {
    match (a, b) {
        (Ref::Null, Ref::Null) => Ordering::Equal,
        (Ref::Bool(a), Ref::Bool(b)) => a.cmp(&b),
        (Ref::Number(a), Ref::Number(b)) => a.get().compare(&b.get()),
        (Ref::String(a), Ref::String(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Ref::Array(a), Ref::Array(b)) => a.len().cmp(&b.len()).then_with(|| {
            let pairs = a.iter().zip(b.iter());
            pairs.map(|(a, b)| compare_inner(a, b)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
        }),
        (Ref::Object(a), Ref::Object(b)) => a.len().cmp(&b.len()).then_with(|| {
            let pairs = a.iter().zip(b.iter());
            let order = |((ka, va), (kb, vb)): ((&str, Ref<'_>), (&str, Ref<'_>))| {
                ka.as_bytes().cmp(kb.as_bytes()).then_with(|| compare_inner(va, vb))
            };
            pairs.map(order).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
        }),
        (a, b) => rank(&a).cmp(&rank(&b)),
    }
}

/// Appends bytes whose order is that of [`compare`]; equal values give equal bytes. No key is the
/// start of another one.
pub(super) fn sort_key(out: &mut Vec<u8>, v: Ref<'_>) {
    if is_empty_array(&v) {
        out.push(0);
    } else {
        key(out, v);
    }
}

fn key(out: &mut Vec<u8>, v: Ref<'_>) {
    out.push(rank(&v));
    match v {
        Ref::Null => {}
        Ref::Bool(b) => out.push(u8::from(b)),
        Ref::Number(n) => n.get().write_key(out),
        Ref::String(s) => string_key(out, s),
        Ref::Array(a) => {
            out.extend_from_slice(&(a.len() as u32).to_be_bytes());
            a.iter().for_each(|item| key(out, item));
        }
        Ref::Object(o) => {
            out.extend_from_slice(&(o.len() as u32).to_be_bytes());
            for (k, v) in o.iter() {
                string_key(out, k);
                key(out, v);
            }
        }
    }
}

/// A string in a `jsonb` has no zero byte, which can therefore end it.
fn string_key(out: &mut Vec<u8>, s: &str) {
    out.extend_from_slice(s.as_bytes());
    out.push(0);
}
