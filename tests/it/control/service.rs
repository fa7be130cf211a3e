//! Services that say who they are by a certificate, over the real listener.

use std::net::SocketAddr;

use rcgen::string::Ia5String;
use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, KeyPair, SanType};
use sha2::Digest as _;

use super::server::Server;
use super::tls::{Answer, Authority, Remote, listening};

/// What everybody may ask who is known, and nobody else. Who is no user is told so.
const KNOWN: &str = "/v1/keys";

struct World {
    server: Server,
    address: SocketAddr,
    authority: Authority,
}

impl World {
    fn new() -> Self {
        let authority = Authority::new();
        let (server, address) = listening("client-ca = \"clients.crt\"", &[("clients.crt", &authority.0.pem())]);
        Self { server, address, authority }
    }

    fn client(&self, key: &KeyPair, names: &[&str], of: &CertifiedIssuer<'static, KeyPair>) -> Remote {
        self.timed(key, names, of, |_| {})
    }

    fn timed(
        &self,
        key: &KeyPair,
        names: &[&str],
        of: &CertifiedIssuer<'static, KeyPair>,
        with: impl FnOnce(&mut CertificateParams),
    ) -> Remote {
        let mut parameters = CertificateParams::default();
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        parameters.subject_alt_names = names
            .iter()
            .map(|name| {
                let text = Ia5String::try_from(*name).unwrap();
                if name.contains(':') { SanType::URI(text) } else { SanType::DnsName(text) }
            })
            .collect();
        with(&mut parameters);
        let certificate = parameters.signed_by(key, of).unwrap();
        let identity = format!("{}{}", certificate.pem(), key.serialize_pem());
        let identity = reqwest::Identity::from_pem(identity.as_bytes()).unwrap();
        Remote::made(&self.server.authority(), self.address, |builder| builder.identity(identity))
    }

    fn create(&self, name: &str, mark: &str) {
        self.server.ok(&["service", "create", name, "--mark", mark]);
    }
}

fn pin(key: &KeyPair) -> String {
    format!("spki:sha256:{}", hex::encode(sha2::Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(key))))
}

fn refusal(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["code"].as_str().unwrap().to_owned())
}

/// Who is known as a service is not a user, and has no keys: that is how one sees that it was known.
fn is_known(answer: &Answer) -> bool {
    refusal(answer) == (422, "credential-malformed".to_owned())
}

#[test]
fn a_service_is_known_by_its_key_or_by_a_name_that_the_authority_vouches_for() {
    let world = World::new();
    let (pinned, by_uri, by_name) =
        (KeyPair::generate().unwrap(), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let authority = &world.authority.0;
    let clients = [
        world.client(&pinned, &[], authority),
        world.client(&by_uri, &["spiffe://example.org/deploy"], authority),
        world.client(&by_name, &["metrics.example.org"], authority),
    ];
    for client in &clients {
        assert_eq!(refusal(&client.get(KNOWN).unwrap()), (401, "service-unknown".to_owned()));
        assert_eq!(client.get("/v1/openapi.json").unwrap().status, 200, "what everybody may see");
    }
    world.create("pinned", &pin(&pinned));
    world.create("deploy", "uri:spiffe://example.org/deploy");
    world.create("metrics", "dns:metrics.example.org");
    for client in &clients {
        let answer = client.get(KNOWN).unwrap();
        assert!(is_known(&answer), "{}", answer.body);
        assert_eq!(refusal(&client.get("/v1/vms").unwrap()), (403, "access-denied".to_owned()), "no grant, no right");
    }
    // Names are compared byte by byte, and a part of one is none.
    for other in ["spiffe://example.org/deploy/", "spiffe://example.org/Deploy", "spiffe://example.org/deplo"] {
        let stranger = world.client(&KeyPair::generate().unwrap(), &[other], authority);
        assert_eq!(refusal(&stranger.get(KNOWN).unwrap()), (401, "service-unknown".to_owned()), "{other}");
    }
    let stranger = world.client(&KeyPair::generate().unwrap(), &["a.metrics.example.org"], authority);
    assert_eq!(refusal(&stranger.get(KNOWN).unwrap()), (401, "service-unknown".to_owned()));
    let list = world.server.ok(&["service", "list"]);
    assert!(list.contains("uri:spiffe://example.org/deploy") && list.contains("metrics"), "{list}");
    assert_eq!(world.server.events("service.created").len(), 3);
    let told = world.server.events("service.refused").len();
    assert!((1..4).contains(&told), "the same refusal is told once a minute: {told}");
}

#[test]
fn a_service_that_is_removed_is_nobody_on_the_connection_that_it_has() {
    let world = World::new();
    let key = KeyPair::generate().unwrap();
    let client = world.client(&key, &[], &world.authority.0);
    world.create("deploy", &pin(&key));
    assert!(is_known(&client.get(KNOWN).unwrap()));
    world.server.ok(&["service", "delete", "deploy"]);
    assert_eq!(refusal(&client.get(KNOWN).unwrap()), (401, "service-unknown".to_owned()));
    let output = world.server.cli(&["service", "delete", "deploy"]);
    assert_eq!(output.status.code(), Some(64), "there is none");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a certificate is of the time at which it is made")]
fn a_certificate_of_a_registered_name_from_a_strange_authority_or_out_of_time_opens_nothing() {
    let world = World::new();
    world.create("deploy", "dns:deploy.example.org");
    let key = KeyPair::generate().unwrap();
    world.create("pinned", &pin(&key));
    let strange = Authority::new();
    assert!(world.client(&key, &["deploy.example.org"], &strange.0).get(KNOWN).is_err(), "nobody vouches for it");
    let past = |parameters: &mut CertificateParams| {
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2021, 1, 1);
    };
    let future = |parameters: &mut CertificateParams| parameters.not_before = rcgen::date_time_ymd(2100, 1, 1);
    assert!(world.timed(&key, &[], &world.authority.0, past).get(KNOWN).is_err(), "its time is over");
    assert!(world.timed(&key, &[], &world.authority.0, future).get(KNOWN).is_err(), "its time has not come");
    // And the connection that outlives its certificate.
    let until = std::time::SystemTime::now() + std::time::Duration::from_secs(8);
    let brief = world.timed(&key, &[], &world.authority.0, |parameters| parameters.not_after = until.into());
    assert!(is_known(&brief.get(KNOWN).unwrap()));
    std::thread::sleep(std::time::Duration::from_secs(9));
    let answer = brief.get(KNOWN);
    assert!(answer.is_err() || refusal(&answer.unwrap()) == (401, "service-expired".to_owned()));
}

#[test]
fn a_credential_that_is_sent_goes_before_the_certificate() {
    let world = World::new();
    let key = KeyPair::generate().unwrap();
    let client = world.client(&key, &[], &world.authority.0);
    world.create("deploy", &pin(&key));
    let answer = client.send("GET", KNOWN, &[("authorization", "Bearer dvk_wrong")]).unwrap();
    assert_eq!(refusal(&answer), (401, "key-malformed".to_owned()));
}

#[test]
fn a_mark_is_one_services_and_of_a_form_that_names_one() {
    let world = World::new();
    world.create("deploy", "dns:deploy.example.org");
    let refused = |args: &[&str], code: &str| world.server.refused(&[&["service", "create"], args].concat(), code);
    refused(&["other", "--mark", "dns:deploy.example.org"], "another service's already");
    refused(&["deploy", "--mark", "dns:other.example.org"], "exists already");
    refused(&["other", "--mark", "dns:*.example.org"], "dns:*.example.org");
    refused(&["other", "--mark", "spki:sha256:1234"], "spki:sha256:1234");
    refused(&["Other", "--mark", "dns:other.example.org"], "/name");
    // The pin of a certificate in a file.
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::default().self_signed(&key).unwrap();
    let file = world.server.dir.path().join("service.crt");
    std::fs::write(&file, certificate.pem()).unwrap();
    let made = world.server.json(&["service", "create", "file", "--certificate", file.to_str().unwrap()]);
    assert_eq!(made["marks"], serde_json::json!([pin(&key)]));
}

#[test]
fn a_key_with_address_ranges_is_of_no_use_elsewhere() {
    let world = World::new();
    let server = &world.server;
    server.ok(&["user", "create", "alice", "--no-password"]);
    let token = |name: &str, range: &str| {
        let args = ["token", "create", name, "--user", "alice", "--scope", "vm.read", "--address", range];
        server.ok(&args).trim().to_owned()
    };
    let (here, elsewhere) = (token("here", "127.0.0.0/8"), token("elsewhere", "192.0.2.0/24"));
    let client = Remote::new(server, world.address);
    let with = |token: &str| client.send("GET", KNOWN, &[("authorization", &format!("Bearer {token}"))]).unwrap();
    assert_eq!(with(&here).status, 200);
    assert_eq!(refusal(&with(&elsewhere)), (401, "key-address".to_owned()));
    let used = server.json(&["token", "list", "--user", "alice"]);
    assert!(used[0]["used_from"].is_null() || used[0]["used_from"] == "127.0.0.1", "{used}");
    // A header that somebody in between could have set says nothing.
    let forged = [("authorization", format!("Bearer {elsewhere}")), ("x-forwarded-for", "192.0.2.1".to_owned())];
    let forged = forged.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(refusal(&client.send("GET", KNOWN, &forged).unwrap()), (401, "key-address".to_owned()));
    // At the socket there is no address, so none that is in the range.
    let bearer = format!("Bearer {here}");
    let (status, _, problem) =
        super::api::ask(server, reqwest::Method::GET, KNOWN, &[("authorization", &bearer)], None);
    assert_eq!((status.as_u16(), &problem["code"]), (401, &serde_json::json!("key-address")));
}
