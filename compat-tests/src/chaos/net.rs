//! Where nodes live: each in a network namespace of its own, or all on loopback addresses.
//!
//! In namespaces the nodes hang on one bridge, on which the clients are, too. A node is cut off from
//! another by a route that drops what it sends there: one way if only one of them gets the route.
//! Loopback addresses cannot be cut off from each other.
//!
//! The bridge's addresses are of 127.77.7.0/24: `--insecure` is for loopback addresses only, and Linux
//! lets them leave a machine (`route_localnet`) if its table of local addresses doesn't claim them.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

const BRIDGE: &str = "mdn-chaos";

/// How nodes are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Net {
    /// A namespace for each node.
    Namespaces,
    /// 127.0.0.1, 127.0.0.2, …
    Loopback,
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

fn space(node: usize) -> String {
    format!("{BRIDGE}-{node}")
}

impl Net {
    /// Namespaces where they are permitted, loopback addresses elsewhere. What an earlier run that was
    /// killed has left behind is removed.
    pub fn make(nodes: usize) -> Net {
        Net::remove(nodes);
        match Net::namespaces(nodes) {
            Ok(()) => Net::Namespaces,
            Err(_) => {
                Net::remove(nodes);
                Net::Loopback
            }
        }
    }

    fn namespaces(nodes: usize) -> Result<()> {
        quiet(&format!("ip link add {BRIDGE} type bridge"))?;
        localnet(None, BRIDGE)?;
        quiet(&format!("ip addr add 127.77.7.254/24 dev {BRIDGE}"))?;
        quiet(&format!("ip link set {BRIDGE} up"))?;
        let route = format!("127.77.7.0/24 dev {BRIDGE} src 127.77.7.254 table local");
        quiet(&format!("ip route add {route}"))?;
        for node in 0..nodes {
            let (space, address) = (space(node), Net::Namespaces.address(node));
            quiet(&format!("ip netns add {space}"))?;
            quiet(&format!("ip link add mdnv{node} type veth peer name eth0 netns {space}"))?;
            quiet(&format!("ip link set mdnv{node} master {BRIDGE} up"))?;
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
    pub fn remove(nodes: usize) {
        for node in 0..nodes {
            let _ = quiet(&format!("ip netns del {}", space(node)));
            let _ = quiet(&format!("ip link del mdnv{node}"));
        }
        let _ = quiet(&format!("ip link del {BRIDGE}"));
    }

    /// A node's address.
    pub fn address(self, node: usize) -> String {
        match self {
            Net::Namespaces => format!("127.77.7.{}", node + 1),
            Net::Loopback => format!("127.0.0.{}", node + 1),
        }
    }

    /// The words that a node's command begins with.
    pub fn prefix(self, node: usize) -> Vec<String> {
        match self {
            Net::Namespaces => {
                ["ip", "netns", "exec", &space(node)].iter().map(|w| (*w).to_owned()).collect()
            }
            Net::Loopback => Vec::new(),
        }
    }

    /// Nothing that `from` sends reaches `to` any more (`true`), or all of it does.
    pub fn cut(self, from: usize, to: usize, cut: bool) -> Result<()> {
        if self == Net::Loopback {
            bail!("loopback addresses cannot be cut off");
        }
        let (verb, space, address) =
            (if cut { "add" } else { "del" }, space(from), self.address(to));
        quiet(&format!("ip -n {space} route {verb} blackhole {address}/32"))
    }

    /// For reports.
    pub fn describe(self) -> &'static str {
        match self {
            Net::Namespaces => "network namespaces",
            Net::Loopback => "loopback addresses (network namespaces are not permitted)",
        }
    }
}
