//! A Meridian process on a directory of its own.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long a start may take before it has failed. Generous, since machines may be busy.
const START_LIMIT_SECONDS: u32 = 120;

/// What a process is started with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Neither TLS nor passwords.
    pub insecure: bool,
    /// Further arguments.
    pub args: Vec<String>,
}

/// A running process; it is killed and its directory removed when this is dropped.
#[derive(Debug)]
pub struct Meridian {
    child: Option<Child>,
    dir: TempDir,
    options: Options,
    /// Port for Postgres clients.
    pub port: u16,
    http_port: u16,
    /// The superuser's password, as the first start printed it.
    pub password: Option<String>,
}

/// The program: `MERIDIAN_BIN`, or what cargo builds in this build's profile.
pub fn binary() -> Result<PathBuf> {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = BINARY.get() {
        return Ok(path.clone());
    }
    let path = match std::env::var_os("MERIDIAN_BIN") {
        Some(path) => PathBuf::from(path),
        None => build()?,
    };
    Ok(BINARY.get_or_init(|| path).clone())
}

fn build() -> Result<PathBuf> {
    let release = !cfg!(debug_assertions);
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "meridian"]);
    if release {
        cargo.arg("--release");
    }
    let root = crate::here().join("..");
    if !cargo.current_dir(root).status().context("cannot run cargo")?.success() {
        bail!("meridian does not build");
    }
    let this = std::env::current_exe()?;
    let profile_dir = this
        .ancestors()
        .find(|dir| dir.join("meridian").is_file())
        .context("cargo has built no program meridian beside this one")?;
    Ok(profile_dir.join("meridian"))
}

/// A port that was free a moment ago.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Meridian {
    /// Starts a process on an empty directory and waits until it serves.
    pub fn start(options: Options) -> Result<Meridian> {
        let mut meridian = Meridian {
            child: None,
            dir: TempDir::make("meridian")?,
            options,
            port: free_port()?,
            http_port: free_port()?,
            password: None,
        };
        while let Err(error) = meridian.restart() {
            // Somebody else may have got one of the ports meanwhile.
            let taken = |port| TcpListener::bind(("127.0.0.1", port)).is_err();
            if !taken(meridian.port) && !taken(meridian.http_port) {
                return Err(error);
            }
            (meridian.port, meridian.http_port) = (free_port()?, free_port()?);
            meridian.dir = TempDir::make("meridian")?;
        }
        Ok(meridian)
    }

    /// Starts it again on the same directory and ports.
    pub fn restart(&mut self) -> Result<()> {
        let mut command = Command::new(binary()?);
        command
            .arg("start-single-node")
            .arg("--data")
            .arg(self.dir.0.join("data"))
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .args(["--http", &format!("127.0.0.1:{}", self.http_port)])
            .args(["--log", "warn"])
            .args(&self.options.args)
            .stdout(Stdio::piped());
        if self.options.insecure {
            command.arg("--insecure");
        }
        let mut child = command.spawn().context("cannot start meridian")?;
        let stdout = child.stdout.take().context("no standard output")?;
        self.child = Some(child);
        for _ in 0..START_LIMIT_SECONDS * 20 {
            if let Some(status) = self.child.as_mut().and_then(|c| c.try_wait().ok().flatten()) {
                bail!("meridian has ended at start: {status}");
            }
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() && self.ready() {
                if self.password.is_none() && !self.options.insecure {
                    self.password = Some(read_password(stdout)?);
                }
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("meridian does not serve after {START_LIMIT_SECONDS} s");
    }

    fn ready(&self) -> bool {
        self.http("/health/ready").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// The answer of the HTTP port to a GET.
    pub fn http(&self, path: &str) -> Result<String> {
        use std::io::{Read, Write};
        let mut stream = TcpStream::connect(("127.0.0.1", self.http_port))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Resident memory, and the most that it has been, KiB.
    pub fn resident(&self) -> Result<(u64, u64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .context("the server is gone, or this is no Linux")?;
        let field = |name: &str| -> Result<u64> {
            let line =
                status.lines().find_map(|l| l.strip_prefix(name)).context("no such field")?;
            Ok(line.trim().trim_end_matches(" kB").parse()?)
        };
        Ok((field("VmRSS:")?, field("VmHWM:")?))
    }

    /// SIGKILL
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            let pid = child.id().to_string();
            Command::new("kill").args(["-TERM", &pid]).status()?;
            let status = child.wait()?;
            if !status.success() {
                bail!("meridian did not end well: {status}");
            }
        }
        Ok(())
    }

    /// The directory of the database.
    pub fn data(&self) -> PathBuf {
        self.dir.0.join("data")
    }

    /// A URL for libpq.
    pub fn url(&self, database: &str) -> String {
        let password = self.password.as_ref().map(|p| format!(":{p}")).unwrap_or_default();
        let mode = if self.options.insecure { "disable" } else { "require" };
        format!("postgresql://postgres{password}@127.0.0.1:{}/{database}?sslmode={mode}", self.port)
    }
}

fn read_password(stdout: impl std::io::Read) -> Result<String> {
    for line in BufReader::new(stdout).lines() {
        if let Some((_, password)) = line?.split_once("shown this once: ") {
            return Ok(password.trim().to_owned());
        }
    }
    bail!("meridian has printed no password")
}

impl Drop for Meridian {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// A directory that is removed when this is dropped.
#[derive(Debug)]
pub struct TempDir(pub PathBuf);

impl TempDir {
    /// A new directory whose name begins with this word.
    pub fn make(word: &str) -> Result<TempDir> {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("{word}-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(TempDir(path))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// CPU time of a process and its children so far, in nanoseconds. A PostgreSQL backend that has
/// ended is counted by its postmaster's `cutime`.
pub fn cpu_nanos(pid: u32) -> Result<u64> {
    let mut total = 0;
    for pid in family(pid) {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for task in tasks.flatten() {
            let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            total += text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    Ok(total + (ticks(13) + ticks(14)) * 10_000_000)
}

fn family(pid: u32) -> Vec<u32> {
    let children =
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut all = vec![pid];
    all.extend(children.split_whitespace().filter_map(|c| c.parse::<u32>().ok()));
    all
}
