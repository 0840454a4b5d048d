//! Operator families: what a type's order and equality are.
//!
//! `ORDER BY`, `DISTINCT`, merge conditions, index keys and window frames all ask the default
//! btree class of a type. Types without a class of their own borrow one: `varchar` that of `text`
//! (binary-coercible), every array that of `anyarray`, and so on.

use super::{BUILTIN, Builtin, OpClassRow, array_element, cast, type_by_oid};
use crate::oid::{self, Oid};

/// `pg_am` oid of btree.
pub(super) const BTREE: Oid = 403;
/// `pg_am` oid of hash.
pub(super) const HASH: Oid = 405;

/// The operators that order a type; oids of `pg_operator`, 0 where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SortOperators {
    /// `<`
    pub lt: Oid,
    /// `<=`
    pub le: Oid,
    /// `=`
    pub eq: Oid,
    /// `>=`
    pub ge: Oid,
    /// `>`
    pub gt: Oid,
}

/// A type's default btree operator class with its parts.
#[derive(Clone, Copy, Debug)]
pub struct BtreeFamily {
    /// The class.
    pub opclass: &'static OpClassRow,
    /// Operator family.
    pub family: Oid,
    /// Type that the class declares; may be polymorphic.
    pub input: Oid,
    /// Its five operators.
    pub operators: SortOperators,
    /// Three-way comparison function.
    pub cmp: Oid,
}

impl BtreeFamily {
    /// The default btree family of a type; `None` for types without an order (`json`, `point` …).
    pub fn of(type_oid: Oid) -> Option<BtreeFamily> {
        let opclass = default_opclass(BTREE, type_oid)?;
        let (family, input) = (opclass.family, opclass.intype);
        let op = |strategy| amop(family, input, input, strategy).unwrap_or(0);
        Some(BtreeFamily {
            opclass,
            family,
            input,
            operators: SortOperators { lt: op(1), le: op(2), eq: op(3), ge: op(4), gt: op(5) },
            cmp: amproc(family, input, input, 1)?,
        })
    }

    /// The `in_range` function of `RANGE offset PRECEDING/FOLLOWING` for an offset type.
    pub fn in_range(&self, offset: Oid) -> Option<Oid> {
        amproc(self.family, self.input, offset, 3)
    }
}

/// The default operator class of an index method (`pg_am` oid) for a type.
pub fn default_opclass(method: Oid, type_oid: Oid) -> Option<&'static OpClassRow> {
    let exact = |input: Oid| {
        BUILTIN.opclasses.iter().find(|c| c.method == method && c.default && c.intype == input)
    };
    if let Some(found) = exact(type_oid) {
        return Some(found);
    }
    let borrowed = match type_oid {
        oid::VARCHAR => oid::TEXT,
        oid::CIDR => oid::INET,
        oid::REGPROC
        | oid::REGPROCEDURE
        | oid::REGOPER
        | oid::REGOPERATOR
        | oid::REGCLASS
        | oid::REGTYPE
        | oid::REGCONFIG
        | oid::REGDICTIONARY
        | oid::REGNAMESPACE
        | oid::REGROLE
        | oid::REGCOLLATION => oid::OID,
        _ if array_element(type_oid).is_some() => oid::ANYARRAY,
        _ => match type_by_oid(type_oid)?.typtype {
            'e' => oid::ANYENUM,
            'r' => oid::ANYRANGE,
            'm' => oid::ANYMULTIRANGE,
            'c' => oid::RECORD,
            _ => return None,
        },
    };
    exact(borrowed)
}

/// The equality operator that hashing a type uses.
pub fn hash_equality(type_oid: Oid) -> Option<Oid> {
    let class = default_opclass(HASH, type_oid)?;
    amop(class.family, class.intype, class.intype, 1)
}

/// The search operator of a family for a pair of types and a strategy.
pub fn amop(family: Oid, left: Oid, right: Oid, strategy: i16) -> Option<Oid> {
    let b: &Builtin = &BUILTIN;
    b.amop_key.get(&(family, left, right, strategy)).map(|&i| b.amops[i].operator)
}

/// The support function of a family for a pair of types.
pub fn amproc(family: Oid, left: Oid, right: Oid, num: i16) -> Option<Oid> {
    let b: &Builtin = &BUILTIN;
    b.amproc_key.get(&(family, left, right, num)).map(|&i| b.amprocs[i].proc)
}

/// The btree families that an operator belongs to, with its strategy in each (1 `<` … 5 `>`).
pub fn btree_strategies(operator: Oid) -> impl Iterator<Item = (Oid, i16)> {
    let b: &'static Builtin = &BUILTIN;
    b.amop_operator
        .get(&operator)
        .into_iter()
        .flatten()
        .map(|&i| &b.amops[i])
        .filter(|r| r.method == BTREE)
        .map(|r| (r.family, r.strategy))
}

/// True when a value of `source` is a value of `target` as it stands.
pub fn binary_coercible(source: Oid, target: Oid) -> bool {
    source == target
        || target == oid::ANY
        || target == oid::ANYELEMENT
        || (target == oid::ANYARRAY && array_element(source).is_some())
        || cast(source, target).is_some_and(|c| c.method == 'b' && c.context == 'i')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::{operator_by_oid, proc_by_oid};

    #[test]
    fn types_borrow_the_order_of_what_they_are() {
        let src = |f: BtreeFamily| proc_by_oid(f.cmp).map(|p| p.src);
        assert_eq!(BtreeFamily::of(oid::INT4).and_then(src), Some("btint4cmp"));
        assert_eq!(BtreeFamily::of(oid::VARCHAR).and_then(src), Some("bttextcmp"));
        assert_eq!(BtreeFamily::of(oid::INT4_ARRAY).and_then(src), Some("btarraycmp"));
        assert_eq!(BtreeFamily::of(oid::REGCLASS).and_then(src), Some("btoidcmp"));
        assert!(BtreeFamily::of(oid::JSON).is_none());
        let eq = hash_equality(oid::TEXT).and_then(operator_by_oid);
        assert_eq!(eq.map(|o| o.name), Some("="));
        let timestamp = BtreeFamily::of(oid::TIMESTAMP).expect("ordered");
        assert!(timestamp.in_range(oid::INTERVAL).is_some());
    }
}
