//! Mutual TLS between nodes: both sides show a certificate that the cluster's authority has signed
//! for a node.
//!
//! A node's certificate has the common name `node` (users' certificates, signed by the same
//! authority, have the user's). Addresses in it are not looked at: which node is at an address is
//! said in the greeting, and any node is trusted as much as any other.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme, client,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// The common name of every node's certificate.
const NODE: &[u8] = b"node";

/// Certificates that cannot be used, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError(pub String);

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

fn bad<E: fmt::Display>(what: &str) -> impl Fn(E) -> TlsError {
    move |e| TlsError(format!("{what}: {e}"))
}

/// A node's side of TLS to other nodes.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

impl Tls {
    /// From the texts (PEM) of the authority's certificate, the node's certificate and its key.
    ///
    /// # Errors
    /// One of them cannot be read, they do not fit each other, or the certificate isn't a node's.
    pub fn from_pem(ca: &[u8], certificate: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for root in certificates(ca, "bad certificate of the authority")? {
            roots.add(root).map_err(bad("bad certificate of the authority"))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(certificate, "bad certificate of the node")?;
        if !is_node(&chain) {
            return Err(TlsError("the node's certificate does not have the name \"node\"".into()));
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(bad("bad private key of the node"))?;
        let versions = &[&rustls::version::TLS13];
        let verifier = Arc::new(NodeVerifier { roots: roots.clone(), provider: provider.clone() });
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(bad("cannot set TLS up"))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(bad("the node's certificate and key do not fit"))?;
        client.resumption = Resumption::disabled();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(bad("cannot set TLS up"))?
            .with_client_cert_verifier(verifier.build().map_err(bad("cannot set TLS up"))?)
            .with_single_cert(chain, key)
            .map_err(bad("the node's certificate and key do not fit"))?;
        server.send_tls13_tickets = 0;
        Ok(Self { connector: Arc::new(client).into(), acceptor: Arc::new(server).into() })
    }

    pub(crate) async fn connect(&self, io: TcpStream) -> Result<TlsStream<TcpStream>, String> {
        let name = ServerName::try_from("node").expect("a name");
        let io = self.connector.connect(name, io).await.map_err(|e| format!("TLS: {e}"))?;
        Ok(TlsStream::Client(io))
    }

    pub(crate) async fn accept(&self, io: TcpStream) -> Result<TlsStream<TcpStream>, String> {
        let io = self.acceptor.accept(io).await.map_err(|e| format!("TLS: {e}"))?;
        let io = TlsStream::Server(io);
        let chain = io.get_ref().1.peer_certificates().unwrap_or_default();
        if is_node(chain) { Ok(io) } else { Err("TLS: not the certificate of a node".to_owned()) }
    }
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(bad(what))?;
    if all.is_empty() { Err(TlsError(format!("{what}: there is none"))) } else { Ok(all) }
}

/// Whether a certificate's subject has the common name of nodes.
fn is_node(chain: &[CertificateDer<'_>]) -> bool {
    let Some(first) = chain.first() else { return false };
    let Ok(certificate) = webpki::EndEntityCert::try_from(first) else { return false };
    common_name(certificate.subject()) == Some(NODE)
}

/// The common name in a subject: `SET { SEQUENCE { OBJECT IDENTIFIER, string } }` for each part, in
/// DER. Lengths above 127 bytes have another form; such parts are no node's.
fn common_name(mut subject: &[u8]) -> Option<&[u8]> {
    const SET: u8 = 0x31;
    const SEQUENCE: u8 = 0x30;
    const OBJECT_IDENTIFIER: u8 = 0x06;
    const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
    while !subject.is_empty() {
        let (part, rest) = element(subject, Some(SET))?;
        let (part, _) = element(part, Some(SEQUENCE))?;
        let (kind, value) = element(part, Some(OBJECT_IDENTIFIER))?;
        if kind == COMMON_NAME {
            return element(value, None).map(|(value, _)| value);
        }
        subject = rest;
    }
    None
}

/// One element: its content and what follows.
fn element(der: &[u8], tag: Option<u8>) -> Option<(&[u8], &[u8])> {
    let (&[first, length], rest) = der.split_first_chunk::<2>()?;
    let expected = tag.is_none_or(|tag| tag == first) && length < 0x80;
    if expected { rest.split_at_checked(usize::from(length)) } else { None }
}

/// The dialing side's judgement of the other's certificate: signed by the authority, for a node.
#[derive(Debug)]
struct NodeVerifier {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        client::verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(certificate)?,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        if !is_node(std::slice::from_ref(certificate)) {
            return Err(rustls::Error::General("not the certificate of a node".to_owned()));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken between nodes".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
