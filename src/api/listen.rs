//! Connections in, requests out: the unix socket of the host, and TLS beside it where the configuration names an
//! address.
//!
//! Accepting never waits: a handshake, a header that does not end and a body that drips each keep nobody but the
//! client that they are of, and each has a time after which it is over. So many connections are taken, in all and of
//! one address, and what is more is closed at once.
//! When the service ends nothing more is accepted, and what is under way has an answer first.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::{Request, Response};
use futures_util::future::Either;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tower::Service;

use super::peer::{Peer, Remote};
use crate::types::limits;

/// Where requests come from.
#[derive(Debug)]
pub struct Listeners {
    /// The socket of the host.
    pub socket: UnixListener,
    /// TLS.
    pub tls: Option<TlsListener>,
}

/// A port, what it shows now, and how many it takes.
#[derive(Debug)]
pub struct TlsListener {
    /// The port.
    pub listener: TcpListener,
    /// What it shows: the newest is taken for every new connection.
    pub config: watch::Receiver<Arc<ServerConfig>>,
    /// Connections at once.
    pub connections: usize,
    /// Connections at once of one address.
    pub connections_per_address: usize,
}

/// Accepts until `stop` says so.
pub(super) async fn accept(listeners: Listeners, router: Router, stop: watch::Receiver<bool>) {
    let socket = accept_socket(listeners.socket, router.clone(), stop.clone());
    match listeners.tls {
        None => socket.await,
        Some(tls) => {
            tokio::join!(socket, accept_tls(tls, router, stop));
        }
    }
}

async fn accept_socket(listener: UnixListener, router: Router, mut stop: watch::Receiver<bool>) {
    while let Some(accepted) = next(listener.accept(), &mut stop).await {
        let Some((stream, _)) = taken(accepted).await else { continue };
        let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
        let named = Named { router: router.clone(), peer: Peer::Host { uid } };
        tokio::spawn(converse(stream, named, Spoken::Http1, stop.clone()));
    }
}

async fn accept_tls(tls: TlsListener, router: Router, mut stop: watch::Receiver<bool>) {
    let places = Places::new(tls.connections, tls.connections_per_address);
    while let Some(accepted) = next(tls.listener.accept(), &mut stop).await {
        let Some((stream, from)) = taken(accepted).await else { continue };
        let address = from.ip().to_canonical();
        let Some(place) = places.take(address) else {
            tracing::debug!(%address, "a connection of {address} is one too many");
            continue;
        };
        let acceptor = TlsAcceptor::from(tls.config.borrow().clone());
        let (router, stop) = (router.clone(), stop.clone());
        tokio::spawn(async move {
            let _place = place;
            shake_hands(stream, address, &acceptor, router, stop).await;
        });
    }
}

/// The handshake, and then what is said over it.
async fn shake_hands(
    stream: TcpStream,
    address: IpAddr,
    acceptor: &TlsAcceptor,
    router: Router,
    stop: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let bound = Duration::from_millis(limits::TLS_HANDSHAKE_MS);
    let stream = match tokio::time::timeout(bound, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%address, %error, "a handshake with {address} failed"),
        Err(_) => return tracing::debug!(%address, "a handshake with {address} took too long"),
    };
    let (_, session) = stream.get_ref();
    let spoken = if session.alpn_protocol() == Some(b"h2") { Spoken::Http2 } else { Spoken::Http1 };
    let certificate = session.peer_certificates().and_then(|chain| chain.first());
    let certificate = certificate.map(|certificate| Arc::from(certificate.as_ref()));
    let peer = Peer::Remote(Remote { address, certificate });
    converse(stream, Named { router, peer }, spoken, stop).await;
}

/// What the two sides agreed to speak.
#[derive(Debug, Clone, Copy)]
enum Spoken {
    Http1,
    Http2,
}

/// Answers the requests of one connection until it is closed; once the service ends, what is under way is the last.
async fn converse<S>(stream: S, named: Named, spoken: Spoken, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits::API_HEADER_MS))
        .max_buf_size(limits::API_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(limits::API_STREAMS)
        .max_header_list_size(limits::API_HEADER_LIST_BYTES)
        .keep_alive_interval(Duration::from_millis(limits::API_HEADER_MS))
        .keep_alive_timeout(Duration::from_millis(limits::API_HEADER_MS));
    let builder = match spoken {
        Spoken::Http1 => builder.http1_only(),
        Spoken::Http2 => builder.http2_only(),
    };
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(named));
    let mut connection = std::pin::pin!(connection);
    let outcome = match futures_util::future::select(connection.as_mut(), std::pin::pin!(ending(&mut stop))).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right(_) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended before its time");
    }
}

/// The next connection; none once the service ends.
async fn next<T>(accepted: impl Future<Output = T>, stop: &mut watch::Receiver<bool>) -> Option<T> {
    tokio::select! {
        biased;
        () = ending(stop) => None,
        accepted = accepted => Some(accepted),
    }
}

/// Returns once the service ends. A sender that is gone says the same.
pub(super) async fn ending(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The connection, where there is one: a process that has no file left waits until one is closed.
async fn taken<T>(accepted: io::Result<T>) -> Option<T> {
    match accepted {
        Ok(stream) => Some(stream),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

/// The router, as one connection sees it: every request carries who is at the other end.
#[derive(Clone)]
struct Named {
    router: Router,
    peer: Peer,
}

impl<B> Service<Request<B>> for Named
where
    B: HttpBody<Data = axum::body::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = axum::routing::future::RouteFuture<Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<B>>::poll_ready(&mut self.router, context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(self.peer.clone());
        self.router.call(request)
    }
}

/// The connections that may be open at once.
#[derive(Debug, Clone)]
struct Places {
    taken: Arc<Mutex<Taken>>,
    most: usize,
    most_per_address: usize,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of: HashMap<IpAddr, usize>,
}

impl Places {
    fn new(most: usize, most_per_address: usize) -> Self {
        Self { taken: Arc::default(), most, most_per_address }
    }

    /// A place for a connection of this address, for as long as it is held.
    fn take(&self, address: IpAddr) -> Option<Place> {
        let of = neighbourhood(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = taken.of.get(&of).copied().unwrap_or(0);
        if taken.all >= self.most || mine >= self.most_per_address {
            return None;
        }
        taken.all += 1;
        taken.of.insert(of, mine + 1);
        Some(Place { taken: self.taken.clone(), of })
    }
}

/// One connection's place.
#[derive(Debug)]
struct Place {
    taken: Arc<Mutex<Taken>>,
    of: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        match taken.of.get_mut(&self.of) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                taken.of.remove(&self.of);
            }
        }
    }
}

/// What counts as one address: of IPv6 the network of 64 bits, in which one host may choose any other.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(long) => IpAddr::V6(Ipv6Addr::from_bits(long.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_takes_no_place_of_another_and_a_closed_connection_gives_its_own_back() {
        let places = Places::new(3, 2);
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = places.take(one).unwrap();
        let _second = places.take(one).unwrap();
        assert!(places.take(one).is_none(), "a third of one address");
        let _third = places.take(other).unwrap();
        drop(first);
        let _fourth = places.take(other).unwrap();
        assert!(places.take(one).is_none(), "a fourth in all");
        assert_eq!(places.taken.lock().unwrap().of.len(), 2);
    }

    #[test]
    fn a_host_that_changes_its_ipv6_address_is_the_same() {
        let places = Places::new(10, 1);
        let _first = places.take("2001:db8::1".parse().unwrap()).unwrap();
        assert!(places.take("2001:db8::2".parse().unwrap()).is_none());
        assert!(places.take("2001:db8:0:1::1".parse().unwrap()).is_some());
    }
}
