//! Where nodes live: each in a network namespace of its own, or all on loopback addresses.
//!
//! In namespaces the nodes hang on one bridge, on which the clients are, too. A node is cut off from
//! another by a route that drops what it sends there: one way if only one of them gets the route.
//! Loopback addresses cannot be cut off from each other.
//!
//! The bridge's addresses are of 127.77.N.0/24: `--insecure` is for loopback addresses only, and Linux
//! lets them leave a machine (`route_localnet`) if its table of local addresses doesn't claim them. N is
//! the first number that no other run on this machine has: each locks a file for its own.

use std::fs::File;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs at once on one machine.
const NETS_MAX: u8 = 100;

/// How nodes are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A namespace for each node.
    Namespaces,
    /// 127.0.N.1, 127.0.N.2, …
    Loopback,
}

/// The network of one run; taken down when this is dropped.
#[derive(Debug)]
pub struct Net {
    /// Of which kind.
    pub kind: Kind,
    number: u8,
    nodes: usize,
    /// Locked for as long as the number is taken.
    _number: File,
}

fn quiet(words: &str) -> Result<()> {
    let mut parts = words.split(' ');
    let status = Command::new(parts.next().unwrap_or_default())
        .args(parts)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if !status.success() {
        bail!("{words} has failed");
    }
    Ok(())
}

/// Lets a device take and send loopback addresses, in a namespace or in ours.
fn localnet(space: Option<&str>, device: &str) -> Result<()> {
    let file = format!("/proc/sys/net/ipv4/conf/{device}/route_localnet");
    match space {
        None => Ok(std::fs::write(file, "1")?),
        Some(space) => {
            let script = format!("echo 1 > {file}");
            let words = ["netns", "exec", space, "sh", "-c", &script];
            let status = Command::new("ip").args(words).stderr(Stdio::null()).status()?;
            if status.success() { Ok(()) } else { bail!("{file} cannot be written") }
        }
    }
}

/// A number that no other run has now.
fn number() -> Result<(u8, File)> {
    for number in 0..NETS_MAX {
        let file = File::create(std::env::temp_dir().join(format!("mdn-chaos-{number}.lock")))?;
        if file.try_lock().is_ok() {
            return Ok((number, file));
        }
    }
    bail!("{NETS_MAX} runs are under way")
}

impl Net {
    /// Namespaces where they are permitted, loopback addresses elsewhere. What an earlier run that was
    /// killed has left behind is removed.
    pub fn make(nodes: usize) -> Result<Net> {
        let (number, file) = number().context("no number for the network")?;
        let mut net = Net { kind: Kind::Namespaces, number, nodes, _number: file };
        net.remove();
        if net.namespaces().is_err() {
            net.remove();
            net.kind = Kind::Loopback;
        }
        Ok(net)
    }

    fn bridge(&self) -> String {
        format!("mdn-chaos{}", self.number)
    }

    fn space(&self, node: usize) -> String {
        format!("mdn-chaos{}-{node}", self.number)
    }

    fn veth(&self, node: usize) -> String {
        format!("mdnv{}-{node}", self.number)
    }

    fn namespaces(&self) -> Result<()> {
        let (bridge, subnet) = (self.bridge(), format!("127.77.{}", self.number));
        quiet(&format!("ip link add {bridge} type bridge"))?;
        localnet(None, &bridge)?;
        quiet(&format!("ip addr add {subnet}.254/24 dev {bridge}"))?;
        quiet(&format!("ip link set {bridge} up"))?;
        let route = format!("{subnet}.0/24 dev {bridge} src {subnet}.254 table local");
        quiet(&format!("ip route add {route}"))?;
        for node in 0..self.nodes {
            let (space, veth, address) = (self.space(node), self.veth(node), self.address(node));
            quiet(&format!("ip netns add {space}"))?;
            quiet(&format!("ip link add {veth} type veth peer name eth0 netns {space}"))?;
            quiet(&format!("ip link set {veth} master {bridge} up"))?;
            localnet(Some(&space), "all")?;
            localnet(Some(&space), "eth0")?;
            quiet(&format!("ip -n {space} link set lo up"))?;
            quiet(&format!("ip -n {space} route del local 127.0.0.0/8 dev lo table local"))?;
            quiet(&format!("ip -n {space} addr add {address}/24 dev eth0"))?;
            quiet(&format!("ip -n {space} link set eth0 up"))?;
        }
        Ok(())
    }

    /// Takes it all away again.
    fn remove(&self) {
        // A run before may have had more nodes.
        for node in 0..self.nodes.max(3) {
            let _ = quiet(&format!("ip netns del {}", self.space(node)));
            let _ = quiet(&format!("ip link del {}", self.veth(node)));
        }
        let _ = quiet(&format!("ip link del {}", self.bridge()));
    }

    /// A node's address.
    pub fn address(&self, node: usize) -> String {
        match self.kind {
            Kind::Namespaces => format!("127.77.{}.{}", self.number, node + 1),
            Kind::Loopback => format!("127.0.{}.{}", self.number, node + 1),
        }
    }

    /// The words that a node's command begins with.
    pub fn prefix(&self, node: usize) -> Vec<String> {
        match self.kind {
            Kind::Namespaces => {
                let space = self.space(node);
                ["ip", "netns", "exec", &space].iter().map(|w| (*w).to_owned()).collect()
            }
            Kind::Loopback => Vec::new(),
        }
    }

    /// Nothing that `from` sends reaches `to` any more (`true`), or all of it does.
    pub fn cut(&self, from: usize, to: usize, cut: bool) -> Result<()> {
        if self.kind == Kind::Loopback {
            bail!("loopback addresses cannot be cut off");
        }
        let (verb, space, address) =
            (if cut { "add" } else { "del" }, self.space(from), self.address(to));
        quiet(&format!("ip -n {space} route {verb} blackhole {address}/32"))
    }

    /// For reports.
    pub fn describe(&self) -> &'static str {
        match self.kind {
            Kind::Namespaces => "network namespaces",
            Kind::Loopback => "loopback addresses (network namespaces are not permitted)",
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.remove();
    }
}
