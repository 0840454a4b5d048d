//! PostgreSQL 15 on a directory of its own, as the yardstick. It refuses to run as root, so as root
//! it is run as the user `postgres`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::{TempDir, free_port};

/// A running PostgreSQL; it is stopped when this is dropped.
#[derive(Debug)]
pub struct Postgres {
    dir: TempDir,
    bin: PathBuf,
    /// Port for clients.
    pub port: u16,
}

/// Where PostgreSQL's server programs are, if they are installed.
pub fn installed() -> Option<PathBuf> {
    let candidates = ["/usr/lib/postgresql/15/bin", "/usr/pgsql-15/bin", "/usr/local/bin"];
    candidates.iter().map(PathBuf::from).find(|dir| dir.join("initdb").exists())
}

fn as_server_user(program: &Path) -> Command {
    let root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|out| String::from_utf8_lossy(&out.stdout).trim() == "0");
    if root {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

impl Postgres {
    /// Starts a PostgreSQL with durable commits and otherwise its defaults; `None` where it is not
    /// installed.
    pub fn start() -> Result<Option<Postgres>> {
        Postgres::start_with(&[])
    }

    /// Starts it with further settings, each as `name=value`.
    pub fn start_with(settings: &[&str]) -> Result<Option<Postgres>> {
        let Some(bin) = installed() else { return Ok(None) };
        let postgres = Postgres { dir: TempDir::make("postgres")?, bin, port: free_port()? };
        let _ = Command::new("chown").arg("postgres").arg(&postgres.dir.0).status();
        let data = postgres.data();
        let made = as_server_user(&postgres.bin.join("initdb"))
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8"])
            .arg("--pgdata")
            .arg(&data)
            .stdout(Stdio::null())
            .status()
            .context("cannot run initdb")?;
        if !made.success() {
            bail!("initdb has failed");
        }
        postgres.run(settings)?;
        Ok(Some(postgres))
    }

    fn run(&self, settings: &[&str]) -> Result<()> {
        let data = self.data();
        let mut options =
            format!("-p {} -c listen_addresses=127.0.0.1 -k {}", self.port, data.display());
        for setting in settings {
            options += &format!(" -c {setting}");
        }
        let started = as_server_user(&self.bin.join("pg_ctl"))
            .args(["--wait", "--silent", "--options", &options, "--log"])
            .arg(data.join("log"))
            .arg("--pgdata")
            .arg(&data)
            .arg("start")
            .stdout(Stdio::null())
            .status()
            .context("cannot run pg_ctl")?;
        if !started.success() {
            bail!("PostgreSQL does not start");
        }
        Ok(())
    }

    /// Starts a standby of this server, which follows it under a name.
    pub fn standby(&self, name: &str) -> Result<Postgres> {
        let bin = self.bin.clone();
        let standby = Postgres { dir: TempDir::make(name)?, bin, port: free_port()? };
        let _ = Command::new("chown").arg("postgres").arg(&standby.dir.0).status();
        let from =
            format!("host=127.0.0.1 port={} user=postgres application_name={name}", self.port);
        let copied = as_server_user(&standby.bin.join("pg_basebackup"))
            .args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast"])
            .args(["--dbname", &from, "--pgdata"])
            .arg(standby.data())
            .stderr(Stdio::null())
            .status()
            .context("cannot run pg_basebackup")?;
        if !copied.success() {
            bail!("pg_basebackup has failed");
        }
        standby.run(&[])?;
        Ok(standby)
    }

    fn data(&self) -> PathBuf {
        self.dir.0.join("data")
    }

    /// The postmaster's process id.
    pub fn pid(&self) -> Result<u32> {
        let text = std::fs::read_to_string(self.data().join("postmaster.pid"))?;
        Ok(text.lines().next().unwrap_or_default().parse()?)
    }

    /// A URL for libpq.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = as_server_user(&self.bin.join("pg_ctl"))
            .args(["--mode=immediate", "--silent", "--pgdata"])
            .arg(self.data())
            .arg("stop")
            .stdout(Stdio::null())
            .status();
    }
}
