//! JSON as text: `jsonb`'s output, the indented form, escapes.

use super::view::Ref;

/// Appends a string in quotes, with JSON's escapes.
pub fn quote(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (i, b) in bytes.iter().enumerate() {
        if *b >= 0x20 && *b != b'"' && *b != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[plain..i]);
        plain = i + 1;
        match b {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => out.extend_from_slice(format!("\\u{other:04x}").as_bytes()),
        }
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

/// Appends a value as `jsonb` shows it.
pub fn write(out: &mut Vec<u8>, v: Ref<'_>) {
    match v {
        Ref::Null => out.extend_from_slice(b"null"),
        Ref::Bool(true) => out.extend_from_slice(b"true"),
        Ref::Bool(false) => out.extend_from_slice(b"false"),
        Ref::Number(n) => out.extend_from_slice(n.get().to_string().as_bytes()),
        Ref::String(s) => quote(out, s),
        Ref::Array(a) => {
            out.push(b'[');
            for (i, item) in a.iter().enumerate() {
                if i > 0 {
                    out.extend_from_slice(b", ");
                }
                write(out, item);
            }
            out.push(b']');
        }
        Ref::Object(o) => {
            out.push(b'{');
            for (i, (key, value)) in o.iter().enumerate() {
                if i > 0 {
                    out.extend_from_slice(b", ");
                }
                quote(out, key);
                out.extend_from_slice(b": ");
                write(out, value);
            }
            out.push(b'}');
        }
    }
}

fn line(out: &mut Vec<u8>, level: usize) {
    out.push(b'\n');
    out.resize(out.len() + 4 * level, b' ');
}

/// Appends a value as `jsonb_pretty` shows it.
pub fn pretty(out: &mut Vec<u8>, v: Ref<'_>, level: usize) {
    match v {
        Ref::Array(a) => {
            out.push(b'[');
            for (i, item) in a.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                line(out, level + 1);
                pretty(out, item, level + 1);
            }
            line(out, level);
            out.push(b']');
        }
        Ref::Object(o) => {
            out.push(b'{');
            for (i, (key, value)) in o.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                line(out, level + 1);
                quote(out, key);
                out.extend_from_slice(b": ");
                pretty(out, value, level + 1);
            }
            line(out, level);
            out.push(b'}');
        }
        scalar => write(out, scalar),
    }
}

/// Bytes that are known to be characters as a string.
pub fn into_string(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}
