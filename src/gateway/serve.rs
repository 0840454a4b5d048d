//! Accepts connections, authenticates them, and runs a session on each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, BytesMut};
use meridian_session::client::{Client, Disconnected};
use meridian_session::{Interrupt, Opening as SessionOpening, Sessions, Signal};
use meridian_types::{PgError, SqlState};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::auth;
use crate::cancel::CancelRegistry;
use crate::connection::Connection;
use crate::encode;
use crate::startup::{self, Opening, Refused, Start};

/// How long a client may take from connecting to being authenticated, as PostgreSQL's
/// `authentication_timeout`. Half of it cuts off clients behind slow links; twice of it lets silent
/// connections hold a place for longer.
const AUTHENTICATION_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

/// The server's certificate, for TLS and for channel binding.
#[derive(Clone)]
pub struct TlsMaterial {
    /// rustls, with certificate and key.
    pub config: Arc<rustls::ServerConfig>,
    /// The same certificate as PEM.
    pub certificate_pem: Arc<[u8]>,
}

/// How clients are let in.
#[derive(Clone)]
pub struct GatewayConfig {
    /// TLS; `None` only in insecure mode.
    pub tls: Option<TlsMaterial>,
    /// No TLS, no passwords: every name is believed. Loopback addresses only.
    pub insecure: bool,
    /// Sessions at once, PostgreSQL's `max_connections`. Above it clients get `53300`.
    pub connections_max: usize,
}

/// The front door of a node.
pub struct Gateway {
    config: GatewayConfig,
    acceptor: Option<TlsAcceptor>,
    sessions: Arc<Sessions>,
    cancels: Arc<CancelRegistry>,
    open: AtomicUsize,
    /// What new clients are told instead of being let in.
    closed: Mutex<Option<PgError>>,
}

impl Gateway {
    /// A gateway to these sessions.
    pub fn new(config: GatewayConfig, sessions: Arc<Sessions>) -> Arc<Gateway> {
        let acceptor = config.tls.as_ref().map(|tls| TlsAcceptor::from(Arc::clone(&tls.config)));
        let cancels = Arc::new(CancelRegistry::default());
        let here = Arc::downgrade(&cancels);
        sessions.on_signal(move |signal| here.upgrade().is_some_and(|all| all.signal(signal)));
        let (open, closed) = (AtomicUsize::new(0), Mutex::default());
        Arc::new(Gateway { config, acceptor, sessions, cancels, open, closed })
    }

    /// The open sessions, to end them at shutdown.
    pub fn registry(&self) -> &CancelRegistry {
        &self.cancels
    }

    /// From now on new clients are told this; `None`: they are let in again. Who is in stays.
    pub fn refuse(&self, why: Option<PgError>) {
        *self.closed.lock() = why;
    }

    /// Accepts connections until the future is dropped.
    pub async fn run(self: Arc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((tcp, peer)) => {
                    let gateway = Arc::clone(&self);
                    tokio::spawn(async move { gateway.serve(tcp, peer).await });
                }
                Err(e) => {
                    // Out of file descriptors, most likely: let some connections end first.
                    tracing::warn!(error = %e, "cannot accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn serve(self: Arc<Self>, tcp: TcpStream, peer: SocketAddr) {
        let _ = tcp.set_nodelay(true);
        #[cfg(target_os = "linux")]
        if peer.ip().is_loopback() {
            // Nothing is lost or delayed there. A host-wide choice that paces packets by timers, such as
            // BBR, costs a tenth of the time of a short statement.
            let _ = socket2::SockRef::from(&tcp).set_tcp_congestion(b"reno");
        }
        let negotiated = tokio::time::timeout(
            AUTHENTICATION_TIMEOUT,
            startup::negotiate(tcp, peer, self.acceptor.as_ref()),
        );
        match negotiated.await {
            Ok(Ok(Start::Cancel { pid, secret })) => {
                let process = u32::try_from(pid).unwrap_or(0);
                let signal = Signal { process, terminate: false, secret: Some(secret) };
                if !self.cancels.signal(signal) {
                    self.sessions.pass_on(signal).await;
                }
            }
            Ok(Ok(Start::Session(opening))) => {
                self.open.fetch_add(1, Ordering::Relaxed);
                let _ = Box::pin(self.session(opening)).await;
                self.open.fetch_sub(1, Ordering::Relaxed);
            }
            Ok(Err(Refused::With(socket, error))) => {
                let _ = Connection::new(socket, BytesMut::new()).end_with(&error).await;
            }
            Ok(Err(Refused::Silently)) | Err(_) => {}
        }
    }

    async fn session(&self, mut opening: Opening) -> Result<(), Disconnected> {
        let admitted = tokio::time::timeout(AUTHENTICATION_TIMEOUT, self.admit(&mut opening)).await;
        let Opening { socket, input, params, peer, encrypted } = opening;
        let mut connection = Connection::new(socket, input);
        match admitted {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return connection.end_with(&e).await,
            Err(_) => return Err(Disconnected),
        }
        let interrupt = Interrupt::default();
        let registration =
            self.cancels.register(interrupt.clone(), |own| self.sessions.process_id(own));
        let opened = self.sessions.open(SessionOpening {
            params: &params,
            pid: registration.pid,
            peer,
            encrypted,
            interrupt,
        });
        let mut session = match opened.await {
            Ok(session) => session,
            Err(e) => return connection.end_with(&e).await,
        };
        encode::message(&mut connection.output, b'R', |b| b.put_i32(0));
        for (name, value) in session.reported_settings() {
            connection.parameter_status(&name, &value);
        }
        encode::message(&mut connection.output, b'K', |b| {
            b.put_i32(registration.pid);
            b.put_u32(registration.secret);
        });
        encode::ready_for_query(&mut connection.output, session.status());
        let ended = connection.run(&mut session).await;
        session.close().await;
        ended
    }

    /// Decides whether the client may come in: whether anybody may, address, number of sessions, role, password.
    async fn admit(&self, opening: &mut Opening) -> Result<(), PgError> {
        if let Some(why) = self.closed.lock().clone() {
            return Err(why);
        }
        if self.open.load(Ordering::Relaxed) > self.config.connections_max {
            return Err(PgError::new(
                SqlState::TOO_MANY_CONNECTIONS,
                "sorry, too many clients already",
            ));
        }
        let user = opening.params.get("user").cloned().unwrap_or_default();
        if self.config.insecure {
            return if opening.peer.ip().is_loopback() {
                Ok(())
            } else {
                Err(refused(format!("connections from {} need TLS", opening.peer.ip())))
            };
        }
        if !opening.encrypted && !opening.peer.ip().is_loopback() {
            return Err(refused(format!(
                "connection from {} without encryption refused for user \"{user}\"",
                opening.peer.ip()
            )));
        }
        let verifier = self.sessions.password_verifier(&user);
        let certificate = match (&self.config.tls, opening.encrypted) {
            (Some(tls), true) => Some(&*tls.certificate_pem),
            _ => None,
        };
        let (socket, input) = (&mut opening.socket, &mut opening.input);
        auth::authenticate(socket, input, &user, verifier.as_deref(), certificate).await
    }
}

fn refused(message: String) -> PgError {
    PgError::new(SqlState::INVALID_AUTHORIZATION_SPECIFICATION, message)
}
