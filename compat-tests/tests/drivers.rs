//! Drivers of other languages against a secure server: SCRAM over TLS, types in both formats,
//! transactions, COPY, errors, cancellation, pipelines.
//!
//! Each program is in `drivers/<language>/`, takes a URL, and prints `ok <driver>` at its end; with
//! PostgreSQL's URL it passes too. What it needs is installed by its package manager into a cache
//! outside of the clone, `MERIDIAN_DRIVER_CACHE` or `~/.cache/meridian-drivers`. Where a toolchain is
//! missing the test says so and passes, but not in CI.
//!
//! With `MERIDIAN_DRIVER_URL` set, the programs are run against that server instead.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use compat_tests::{Meridian, Options};

/// How long one program may run, seconds. Its checks have limits of their own; this one is for a
/// driver that hangs without.
const RUN_LIMIT_SECONDS: u32 = 300;

/// A driver: its name, the folder of its program, the tools without which it cannot be tried.
struct Driver {
    name: &'static str,
    folder: &'static str,
    tools: &'static [&'static str],
    /// What has to be installed again when it changes.
    manifest: &'static str,
    /// Installs into the directory and says how the program is run.
    install: fn(&Path) -> Result<()>,
    command: fn(&Path) -> Command,
}

#[test]
fn psycopg() -> Result<()> {
    run(&Driver {
        name: "psycopg",
        folder: "python",
        tools: &["python3"],
        manifest: "requirements.txt",
        install: install_python,
        command: |dir| python(dir, "psycopg_smoke.py"),
    })
}

#[test]
fn asyncpg() -> Result<()> {
    run(&Driver {
        name: "asyncpg",
        folder: "python",
        tools: &["python3"],
        manifest: "requirements.txt",
        install: install_python,
        command: |dir| python(dir, "asyncpg_smoke.py"),
    })
}

#[test]
fn node_postgres() -> Result<()> {
    run(&Driver {
        name: "node-postgres",
        folder: "node",
        tools: &["node", "npm"],
        manifest: "package.json",
        install: |dir| {
            finish(
                Command::new("npm")
                    .args(["install", "--silent", "--no-package-lock"])
                    .current_dir(dir),
            )
        },
        command: |dir| program("node", &[&dir.join("smoke.js")]),
    })
}

#[test]
fn pgjdbc() -> Result<()> {
    run(&Driver {
        name: "pgjdbc",
        folder: "java",
        tools: &["java", "mvn"],
        manifest: "pom.xml",
        install: |dir| {
            let args = ["-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"];
            finish(Command::new("mvn").args(args).current_dir(dir))
        },
        command: |dir| {
            let mut command = program("java", &[Path::new("-cp")]);
            command.arg(dir.join("lib").join("*")).arg(dir.join("Smoke.java"));
            command
        },
    })
}

#[test]
fn pgx() -> Result<()> {
    run(&Driver {
        name: "pgx",
        folder: "go",
        tools: &["go"],
        manifest: "go.sum",
        install: |dir| finish(Command::new("go").args(["mod", "download"]).current_dir(dir)),
        command: |dir| {
            let mut command = program("go", &[Path::new("run"), Path::new(".")]);
            command.current_dir(dir);
            command
        },
    })
}

fn run(driver: &Driver) -> Result<()> {
    if let Some(missing) = driver.tools.iter().find(|tool| !is_installed(tool)) {
        let message = format!("SKIPPED {}: no {missing}", driver.name);
        ensure!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
        say(&message);
        return Ok(());
    }
    let dir = installed(driver)?;
    let (server, url) = match std::env::var("MERIDIAN_DRIVER_URL") {
        Ok(url) => (None, url),
        Err(_) => {
            let server = Meridian::start(Options::default())?;
            let url = server.url("postgres");
            (Some(server), url)
        }
    };
    let output = run_within_limit((driver.command)(&dir).arg(url))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let told = format!("{stdout}\n{stderr}");
    let failed = failed_checks(driver.name, &told);
    let known = if server.is_some() { known_gaps(driver.name) } else { vec![] };
    ensure!(failed == known, "{}: failed {failed:?}, known gaps {known:?}:\n{told}", driver.name);
    ensure!(
        !known.is_empty()
            || (output.status.success()
                && stdout.trim_end().ends_with(&format!("ok {}", driver.name))),
        "{} has failed ({}):\n{told}",
        driver.name,
        output.status
    );
    Ok(())
}

/// The checks that a program says have failed, sorted.
fn failed_checks(driver: &str, told: &str) -> Vec<String> {
    let prefix = format!("FAILED {driver} ");
    let failed = told.lines().filter_map(|line| line.strip_prefix(&prefix));
    let mut checks: Vec<String> =
        failed.filter_map(|rest| Some(rest.split_once(':')?.0.to_owned())).collect();
    checks.sort();
    checks.dedup();
    checks
}

/// The checks that are known to fail, in `drivers/known-gaps.txt`: `driver check` on each line. One
/// that passes has to be taken off the list, which only gets shorter.
fn known_gaps(driver: &str) -> Vec<String> {
    let prefix = format!("{driver} ");
    let lines = include_str!("../drivers/known-gaps.txt").lines();
    let mut gaps: Vec<String> =
        lines.filter_map(|line| line.strip_prefix(&prefix).map(str::to_owned)).collect();
    gaps.sort();
    gaps
}

#[expect(clippy::print_stderr, reason = "a skipped test has to be seen")]
fn say(message: &str) {
    eprintln!("{message}");
}

fn is_installed(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(tool).is_file())
}

fn cache() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("MERIDIAN_DRIVER_CACHE") {
        return Ok(dir.into());
    }
    let home = std::env::var_os("HOME").context("neither MERIDIAN_DRIVER_CACHE nor HOME is set")?;
    Ok(Path::new(&home).join(".cache").join("meridian-drivers"))
}

/// The directory with the program and all that it needs; installed when its manifest is new.
fn installed(driver: &Driver) -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let source = compat_tests::here().join("drivers").join(driver.folder);
    let dir = cache()?.join(driver.folder);
    std::fs::create_dir_all(&dir)?;
    for entry in std::fs::read_dir(&source)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), dir.join(entry.file_name()))?;
        }
    }
    let stamp = dir.join("installed");
    let wanted = std::fs::read(source.join(driver.manifest))?;
    if std::fs::read(&stamp).ok().as_ref() != Some(&wanted) {
        (driver.install)(&dir).with_context(|| format!("cannot install {}", driver.name))?;
        std::fs::write(&stamp, &wanted)?;
    }
    Ok(dir)
}

fn install_python(dir: &Path) -> Result<()> {
    finish(Command::new("python3").args(["-m", "venv", "venv"]).current_dir(dir))?;
    let pip = dir.join("venv").join("bin").join("pip");
    finish(
        Command::new(pip).args(["install", "--quiet", "-r", "requirements.txt"]).current_dir(dir),
    )
}

fn python(dir: &Path, script: &str) -> Command {
    program(dir.join("venv").join("bin").join("python"), &[&dir.join(script)])
}

fn program(path: impl AsRef<std::ffi::OsStr>, args: &[&Path]) -> Command {
    let mut command = Command::new(path);
    command.args(args);
    command
}

fn finish(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

fn run_within_limit(command: &mut Command) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    for _ in 0..RUN_LIMIT_SECONDS * 10 {
        if child.try_wait()?.is_some() {
            return Ok(child.wait_with_output()?);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    child.kill()?;
    let output = child.wait_with_output()?;
    bail!("no end after {RUN_LIMIT_SECONDS} s:\n{}", String::from_utf8_lossy(&output.stdout))
}
