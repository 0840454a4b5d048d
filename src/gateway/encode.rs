//! Backend messages, appended to the write buffer.

use bytes::BufMut;
use meridian_session::client::{ResultColumn, Severity};
use meridian_types::error::Fields;
use meridian_types::{builtin, oid, shape};

/// Appends one message: the type byte, the body that `fill` writes, and its length.
pub(crate) fn message(buf: &mut Vec<u8>, tag: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    buf.put_u8(tag);
    let start = buf.len();
    buf.put_u32(0);
    fill(buf);
    let length = u32::try_from(buf.len() - start).unwrap_or(u32::MAX);
    buf[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

pub(crate) fn text(buf: &mut Vec<u8>, s: &str) {
    // A zero byte would end the text early; no value of ours holds one.
    buf.put_slice(s.split('\0').next().unwrap_or_default().as_bytes());
    buf.put_u8(0);
}

pub(crate) fn bare(buf: &mut Vec<u8>, tag: u8) {
    buf.put_slice(&[tag, 0, 0, 0, 4]);
}

pub(crate) fn ready_for_query(buf: &mut Vec<u8>, status: u8) {
    buf.put_slice(&[b'Z', 0, 0, 0, 5, status]);
}

pub(crate) fn command_complete(buf: &mut Vec<u8>, tag: &str) {
    message(buf, b'C', |b| text(b, tag));
}

pub(crate) fn parameter_status(buf: &mut Vec<u8>, name: &str, value: &str) {
    message(buf, b'S', |b| {
        text(b, name);
        text(b, value);
    });
}

pub(crate) fn row_description(buf: &mut Vec<u8>, columns: &[ResultColumn]) {
    message(buf, b'T', |b| {
        b.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
        for column in columns {
            let (table, attnum) = column.origin.unwrap_or((0, 0));
            text(b, &column.name);
            b.put_u32(table);
            b.put_i16(attnum);
            b.put_u32(column.ty.oid);
            b.put_i16(builtin::type_by_oid(column.ty.oid).map_or(-1, |t| t.len));
            // The modifier of a row type is a number of our own.
            let row = column.ty.oid == oid::RECORD || shape::is_row_type(column.ty.oid);
            b.put_i32(if row { -1 } else { column.ty.typmod });
            b.put_i16(i16::from(column.binary));
        }
    });
}

pub(crate) fn parameter_description(buf: &mut Vec<u8>, types: &[u32]) {
    message(buf, b't', |b| {
        b.put_u16(u16::try_from(types.len()).unwrap_or(u16::MAX));
        types.iter().for_each(|oid| b.put_u32(*oid));
    });
}

/// CopyInResponse (`G`) or CopyOutResponse (`H`).
pub(crate) fn copy_response(buf: &mut Vec<u8>, tag: u8, binary: bool, columns: usize) {
    message(buf, tag, |b| {
        b.put_u8(u8::from(binary));
        b.put_u16(u16::try_from(columns).unwrap_or(u16::MAX));
        (0..columns).for_each(|_| b.put_i16(i16::from(binary)));
    });
}

pub(crate) fn error(buf: &mut Vec<u8>, severity: &str, fields: &Fields) {
    message(buf, b'E', |b| put_fields(b, severity, fields));
}

pub(crate) fn notice(buf: &mut Vec<u8>, severity: Severity, fields: &Fields) {
    let severity = match severity {
        Severity::Debug => "DEBUG",
        Severity::Log => "LOG",
        Severity::Notice => "NOTICE",
        Severity::Warning => "WARNING",
        Severity::Info => "INFO",
    };
    message(buf, b'N', |b| put_fields(b, severity, fields));
}

fn put_fields(b: &mut Vec<u8>, severity: &str, fields: &Fields) {
    let mut field = |code: u8, value: &str| {
        b.put_u8(code);
        text(b, value);
    };
    field(b'S', severity);
    field(b'V', severity);
    field(b'C', fields.state.as_str());
    field(b'M', &fields.message);
    let optional = [
        (b'D', &fields.detail),
        (b'H', &fields.hint),
        (b'W', &fields.context),
        (b's', &fields.schema),
        (b't', &fields.table),
        (b'c', &fields.column),
        (b'd', &fields.data_type),
        (b'n', &fields.constraint),
    ];
    for (code, value) in optional {
        if let Some(value) = value {
            field(code, value);
        }
    }
    if let Some(position) = fields.position {
        field(b'P', &position.to_string());
    }
    b.put_u8(0);
}
