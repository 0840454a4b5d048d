//! Throws mutated pipelines at the decoder of the wire protocol and at the readers of parameters.
//!
//! ```text
//! cargo run -p meridian-gateway --example fuzz_frames -- [seconds] [seed]
//! cargo run -p meridian-gateway --example fuzz_frames -- case SEED          one case again
//! ```
//!
//! A case is a pipeline of well-formed messages in which bytes, lengths and counts are changed. It
//! holds when nothing panics, when the same frames come out however the bytes arrive, and when a
//! parameter that was read can be written again.
#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use meridian_base::{Instant, Rng};
use meridian_types::{EvalContext, PgError, PgType, io};

// Both are the crate's own and not public.
#[path = "../frame.rs"]
#[allow(dead_code, reason = "the crate uses more of it")]
mod frame;
#[path = "../message.rs"]
#[allow(dead_code, reason = "the crate uses more of it")]
mod message;

use frame::{Frame, MESSAGE_BYTES_MAX, take_frame, take_startup};
use message::{Bind, Reader};

/// Types whose readers are tried, with arrays and some that no parameter can have.
const TYPES: &[u32] = &[
    16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 114, 600, 650, 700, 701, 705, 790,
    829, 869, 1000, 1001, 1002, 1005, 1007, 1009, 1014, 1015, 1016, 1021, 1022, 1028, 1042, 1043,
    1082, 1083, 1114, 1115, 1182, 1184, 1185, 1186, 1187, 1231, 1266, 1560, 1700, 2205, 2206, 2249,
    2278, 2287, 2950, 2951, 3220, 3802, 3807, 3904, 5069, 0, 99999,
];

/// Texts that are put into parameters.
const TEXTS: &[&str] = &[
    "",
    "0",
    "-1",
    "9223372036854775808",
    "1e400",
    "NaN",
    "-infinity",
    "1.5e-3",
    "{}",
    "{1,2,NULL}",
    "{{1,2},{3,4}}",
    "[2:3]={\"a\",b}",
    "{\"a\": [1, {\"b\": null}]}",
    "[1,2",
    "\"\\ud800\"",
    "true",
    "2024-02-29",
    "294277-01-01",
    "4714-11-24 BC",
    "12:34:56.789+05:30",
    "1 mon -3 days 04:05:06",
    "P1Y2M3DT4H5M6.5S",
    "2024-01-01 00:00:00 Europe/Berlin",
    "12345678-1234-5678-1234-567812345678",
    "\\x00ff",
    "\\x0",
    "(1,\"a b\",)",
    "ä😀",
    "now",
    "J2451187",
    "20240101T040506",
    "pg_class",
    "A/0",
    "$1,234.56",
    "00001111",
    "infinity",
    "allballs",
    "178956970 years",
];

static PLACE: Mutex<String> = Mutex::new(String::new());

fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let one = args.first().is_some_and(|a| a == "case");
    if one {
        args.remove(0);
    }
    let number =
        |n: usize, default: u64| args.get(n).map_or(default, |a| a.parse().expect("a number"));
    let (seconds, seed) = if one { (0, number(0, 1)) } else { (number(0, 60), number(1, 1)) };
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        *PLACE.lock().expect("nobody panics with it") =
            format!("{place}: {}", text.unwrap_or_default());
    }));
    let started = Instant::now();
    let mut failures: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let (mut cases, mut frames, mut read) = (0u64, 0, 0);
    let context = EvalContext::bare();
    loop {
        let case_seed = if one { seed } else { seed.wrapping_mul(1 << 32).wrapping_add(cases) };
        match catch_unwind(AssertUnwindSafe(|| case(case_seed, &context, one))) {
            Ok(Ok((f, r))) => {
                frames += f;
                read += r;
            }
            Ok(Err(what)) => failures.entry(what).or_insert((case_seed, 0)).1 += 1,
            Err(_) => {
                let place = PLACE.lock().expect("nobody panics with it").clone();
                failures.entry(place.chars().take(200).collect()).or_insert((case_seed, 0)).1 += 1;
            }
        }
        cases += 1;
        if one || started.elapsed() >= Duration::from_secs(seconds) {
            break;
        }
    }
    println!(
        "{cases} cases, {frames} frames, {read} parameters read, {} kinds of failure",
        failures.len()
    );
    for (place, (case_seed, count)) in &failures {
        println!("== {place}\n   {count} times, for instance case {case_seed}");
    }
    std::process::exit(i32::from(!failures.is_empty()));
}

/// Frames and parameters that could be read; or what does not hold.
fn case(seed: u64, context: &EvalContext, shown: bool) -> Result<(usize, usize), String> {
    let mut rng = Rng::seeded(seed);
    let bytes = pipeline(&mut rng);
    if shown {
        println!("{bytes:02x?}");
    }
    let whole = frames(&bytes, bytes.len().max(1), &mut rng);
    let piecewise = frames(&bytes, 9, &mut rng);
    if whole != piecewise {
        return Err("the frames depend on how the bytes arrive".to_owned());
    }
    let mut startup = BytesMut::from(&bytes[..]);
    if let Ok(Some(body)) = take_startup(&mut startup) {
        let mut reader = Reader::new(&body);
        let _ = reader.u32();
        while reader.text().is_ok_and(|t| !t.is_empty()) {}
    }
    let mut read = 0;
    for frame in &whole {
        read += body(&mut rng, frame, context, shown)?;
    }
    for _ in 0..8 {
        read += parameter(&mut rng, context, None, shown)?;
    }
    Ok((whole.len(), read))
}

/// What comes out when the bytes arrive in pieces of up to so many.
fn frames(bytes: &[u8], piece_max: usize, rng: &mut Rng) -> Vec<Frame> {
    let (mut buf, mut out, mut at) = (BytesMut::new(), Vec::new(), 0);
    while at < bytes.len() {
        let n = (1 + rng.below(piece_max as u64) as usize).min(bytes.len() - at);
        buf.extend_from_slice(&bytes[at..at + n]);
        at += n;
        loop {
            match take_frame(&mut buf, MESSAGE_BYTES_MAX) {
                Ok(Some(frame)) => out.push(frame),
                Ok(None) => break,
                Err(_) => return out,
            }
        }
    }
    out
}

/// Reads a body as the connection does: the number of parameters that could be read.
fn body(rng: &mut Rng, frame: &Frame, context: &EvalContext, shown: bool) -> Result<usize, String> {
    let mut reader = Reader::new(&frame.body);
    let mut read = 0;
    let fields = |r: &mut Reader<'_>| -> Result<(), PgError> {
        match frame.tag {
            b'Q' => drop(r.text()?),
            b'P' => {
                r.text()?;
                r.text()?;
                for _ in 0..r.count(4)? {
                    r.u32()?;
                }
            }
            b'D' | b'C' => {
                r.u8()?;
                r.text()?;
            }
            b'E' => {
                r.text()?;
                r.i32()?;
            }
            _ => return Ok(()),
        }
        r.end()
    };
    let _ = fields(&mut reader);
    if frame.tag == b'B'
        && let Ok(bind) = Bind::read(&frame.body)
    {
        for bytes in bind.params.iter().flatten() {
            read += parameter(rng, context, Some(bytes), shown)?;
        }
    }
    Ok(read)
}

/// Reads bytes as a value of some type; writes what was read, and reads that again.
fn parameter(
    rng: &mut Rng,
    context: &EvalContext,
    bytes: Option<&[u8]>,
    shown: bool,
) -> Result<usize, String> {
    let type_oid = TYPES[pick(rng, TYPES.len())];
    let typmod = if rng.below(8) == 0 { rng.below(2000) as i32 } else { -1 };
    let bytes = bytes.map_or_else(|| value(rng), |b| b.to_vec());
    if shown {
        println!("type {type_oid} typmod {typmod} bytes {bytes:02x?}");
    }
    let mut read = 0;
    let ty = PgType::new(type_oid);
    if let Ok(datum) = io::binary_recv(type_oid, typmod, &bytes, context) {
        read += 1;
        let mut sent = Vec::new();
        if io::binary_send(&datum, ty, context, &mut sent).is_ok() {
            let again = io::binary_recv(type_oid, -1, &sent, context);
            let mut twice = Vec::new();
            match again.and_then(|d| io::binary_send(&d, ty, context, &mut twice)) {
                Ok(()) if twice == sent => {}
                Ok(()) => {
                    return Err(format!(
                        "type {type_oid}: binary is sent in another way after a round"
                    ));
                }
                Err(e) => {
                    return Err(format!(
                        "type {type_oid}: what is sent cannot be read: {}",
                        e.fields().message
                    ));
                }
            }
        }
        let _ = io::to_text(&datum, ty, context);
    }
    let text = String::from_utf8_lossy(&bytes);
    if let Ok(datum) = io::text_in(type_oid, typmod, &text, context) {
        read += 1;
        if let Ok(out) = io::to_text(&datum, ty, context)
            && let Err(e) = io::text_in(type_oid, -1, &out, context)
        {
            return Err(format!(
                "type {type_oid}: what is shown cannot be read: {}",
                e.fields().message
            ));
        }
        let mut sent = Vec::new();
        let _ = io::binary_send(&datum, ty, context, &mut sent);
    }
    Ok(read)
}

fn pick(rng: &mut Rng, len: usize) -> usize {
    rng.below(len as u64) as usize
}

/// Bytes of a parameter: of a fixed width, of an array, of a text, or any.
fn value(rng: &mut Rng) -> Vec<u8> {
    let mut out = match rng.below(5) {
        0 => (0..[0, 1, 2, 4, 8, 12, 16][pick(rng, 7)]).map(|_| rng.next_u32() as u8).collect(),
        1 => {
            let mut out = Vec::new();
            let dims = pick(rng, 3) as i32;
            out.put_i32(dims);
            out.put_i32(pick(rng, 2) as i32);
            out.put_u32(TYPES[pick(rng, TYPES.len())]);
            for _ in 0..dims {
                out.put_i32(pick(rng, 3) as i32);
                out.put_i32(1);
            }
            for _ in 0..pick(rng, 5) {
                let width = [1, 2, 4, 8][pick(rng, 4)];
                out.put_i32(width);
                (0..width).for_each(|_| out.push(rng.next_u32() as u8));
            }
            out
        }
        2 => {
            // numeric: digits, weight, sign, scale
            let mut out = Vec::new();
            let digits = pick(rng, 6) as i16;
            out.put_i16(digits);
            out.put_i16(pick(rng, 9) as i16 - 4);
            out.put_u16([0, 0x4000, 0xc000, 0xd000, 0xf000][pick(rng, 5)]);
            out.put_i16(pick(rng, 20) as i16);
            (0..digits).for_each(|_| out.put_i16(rng.below(10_000) as i16));
            out
        }
        3 => TEXTS[pick(rng, TEXTS.len())].as_bytes().to_vec(),
        _ => (0..pick(rng, 40)).map(|_| rng.next_u32() as u8).collect(),
    };
    if rng.below(3) == 0 {
        damage(rng, &mut out);
    }
    out
}

fn pipeline(rng: &mut Rng) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..=rng.below(8) {
        message(rng, &mut out);
    }
    for _ in 0..rng.below(4) {
        damage(rng, &mut out);
    }
    out
}

fn message(rng: &mut Rng, out: &mut Vec<u8>) {
    const NAMES: &[&str] = &[
        "",
        "s1",
        "portal",
        "ä",
        "a name that is rather long, longer than 63 bytes, as it is with some drivers",
    ];
    let tag = b"BCDEFHPQSXcdfp"[pick(rng, 14)];
    let mut body = Vec::new();
    let text = |rng: &mut Rng, body: &mut Vec<u8>| {
        body.extend_from_slice(NAMES[pick(rng, NAMES.len())].as_bytes());
        body.push(0);
    };
    match tag {
        b'Q' | b'f' => text(rng, &mut body),
        b'P' => {
            text(rng, &mut body);
            text(rng, &mut body);
            let n = pick(rng, 4) as u16;
            body.put_u16(n);
            (0..n).for_each(|_| body.put_u32(TYPES[pick(rng, TYPES.len())]));
        }
        b'B' => {
            text(rng, &mut body);
            text(rng, &mut body);
            let n = pick(rng, 4) as u16;
            let formats = [0, 1, n][pick(rng, 3)];
            body.put_u16(formats);
            (0..formats).for_each(|_| body.put_u16(rng.below(2) as u16));
            body.put_u16(n);
            for _ in 0..n {
                let value = value(rng);
                if rng.below(6) == 0 {
                    body.put_i32(-1);
                } else {
                    body.put_i32(value.len() as i32);
                    body.extend_from_slice(&value);
                }
            }
            body.put_u16(1);
            body.put_u16(rng.below(2) as u16);
        }
        b'D' | b'C' => {
            body.push(b"SP"[pick(rng, 2)]);
            text(rng, &mut body);
        }
        b'E' => {
            text(rng, &mut body);
            body.put_i32(rng.next_u32() as i32 >> 20);
        }
        b'd' | b'p' | b'F' => body = value(rng),
        _ => {}
    }
    out.push(tag);
    out.put_u32(body.len() as u32 + 4);
    out.extend_from_slice(&body);
}

/// Changes bytes: single ones, integers, the length of the whole.
fn damage(rng: &mut Rng, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        bytes.push(rng.next_u32() as u8);
        return;
    }
    let at = pick(rng, bytes.len());
    match rng.below(6) {
        0 => bytes[at] = rng.next_u32() as u8,
        1 => bytes[at] ^= 1 << rng.below(8),
        2 => bytes.truncate(at),
        3 => {
            let number =
                [0, 1, 4, 5, 0x7f, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x4000_0000]
                    [pick(rng, 10)];
            let width = [2, 4][pick(rng, 2)].min(bytes.len() - at);
            let number = u32::to_be_bytes(number);
            bytes[at..at + width].copy_from_slice(&number[4 - width..]);
        }
        4 => bytes.insert(at, rng.next_u32() as u8),
        _ => {
            let end = at + pick(rng, bytes.len() - at + 1);
            let part = bytes[at..end].to_vec();
            bytes.splice(at..at, part);
        }
    }
}
