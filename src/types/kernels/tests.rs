//! Kernels by name, against values that PostgreSQL 15 gives.

use crate::builtin::{array_element, procs_by_name, type_by_name};
use crate::io::{text_in, to_text};
use crate::{CallInfo, EvalContext, PgType, registry};

/// Calls `name(types)` with literals; the answer is text or `ERROR: message`.
fn call(name: &str, args: &[(&str, &str)]) -> String {
    let ctx = EvalContext::bare();
    let types: Vec<PgType> =
        args.iter().map(|(t, _)| PgType::new(type_by_name(t).expect("type").oid)).collect();
    let oids: Vec<u32> = types.iter().map(|t| t.oid).collect();
    let fits = |declared: u32, given: u32| {
        declared == given || (array_element(given).is_some() && type_name_is_any(declared))
    };
    let proc = procs_by_name(name)
        .find(|p| {
            p.argtypes.len() == oids.len()
                && p.argtypes.iter().zip(&oids).all(|(&d, &g)| fits(d, g))
        })
        .expect(name);
    let values: Vec<_> =
        types.iter().zip(args).map(|(t, (_, v))| text_in(t.oid, -1, v, &ctx).expect(v)).collect();
    let ret = PgType::new(if type_name_is_any(proc.rettype) { oids[0] } else { proc.rettype });
    let info = CallInfo { ctx: &ctx, args: &types, ret };
    let kernel = registry::scalar(&proc.kernel()).expect("a kernel");
    match kernel(&info, &values) {
        Ok(value) if value.is_null() => "NULL".into(),
        Ok(value) => to_text(&value, ret, &ctx).expect("text"),
        Err(e) => format!("ERROR: {}", e.fields().message),
    }
}

fn type_name_is_any(type_oid: u32) -> bool {
    matches!(type_oid, crate::oid::ANYARRAY | crate::oid::ANYCOMPATIBLEARRAY)
}

#[test]
fn numbers() {
    let int = |v| ("int4", v);
    assert_eq!(call("int4pl", &[int("2147483647"), int("1")]), "ERROR: integer out of range");
    assert_eq!(call("int4div", &[int("7"), int("0")]), "ERROR: division by zero");
    assert_eq!(call("int4mod", &[int("-2147483648"), int("-1")]), "0");
    assert_eq!(call("int4", &[("float8", "2.5")]), "2");
    assert_eq!(call("int4", &[("numeric", "2.5")]), "3");
    assert_eq!(
        call("float8mul", &[("float8", "1e308"), ("float8", "10")]),
        "ERROR: value out of range: overflow"
    );
    assert_eq!(call("sind", &[("float8", "30")]), "0.5");
    assert_eq!(call("power", &[("numeric", "2.26"), ("numeric", "-3")]), "0.0866312702847119");
    assert_eq!(call("round", &[("numeric", "-2.567"), int("2")]), "-2.57");
}

#[test]
fn strings() {
    let text = |v| ("text", v);
    assert_eq!(call("split_part", &[text("a,b,c"), text(","), ("int4", "-1")]), "c");
    assert_eq!(call("lpad", &[text("hi"), ("int4", "5")]), "   hi");
    assert_eq!(call("like", &[text("a%b_c"), text("a\\%%c")]), "t");
    assert_eq!(call("quote_ident", &[text("select")]), "\"select\"");
    assert_eq!(call("quote_literal", &[text("it's \\")]), "E'it''s \\\\'");
    let swapped = [text("a1b2"), text("([a-z])(\\d)"), text("\\2\\1"), text("g")];
    assert_eq!(call("regexp_replace", &swapped), "1a2b");
    assert_eq!(
        call("regexp_match", &[text("x"), text("(")]),
        "ERROR: invalid regular expression: parentheses () not balanced"
    );
    let similar = [text("foobar"), text("%#\"o_b#\"%"), text("#")];
    assert_eq!(call("substring", &similar), "oob");
    let classes = [("%[%[:alnum:]%]%", ".*[%[:alnum:]%].*"), ("[]%][^]%]%", "[]%][^]%].*")];
    for (pattern, regex) in classes {
        assert_eq!(call("similar_to_escape", &[text(pattern)]), format!("^(?:{regex})$"));
    }
    assert_eq!(call("float8send", &[("float8", "1")]), "\\x3ff0000000000000");
    assert_eq!(call("encode", &[("bytea", "abc"), text("base64")]), "YWJj");
}

#[test]
fn arrays() {
    let ints = |v| ("_int4", v);
    assert_eq!(call("array_cat", &[ints("{1}"), ints("{2,3}")]), "{1,2,3}");
    assert_eq!(call("array_dims", &[ints("[2:3]={1,2}")]), "[2:3]");
    assert_eq!(call("arraycontains", &[ints("{1,2}"), ints("{2}")]), "t");
    assert_eq!(call("arraycontains", &[ints("{1,NULL}"), ints("{NULL}")]), "f");
    assert_eq!(call("array_lt", &[ints("{1,2}"), ints("{1,NULL}")]), "t");
}
