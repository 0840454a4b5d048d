//! Bytes that no client should send. Each must end in PostgreSQL's error or a closed connection, and
//! the server must go on to serve others.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use anyhow::Result;
use compat_tests::{Meridian, Options, pgbench};

fn start() -> Result<Meridian> {
    Meridian::start(Options { insecure: true, ..Options::default() })
}

/// Sends bytes and nothing more, and reads until the server closes.
fn exchange(server: &Meridian, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port))?;
    // Against a server that hangs; nothing depends on how long an answer takes.
    stream.set_read_timeout(Some(Duration::from_secs(300)))?;
    // The server may close before all is sent: that is an answer, too.
    let _ = stream.write_all(bytes);
    // It has answered all when it closes in turn.
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(n) = stream.read(&mut chunk) {
        if n == 0 {
            break;
        }
        answer.extend_from_slice(&chunk[..n]);
    }
    Ok(answer)
}

fn startup() -> Vec<u8> {
    let params = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
    let mut packet = u32::try_from(params.len() + 4).expect("short").to_be_bytes().to_vec();
    packet.extend_from_slice(params);
    packet
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&u32::try_from(body.len() + 4).expect("short").to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// A session of one simple query.
fn query(text: &str) -> Vec<u8> {
    let mut all = startup();
    all.extend_from_slice(&message(b'Q', &[text.as_bytes(), b"\0"].concat()));
    all
}

fn has(answer: &[u8], needle: &str) -> bool {
    answer.windows(needle.len()).any(|w| w == needle.as_bytes())
}

#[test]
fn malformed_messages_are_refused_and_others_are_served() -> Result<()> {
    let server = start()?;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("half a length", vec![0, 0]),
        ("startup too long", vec![0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0]),
        ("startup too short", vec![0, 0, 0, 4]),
        ("startup without end", b"\0\0\0\x0c\0\x03\0\0user".to_vec()),
        ("version 9", vec![0, 0, 0, 8, 0, 9, 0, 0]),
        ("TLS garbage", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03garbage".to_vec()),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("noise", (0..=255u8).cycle().take(5000).collect()),
    ];
    for (name, bytes) in cases {
        exchange(&server, &bytes)?;
        assert_eq!(pgbench::psql(&server.url("postgres"), "SELECT 1")?, "1", "after {name}");
    }
    Ok(())
}

#[test]
fn malformed_messages_of_a_session_are_refused() -> Result<()> {
    let server = start()?;
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("unknown type", message(b'~', b""), "08P01"),
        ("negative length", vec![b'Q', 0xff, 0xff, 0xff, 0xff], "08P01"),
        ("a query beyond a gibibyte", vec![b'Q', 0x40, 0, 0, 1, b'S'], "08P01"),
        ("parameters beyond a gibibyte", vec![b'B', 0x7f, 0xff, 0xff, 0xff, 0], "08P01"),
        ("a text without end", message(b'Q', b"SELECT 1"), "08P01"),
        ("invalid UTF-8", message(b'Q', b"SELECT '\xc3\x28'\0"), "22021"),
        ("bind of nothing", message(b'B', b""), "08P01"),
        ("bind that promises more", message(b'B', b"\0\0\0\0\xff\xff"), "08P01"),
        ("bind to no statement", message(b'B', b"\0none\0\0\0\0\0\0\0"), "26000"),
        ("execute of no portal", message(b'E', b"none\0\0\0\0\0"), "34000"),
        ("describe of a bad kind", message(b'D', b"Xname\0"), "08P01"),
        ("unknown statement", message(b'Q', b"FROBNICATE\0"), "42601"),
        ("unterminated string", message(b'Q', b"SELECT 'abc\0"), "42601"),
    ];
    for (name, bytes, state) in cases {
        let mut all = startup();
        all.extend_from_slice(&bytes);
        all.extend_from_slice(&message(b'S', b""));
        let answer = exchange(&server, &all)?;
        assert!(has(&answer, state), "{name}: {}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(pgbench::psql(&server.url("postgres"), "SELECT 1")?, "1");
    Ok(())
}

#[test]
fn deep_expressions_are_refused_not_crashed_on() -> Result<()> {
    let server = start()?;
    let url = server.url("postgres");
    let deep = [
        format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000)),
        format!("SELECT {}1", "- ".repeat(10_000)),
        format!("SELECT {}true", "NOT ".repeat(10_000)),
        format!("SELECT 1{}", " + 1".repeat(10_000)),
        format!("SELECT {}1{}", "ARRAY[".repeat(10_000), "]".repeat(10_000)),
        format!("{}SELECT 1{}", "SELECT * FROM (".repeat(5_000), ") a".repeat(5_000)),
    ];
    for text in deep {
        let answer = exchange(&server, &query(&text))?;
        let shown = &text[..40];
        assert!(!answer.is_empty(), "{shown} … got no answer");
        assert_eq!(pgbench::psql(&url, "SELECT 1")?, "1", "after {shown}");
    }
    Ok(())
}

#[test]
fn long_and_deep_queries_run_or_are_refused() -> Result<()> {
    let server = start()?;
    let url = server.url("postgres");
    let union = |op: &str, n: usize| vec!["SELECT 1 AS x"; n].join(op);
    let count = |text: &str| pgbench::psql(&url, &format!("SELECT count(*) FROM ({text}) q"));
    assert_eq!(count(&union(" UNION ALL ", 3000))?, "3000");
    assert_eq!(count(&union(" UNION ", 3000))?, "1");
    assert_eq!(count(&union(" EXCEPT ", 400))?, "0");
    let answer = exchange(&server, &query(&union(" EXCEPT ", 3000)))?;
    assert!(has(&answer, "54001"), "{}", String::from_utf8_lossy(&answer));
    // More operators, one over the other, than a task may poll before it gives way.
    let nested =
        format!("{}SELECT 1 AS x{}", "SELECT x FROM (".repeat(190), " OFFSET 0) q".repeat(190));
    assert_eq!(count(&nested)?, "1");
    let joins: String = (0..150).map(|i| format!(" LEFT JOIN t{i} USING (x)")).collect();
    let ctes: Vec<String> =
        (0..150).map(|i| format!("t{i} AS MATERIALIZED (SELECT 1 AS x)")).collect();
    let joined = format!("WITH {} SELECT 1 FROM (SELECT 1 AS x) s{joins}", ctes.join(", "));
    assert_eq!(count(&joined)?, "1");
    assert_eq!(pgbench::psql(&url, "SELECT 1")?, "1");
    Ok(())
}
