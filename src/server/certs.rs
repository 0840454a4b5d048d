//! The certificates of a node that nobody has set up: a certificate authority of its own and a
//! certificate for this machine's names, made at the first start.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use meridian_cluster::member::Tls;
use meridian_gateway::TlsMaterial;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::{Failure, failed};

/// Loads the certificates in this directory; makes them when there are none.
pub(crate) fn load_or_make(dir: &Path, listen: IpAddr) -> Result<TlsMaterial, Failure> {
    if !dir.join("node.crt").exists() {
        make(dir, listen)?;
    }
    load(dir)
}

pub(crate) fn load(dir: &Path) -> Result<TlsMaterial, Failure> {
    let (cert_path, key_path) = (dir.join("node.crt"), dir.join("node.key"));
    let pem = fs::read(&cert_path)
        .map_err(failed(format!("cannot read certificate {}", cert_path.display())))?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed(format!("bad certificate in {}", cert_path.display())))?;
    if chain.is_empty() {
        return Err(Failure(format!("no certificate in {}", cert_path.display())));
    }
    let key = PrivateKeyDer::from_pem_file(&key_path)
        .map_err(failed(format!("bad private key in {}", key_path.display())))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed("cannot set TLS up"))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(failed(format!("certificate and key in {} do not fit", dir.display())))?;
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(TlsMaterial { config: Arc::new(config), certificate_pem: pem.into() })
}

/// What other nodes are shown, and must show: the CA's certificate, the node's, and its key.
pub(crate) fn for_nodes(dir: &Path) -> Result<Tls, Failure> {
    let read = |file: &str| {
        let path = dir.join(file);
        fs::read(&path).map_err(failed(format!(
            "cannot read {} (make it with `meridian cert`)",
            path.display()
        )))
    };
    Tls::from_pem(&read("ca.crt")?, &read("node.crt")?, &read("node.key")?)
        .map_err(failed(format!("the certificates in {} are of no use", dir.display())))
}

fn make(dir: &Path, listen: IpAddr) -> Result<(), Failure> {
    make_ca(dir)?;
    let mut names = Vec::new();
    if !listen.is_unspecified() && !listen.is_loopback() {
        names.push(listen.to_string());
    }
    if let Ok(host) = fs::read_to_string("/etc/hostname") {
        names.push(host.trim().to_owned());
    }
    make_node(dir, dir, names)
}

/// Makes a certificate authority in a directory that has none.
pub(crate) fn make_ca(dir: &Path) -> Result<(), Failure> {
    let cannot = || failed::<rcgen::Error>("cannot make certificates");
    fs::create_dir_all(dir).map_err(failed(format!("cannot make {}", dir.display())))?;
    if dir.join("ca.key").exists() {
        return Err(Failure(format!("{} has a certificate authority already", dir.display())));
    }
    let ca_key = KeyPair::generate().map_err(cannot())?;
    let ca_cert = ca_params().self_signed(&ca_key).map_err(cannot())?;
    write(dir, "ca.crt", &ca_cert.pem(), 0o644)?;
    write(dir, "ca.key", &ca_key.serialize_pem(), 0o600)
}

/// Makes a node's certificate for these names, signed by the authority in `ca`.
pub(crate) fn make_node(ca: &Path, dir: &Path, hosts: Vec<String>) -> Result<(), Failure> {
    let cannot = || failed::<rcgen::Error>("cannot make certificates");
    let read = |file: &str| {
        let path = ca.join(file);
        fs::read_to_string(&path).map_err(failed(format!("cannot read {}", path.display())))
    };
    let ca_key = KeyPair::from_pem(&read("ca.key")?).map_err(cannot())?;
    let ca_pem = read("ca.crt")?;
    fs::create_dir_all(dir).map_err(failed(format!("cannot make {}", dir.display())))?;
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(hosts);
    names.retain(|n| !n.is_empty());
    let node_key = KeyPair::generate().map_err(cannot())?;
    let mut node = CertificateParams::new(names).map_err(cannot())?;
    node.distinguished_name = name("node");
    node.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let issuer = Issuer::new(ca_params(), &ca_key);
    let node_cert = node.signed_by(&node_key, &issuer).map_err(cannot())?;

    write(dir, "ca.crt", &ca_pem, 0o644)?;
    write(dir, "node.key", &node_key.serialize_pem(), 0o600)?;
    // Last, since its presence says that the rest is there.
    write(dir, "node.crt", &node_cert.pem(), 0o644)
}

fn ca_params() -> CertificateParams {
    let mut ca = CertificateParams::default();
    ca.distinguished_name = name("Meridian CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Meridian");
    name.push(DnType::CommonName, common_name);
    name
}

fn write(dir: &Path, file: &str, text: &str, mode: u32) -> Result<(), Failure> {
    use std::io::Write;
    let path = dir.join(file);
    let cannot = || failed::<std::io::Error>(format!("cannot write {}", path.display()));
    let mut open = fs::OpenOptions::new();
    let mut file =
        open.write(true).create(true).truncate(true).mode(mode).open(&path).map_err(cannot())?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(cannot())
}
