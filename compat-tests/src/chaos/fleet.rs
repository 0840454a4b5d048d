//! The nodes: processes of one binary, alone or as a cluster.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::net::Net;
use crate::process::TempDir;

const SQL_PORT: u16 = 6230;
const HTTP_PORT: u16 = 6231;
const PEER_PORT: u16 = 6232;

/// How long a start may take before it has failed. Generous, since machines may be busy.
const START_LIMIT: u32 = 120 * 20;

/// What a fleet is made of.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The program.
    pub binary: PathBuf,
    /// How many nodes.
    pub nodes: usize,
    /// The size of each node's disk; `None` = the machine's.
    pub disk_mib: Option<u32>,
}

/// One node.
#[derive(Debug)]
struct Node {
    child: Option<Child>,
    data: PathBuf,
    mounted: bool,
    /// Further arguments of its next starts.
    extra: Vec<String>,
}

/// All nodes. They are killed, and their directories and networks removed, when this is dropped.
#[derive(Debug)]
pub struct Fleet {
    shape: Shape,
    /// Where they live.
    pub net: Net,
    dir: TempDir,
    nodes: Vec<Node>,
}

fn signal(pid: u32, name: &str) -> Result<()> {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status()?;
    if !status.success() {
        bail!("kill -{name} {pid} has failed");
    }
    Ok(())
}

impl Fleet {
    /// Starts all nodes on empty directories and waits until they serve.
    pub fn start(shape: Shape) -> Result<Fleet> {
        let net = Net::make(shape.nodes)?;
        let dir = TempDir::make("chaos")?;
        let mut fleet = Fleet { net, dir, nodes: Vec::new(), shape };
        for node in 0..fleet.shape.nodes {
            let disk = fleet.dir.0.join(format!("n{node}"));
            std::fs::create_dir_all(&disk)?;
            let mounted = fleet.shape.disk_mib.is_some_and(|mib| {
                let options = format!("size={mib}m");
                let mount = Command::new("mount")
                    .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
                    .arg(&disk)
                    .status();
                mount.is_ok_and(|status| status.success())
            });
            let data = disk.join("data");
            fleet.nodes.push(Node { child: None, data, mounted, extra: Vec::new() });
            fleet.spawn(node)?;
        }
        if fleet.shape.nodes > 1 {
            fleet.init()?;
        }
        for node in 0..fleet.shape.nodes {
            fleet.wait(node)?;
        }
        if fleet.shape.nodes > 1 {
            fleet.await_copies()?;
        }
        Ok(fleet)
    }

    /// Waits until the first range has its copies: before that the founder alone has everything.
    fn await_copies(&self) -> Result<()> {
        for _ in 0..START_LIMIT {
            let roles = self.roles()?;
            let voters = roles.iter().filter(|(_, role)| role == "voter" || role == "leaseholder");
            if voters.count() >= self.len().min(3) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("the nodes have not got their copies")
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    fn at(&self, node: usize, port: u16) -> String {
        format!("{}:{port}", self.net.address(node))
    }

    /// The URLs for clients, one for each node.
    pub fn urls(&self) -> Vec<String> {
        let url = |node| {
            format!("postgresql://postgres@{}/postgres?sslmode=disable", self.at(node, SQL_PORT))
        };
        (0..self.len()).map(url).collect()
    }

    /// Where the nodes reach each other.
    pub fn peers(&self) -> Vec<String> {
        (0..self.len()).map(|node| self.at(node, PEER_PORT)).collect()
    }

    /// Peer address and role of each node, as the first one tells that answers.
    pub fn roles(&self) -> Result<Vec<(String, String)>> {
        for node in (0..self.len()).filter(|node| self.nodes[*node].child.is_some()) {
            let mut words = self.net.prefix(node);
            words.push(self.shape.binary.display().to_string());
            let host = self.at(node, PEER_PORT);
            words.extend(["node", "status", "--insecure", "--host", &host].map(str::to_owned));
            let output = Command::new(&words[0]).args(&words[1..]).output()?;
            if !output.status.success() {
                continue;
            }
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let rows = text.lines().skip(1).map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                // id, live, role, perhaps "(leaving)" or "(draining)", leases, peer
                let role = words.get(2).copied().unwrap_or_default();
                let peer = words.iter().find(|word| word.contains(':')).copied();
                (peer.unwrap_or_default().to_owned(), role.to_owned())
            });
            return Ok(rows.collect());
        }
        bail!("no node tells the others' roles");
    }

    /// The node that holds the lease; the only one, if there is only one.
    pub fn leaseholder(&self) -> Result<usize> {
        if self.len() == 1 {
            return Ok(0);
        }
        for _ in 0..200 {
            let roles = self.roles().unwrap_or_default();
            let leader = roles.iter().find(|(_, role)| role == "leaseholder");
            let number = leader.and_then(|(peer, _)| self.peers().iter().position(|p| p == peer));
            if let Some(number) = number {
                return Ok(number);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("no node holds the lease");
    }

    fn init(&self) -> Result<()> {
        let host = self.at(0, PEER_PORT);
        for _ in 0..START_LIMIT {
            let init = Command::new(&self.shape.binary)
                .args(["init", "--insecure", "--host", &host])
                .output()?;
            if init.status.success() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("meridian init --host {host} has failed");
    }

    fn spawn(&mut self, node: usize) -> Result<()> {
        let alone = self.shape.nodes == 1;
        let mut words = self.net.prefix(node);
        words.push(self.shape.binary.display().to_string());
        words.push(if alone { "start-single-node" } else { "start" }.to_owned());
        let mut pair = |name: &str, value: String| words.extend([name.to_owned(), value]);
        pair("--data", self.nodes[node].data.display().to_string());
        pair("--listen", self.at(node, SQL_PORT));
        pair("--http", self.at(node, HTTP_PORT));
        pair("--log", "warn".to_owned());
        if !alone {
            pair("--peer", self.at(node, PEER_PORT));
            let all: Vec<String> = (0..self.shape.nodes).map(|n| self.at(n, PEER_PORT)).collect();
            pair("--join", all.join(","));
        }
        words.push("--insecure".to_owned());
        words.extend(self.nodes[node].extra.iter().cloned());
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.0.join(format!("n{node}.log")))?;
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", words.join(" ")))?;
        self.nodes[node].child = Some(child);
        Ok(())
    }

    fn wait(&mut self, node: usize) -> Result<()> {
        let address = self.at(node, HTTP_PORT);
        for _ in 0..START_LIMIT {
            let child = self.nodes[node].child.as_mut().context("the node is down")?;
            if let Some(status) = child.try_wait()? {
                bail!("node {node} has ended at start: {status}\n{}", self.log(node));
            }
            if ready(&address).unwrap_or(false) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("node {node} does not serve\n{}", self.log(node));
    }

    /// Does a node say that it serves?
    pub fn is_ready(&self, node: usize) -> Result<bool> {
        ready(&self.at(node, HTTP_PORT))
    }

    /// The end of what a node has written to its log.
    pub fn log(&self, node: usize) -> String {
        let path = self.dir.0.join(format!("n{node}.log"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Has a node ended by itself? Then how.
    pub fn ended(&mut self, node: usize) -> Option<String> {
        let status = self.nodes[node].child.as_mut()?.try_wait().ok().flatten()?;
        Some(format!("{status}\n{}", self.log(node)))
    }

    /// A node's data directory.
    pub fn data(&self, node: usize) -> &Path {
        &self.nodes[node].data
    }

    /// The program, with these arguments.
    pub fn program(&self, arguments: &[&str]) -> Result<std::process::Output> {
        Ok(Command::new(&self.shape.binary).args(arguments).output()?)
    }

    /// A node's process id.
    pub fn pid(&self, node: usize) -> Result<u32> {
        Ok(self.nodes[node].child.as_ref().context("the node is down")?.id())
    }

    /// SIGKILL
    pub fn kill(&mut self, node: usize) -> Result<()> {
        if let Some(mut child) = self.nodes[node].child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&mut self, node: usize) -> Result<()> {
        signal(self.pid(node)?, "TERM")?;
        if let Some(mut child) = self.nodes[node].child.take() {
            let status = child.wait()?;
            if !status.success() {
                bail!("node {node} did not end well: {status}\n{}", self.log(node));
            }
        }
        Ok(())
    }

    /// Starts a node that is down and waits until it serves.
    pub fn restart(&mut self, node: usize) -> Result<()> {
        if self.nodes[node].child.is_none() {
            self.spawn(node)?;
        }
        self.wait(node)
    }

    /// Starts a node that is to end by itself, and to say why.
    pub fn start_to_fail(&mut self, node: usize, why: &str) -> Result<()> {
        self.spawn(node)?;
        for _ in 0..START_LIMIT {
            match self.ended(node) {
                Some(how) if how.contains(why) => {
                    self.nodes[node].child = None;
                    return Ok(());
                }
                Some(how) => bail!("node {node} has not said anything of {why}: {how}"),
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        }
        bail!("node {node} goes on in spite of {why}")
    }

    /// Makes sure that every node runs and serves, whatever has happened to it.
    pub fn mend(&mut self) -> Result<()> {
        for node in 0..self.len() {
            if self.nodes[node].child.is_some() {
                let _ = self.pause(node, false);
            }
            if self.ended(node).is_some() {
                self.kill(node)?;
            }
            self.restart(node)?;
        }
        Ok(())
    }

    /// With these further arguments from its next start on.
    pub fn set_extra(&mut self, node: usize, extra: &[&str]) {
        self.nodes[node].extra = extra.iter().map(|word| (*word).to_owned()).collect();
    }

    /// SIGSTOP (`true`) or SIGCONT.
    pub fn pause(&mut self, node: usize, pause: bool) -> Result<()> {
        signal(self.pid(node)?, if pause { "STOP" } else { "CONT" })
    }

    /// Does a node have a disk of its own, which can be filled?
    pub fn has_own_disk(&self, node: usize) -> bool {
        self.nodes[node].mounted
    }

    /// Fills a node's disk with a file, or takes that file away.
    pub fn fill(&self, node: usize, fill: bool) -> Result<()> {
        let disk = self.nodes[node].data.parent().context("a directory")?;
        let file = disk.join("ballast");
        if !fill {
            return Ok(std::fs::remove_file(file)?);
        }
        // It is meant to fail: the disk is full then.
        let _ = Command::new("dd")
            .args(["if=/dev/zero", "bs=64k", &format!("of={}", file.display())])
            .stderr(Stdio::null())
            .status();
        Ok(())
    }

    /// Does the program know this argument?
    pub fn knows(&self, argument: &str) -> bool {
        let verb = if self.shape.nodes == 1 { "start-single-node" } else { "start" };
        // It may be hidden from the help.
        let known = Command::new(&self.shape.binary).args([verb, argument, "--help"]).output();
        known.is_ok_and(|known| known.status.success())
    }
}

/// Does the health check say that a node serves?
fn ready(address: &str) -> Result<bool> {
    use std::io::{Read, Write};
    let address: SocketAddr = address.parse()?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}

fn unmount(path: &Path) {
    let _ = Command::new("umount").arg("-l").arg(path).status();
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for node in 0..self.nodes.len() {
            let _ = self.pause(node, false);
            let _ = self.kill(node);
            if let (true, Some(disk)) = (self.nodes[node].mounted, self.nodes[node].data.parent()) {
                unmount(disk);
            }
        }
    }
}
