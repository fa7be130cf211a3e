//! Debian's docker-registry on loopback: it knows no list of referrers, so everything goes by tags. It ends with the
//! value that started it.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A running registry.
pub(crate) struct Docker {
    pub(crate) host: String,
    dir: tempfile::TempDir,
    child: Child,
}

/// Who may use a registry that asks: `open sesame`, hashed by bcrypt.
pub(super) const USER: &str = "publisher";
pub(super) const PASSWORD: &str = "open sesame";
const HTPASSWD: &str = "publisher:$2b$05$BjTDqWnZklL7eXIgvUsoaek968v/GFgDnAv5GKacdpdtAd0Sno1uS\n";

impl Docker {
    /// One that anybody may use, without TLS.
    pub(crate) fn plain() -> Self {
        Self::start(false)
    }

    /// One that asks who it is, under a certificate of an authority of its own.
    pub(super) fn guarded() -> Self {
        Self::start(true)
    }

    /// The authority of a guarded one, in PEM.
    pub(super) fn authority(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    fn start(guarded: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n",
            at("data")
        );
        if guarded {
            certify(dir.path());
            std::fs::write(at("htpasswd"), HTPASSWD).unwrap();
            config += &format!("auth: {{htpasswd: {{realm: tests, path: {}}}}}\n", at("htpasswd"));
            let tls = format!("tls: {{certificate: {}, key: {}}}", at("server.pem"), at("server.key"));
            config += &format!("http: {{addr: '127.0.0.1:{port}', {tls}}}\n");
        } else {
            config += &format!("http: {{addr: '127.0.0.1:{port}'}}\n");
        }
        std::fs::write(at("config.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve", &at("config.yml")])
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed (scripts/needs.sh test)");
        let registry = Self { host: format!("127.0.0.1:{port}"), dir, child };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&registry.host).is_err() {
            assert!(Instant::now() < deadline, "docker-registry does not come up");
            thread::sleep(Duration::from_millis(50));
        }
        registry
    }
}

impl Docker {
    /// It answers no more.
    pub(crate) fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        self.end();
    }
}

/// An authority for one test, and a certificate of it for this machine.
fn certify(dir: &Path) {
    let openssl = |arguments: &str| {
        let ran = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output().unwrap();
        assert!(ran.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&ran.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=tests"));
    openssl(&format!("req -new {key} -keyout server.key -out server.csr -subj /CN=registry").replace(" -days 2", ""));
    let mut extensions = std::fs::File::create(dir.join("server.ext")).unwrap();
    extensions.write_all(b"subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext -out server.pem",
    );
}
