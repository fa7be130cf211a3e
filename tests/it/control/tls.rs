//! The port: what it speaks, what it shows, and who cannot keep it from others.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use serde_json::Value;

use super::server::Server;

/// A server with a port, and these lines in `[listen]`; what they name lies in its folder.
pub(super) fn listening(lines: &str, files: &[(&str, &str)]) -> (Server, SocketAddr) {
    let mut server = Server::prepared("kind = \"simulated\"\nboot-id = \"first\"", "");
    for (name, text) in files {
        fs::write(server.dir.path().join(name), text).unwrap();
        fs::set_permissions(server.dir.path().join(name), PermissionsExt::from_mode(0o600)).unwrap();
    }
    let address = free();
    server.configure_more(&format!("[listen]\naddress = \"{address}\"\n{lines}"));
    server.up(None);
    (server, address)
}

/// A port that nobody listens at.
pub(super) fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A client over TLS, which waits for each answer.
pub(super) struct Remote {
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
    base: String,
}

/// What was answered.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: reqwest::header::HeaderMap,
    pub(super) body: String,
    version: reqwest::Version,
}

impl Remote {
    /// One that believes the authority of the server's own.
    pub(super) fn new(server: &Server, address: SocketAddr) -> Self {
        Self::made(&server.authority(), address, |builder| builder)
    }

    /// The same for the socket of the host, where the kernel says who asks.
    pub(super) fn at_socket(server: &Server) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let http = {
            let _inside = runtime.enter();
            reqwest::Client::builder().unix_socket(server.socket()).no_proxy().build().unwrap()
        };
        Self { runtime, http, base: "http://debvisor".to_owned() }
    }

    pub(super) fn made(
        authority: &str,
        address: SocketAddr,
        with: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let root = reqwest::Certificate::from_pem(authority.as_bytes()).unwrap();
        let http = {
            let _inside = runtime.enter();
            with(reqwest::Client::builder().tls_certs_only([root]).no_proxy()).build().unwrap()
        };
        Self { runtime, http, base: format!("https://{address}") }
    }

    pub(super) fn get(&self, path: &str) -> reqwest::Result<Answer> {
        self.send("GET", path, &[])
    }

    pub(super) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> reqwest::Result<Answer> {
        self.sent(self.http.request(method.parse().unwrap(), format!("{}{path}", self.base)), headers)
    }

    pub(super) fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        self.sent(self.http.post(format!("{}{path}", self.base)).json(body), headers).unwrap()
    }

    /// The same where the server may be gone.
    pub(super) fn try_post(&self, path: &str, body: &Value) -> reqwest::Result<Answer> {
        self.sent(self.http.post(format!("{}{path}", self.base)).json(body), &[])
    }

    fn sent(&self, mut request: reqwest::RequestBuilder, headers: &[(&str, &str)]) -> reqwest::Result<Answer> {
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.runtime.block_on(async {
            let answer = request.send().await?;
            let (status, headers, version) = (answer.status().as_u16(), answer.headers().clone(), answer.version());
            Ok(Answer { status, headers, body: answer.text().await?, version })
        })
    }
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// What everybody may ask for.
const PUBLIC: &str = "/v1/openapi.json";

#[test]
fn who_says_nothing_of_themselves_is_nobody_over_tls() {
    let (mut server, address) = listening("", &[]);
    let client = Remote::new(&server, address);
    let described = client.get(PUBLIC).unwrap();
    assert_eq!((described.status, described.version), (200, reqwest::Version::HTTP_2));
    assert_eq!(described.headers["content-type"], "application/json");
    for (method, path) in [("GET", "vms"), ("POST", "vms"), ("GET", "audit"), ("DELETE", "vms/x"), ("GET", "nodes")] {
        // What the kernel says of the socket cannot be said by a header.
        let answer = client.send(method, &format!("/v1/{path}"), &[("debvisor-why", "uid:0")]).unwrap();
        assert_eq!(answer.status, 401, "{method} {path}");
        assert_eq!(answer.json()["code"], "credential-missing", "{method} {path}");
    }
    // The authority and the key stay, so that who pinned them goes on.
    let tls = ["ca.crt", "ca.key", "server.key"].map(|name| server.state().join("tls").join(name));
    let before = tls.each_ref().map(|path| fs::read(path).unwrap());
    assert!(tls[1..].iter().all(|path| fs::metadata(path).unwrap().permissions().mode() & 0o777 == 0o600));
    server.terminate();
    server.up(None);
    assert_eq!(tls.each_ref().map(|path| fs::read(path).unwrap()), before);
    assert_eq!(Remote::new(&server, address).get(PUBLIC).unwrap().status, 200);
}

#[test]
fn what_is_older_than_tls_1_3_is_not_spoken() {
    let (server, address) = listening("", &[]);
    let authority = server.state().join("tls/ca.crt");
    let shake = |version: &str| {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &address.to_string(), version, "-verify_return_error", "-CAfile"]);
        let output = command.arg(&authority).stdin(Stdio::null()).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (done, told) = shake("-tls1_3");
    assert!(done && told.contains("TLSv1.3") && told.contains("Verify return code: 0 (ok)"), "{told}");
    for old in ["-tls1_2", "-tls1_1"] {
        let (done, told) = shake(old);
        assert!(!done && told.contains("no peer certificate available"), "{old}: {told}");
    }
    // Without TLS there is no answer either.
    let mut plain = TcpStream::connect(address).unwrap();
    plain.write_all(b"GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1.1 200"));
}

#[test]
fn clients_that_never_end_what_they_began_keep_nobody_else_waiting() {
    let (server, address) = listening("connections = 60\nconnections-per-address = 50", &[]);
    let asked = |client: &Remote| {
        let began = Instant::now();
        (client.get(PUBLIC).unwrap().status, began.elapsed())
    };
    // Forty that say nothing, or a part of a hello.
    let mut idle: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(address).unwrap()).collect();
    for stream in idle.iter_mut().step_by(2) {
        stream.write_all(&[0x16, 0x03, 0x01, 0x02]).unwrap();
    }
    let (status, took) = asked(&Remote::new(&server, address));
    assert!(status == 200 && took < Duration::from_secs(2), "{status} after {took:?}");
    // Of one address only so many are taken: what is more is closed at once, and waits for nothing.
    let more: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
    let closed = more.iter().filter(|stream| is_closed(stream)).count();
    assert!(closed >= 9, "{closed} of 20 were closed");
    // Somebody else is answered.
    let elsewhere: std::net::IpAddr = "127.0.0.2".parse().unwrap();
    let other = Remote::made(&server.authority(), address, |builder| builder.local_address(elsewhere));
    let (status, took) = asked(&other);
    assert!(status == 200 && took < Duration::from_secs(2), "{status} after {took:?}");
    // And their time is over: a handshake that does not end gives its place back.
    let until = Instant::now() + Duration::from_secs(15);
    while idle.iter().any(|stream| !is_closed(stream)) {
        assert!(Instant::now() < until, "a handshake is waited for without end");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn is_closed(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    match stream.read(&mut [0; 64]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

/// An authority, and what it certifies.
pub(super) struct Authority(pub(super) CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate and its key, in PEM.
    fn certify(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

#[test]
fn a_certificate_that_was_replaced_is_shown_without_a_restart_and_a_broken_one_is_not() {
    let (first, second) = (Authority::new(), Authority::new());
    let (certificate, key) = first.certify("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth);
    let files = [("server.crt", certificate.as_str()), ("server.key", key.as_str())];
    let (server, address) = listening("certificate = \"server.crt\"\nkey = \"server.key\"", &files);
    let answers =
        |authority: &Authority| Remote::made(&authority.0.pem(), address, |builder| builder).get(PUBLIC).is_ok();
    assert!(answers(&first) && !answers(&second));
    // Half of the exchange is no pair: the one before is shown.
    let (certificate, key) = second.certify("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth);
    replace(&server.dir.path().join("server.crt"), &certificate);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(answers(&first) && !answers(&second));
    replace(&server.dir.path().join("server.key"), &key);
    let until = Instant::now() + Duration::from_secs(10);
    while !answers(&second) {
        assert!(Instant::now() < until, "the new certificate is not shown: {}", server.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(!answers(&first));
}

fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("beside");
    fs::write(&beside, text).unwrap();
    fs::rename(&beside, path).unwrap();
}

#[test]
fn a_client_that_shows_a_certificate_of_a_strange_authority_is_not_spoken_with() {
    let (known, strange) = (Authority::new(), Authority::new());
    let (server, address) = listening("client-ca = \"clients.crt\"", &[("clients.crt", &known.0.pem())]);
    let showing = |pair: Option<(String, String)>| {
        let identity = pair
            .map(|(certificate, key)| reqwest::Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap());
        let client = Remote::made(&server.authority(), address, |builder| match identity {
            Some(identity) => builder.identity(identity),
            None => builder,
        });
        client.get(PUBLIC).map(|answer| answer.status)
    };
    assert_eq!(showing(None).unwrap(), 200, "without one, other credentials may tell");
    assert_eq!(showing(Some(known.certify("ci", ExtendedKeyUsagePurpose::ClientAuth))).unwrap(), 200);
    assert!(showing(Some(strange.certify("ci", ExtendedKeyUsagePurpose::ClientAuth))).is_err());
    // One that is for servers is none of a client.
    assert!(showing(Some(known.certify("ci", ExtendedKeyUsagePurpose::ServerAuth))).is_err());
}

#[test]
fn a_port_without_a_usable_certificate_does_not_open() {
    let (certificate, _) = Authority::new().certify("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth);
    let (_, other_key) = Authority::new().certify("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth);
    let server = Server::prepared("kind = \"simulated\"", "");
    let path = server.dir.path().join("config.toml");
    let config = fs::read_to_string(&path).unwrap();
    let address = free();
    let write = |name: &str, text: &str| {
        fs::write(server.dir.path().join(name), text).unwrap();
        fs::set_permissions(server.dir.path().join(name), PermissionsExt::from_mode(0o600)).unwrap();
    };
    write("server.crt", &certificate);
    write("server.key", &other_key);
    write("empty", "");
    for (lines, told) in [
        ("certificate = \"server.crt\"\nkey = \"server.key\"", "do not belong together"),
        ("certificate = \"server.crt\"", "key"),
        ("certificate = \"missing\"\nkey = \"server.key\"", "missing"),
        ("client-ca = \"empty\"", "PEM"),
    ] {
        fs::write(&path, format!("{config}[listen]\naddress = \"{address}\"\n{lines}\n")).unwrap();
        let state: PathBuf = server.state();
        let mut command = Command::new(env!("CARGO_BIN_EXE_debvisor"));
        let output = command.arg("up").arg("--state-dir").arg(state).arg("--config").arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{lines}: {said}");
        assert!(said.contains(told), "{lines}: {said}");
        assert!(TcpStream::connect(address).is_err());
    }
}
