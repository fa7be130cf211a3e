//! A registry that asks who it is, under a certificate of its own authority; and where the credentials come from.

use std::os::unix::fs::PermissionsExt as _;

use debvisor::clients::registry::credentials::Credentials;
use debvisor::clients::registry::{Options, Reference, Repository};
use serde_json::json;

use super::docker::{Docker, PASSWORD, USER};
use super::standin::{Flaw, StandIn, basic};
use super::{Shop, push_image, push_image_to, wait};

/// An image that was signed at a guarded registry, and the flags with which it is reached.
fn guarded() -> (Docker, Shop, Vec<String>) {
    let registry = Docker::guarded();
    let shop = Shop::at(&registry.host);
    let authority = registry.authority();
    let options = Options {
        authorities: std::fs::read(&authority).unwrap(),
        credentials: Some(Credentials::new(USER, PASSWORD)),
        ..Options::default()
    };
    wait(async {
        let reference: Reference = format!("{}/a:v1", shop.host).parse().unwrap();
        push_image_to(&Repository::connect(&reference, options).await.unwrap(), "v1", b"layer").await
    });
    let authority = authority.display().to_string();
    (registry, shop, vec!["--registry-cacert".to_owned(), authority])
}

fn strs(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

#[test]
fn name_and_password_open_a_registry_under_its_own_authority() {
    let (registry, shop, trusted) = guarded();
    let with = |password: &'static str| {
        [strs(&trusted), vec!["--registry-username", USER, "--registry-password", password]].concat()
    };
    shop.make(&[&["sign", &shop.image(":v1")], &with(PASSWORD)[..]].concat()).succeeds();
    shop.ask("verify", ":v1", &with(PASSWORD)).allows();
    shop.ask("gate", ":v1", &with(PASSWORD)).allows();

    // Who asks is not known, or not believed: nothing is said of the image.
    shop.ask("verify", ":v1", &with("wrong")).is(2, "registry-refused");
    shop.ask("gate", ":v1", &strs(&trusted)).is(2, "registry-refused");
    shop.make(&[&["sign", &shop.image(":v1")], &with("wrong")[..]].concat()).fails(2, "registry-refused");

    // Nor is a registry believed whose authority nobody named.
    let untrusted = ["--registry-username", USER, "--registry-password", PASSWORD];
    let refused = shop.ask("verify", ":v1", &untrusted);
    assert_eq!(refused.exit, 2, "{:#}", refused.report);
    shop.ask("verify", ":v1", &[&untrusted[..], &["--allow-insecure-registry"]].concat()).allows();
    let authority = registry.authority().display().to_string();
    let key = ["--key", "release.pub"];
    let environment = [("SSL_CERT_FILE", authority.as_str())];
    shop.ask_with("verify", ":v1", &[&key[..], &untrusted].concat(), &environment).allows();
    shop.desk.run(&["verify", &shop.image(":v1"), "--registry-cacert", "app"]).fails(64, "app");
}

#[test]
fn credentials_come_from_where_docker_login_keeps_them() {
    let (_registry, shop, trusted) = guarded();
    std::fs::create_dir(shop.desk.path(".docker")).unwrap();
    let config = |config: &serde_json::Value| shop.desk.write(".docker/config.json", config.to_string().as_bytes());
    let auth = basic(USER, PASSWORD).replace("Basic ", "");
    config(&json!({"auths": {&shop.host: {"auth": auth}}}));
    shop.make(&[&["sign", &shop.image(":v1")], &strs(&trusted)[..]].concat()).succeeds();
    shop.ask("verify", ":v1", &strs(&trusted)).allows();
    config(&json!({"auths": {format!("https://{}/v2/", shop.host): {"auth": auth}}}));
    shop.ask("verify", ":v1", &strs(&trusted)).allows();
    config(&json!({"auths": {"other.example": {"auth": auth}}}));
    shop.ask("verify", ":v1", &strs(&trusted)).is(2, "registry-refused");
    for broken in ["{", r#"{"auths": {"HOST": {"auth": "?"}}}"#] {
        shop.desk.write(".docker/config.json", broken.replace("HOST", &shop.host).as_bytes());
        let report = shop.ask("verify", ":v1", &strs(&trusted)).is(2, "registry-refused");
        assert!(report["reasons"][0]["message"].as_str().unwrap().contains("config.json"), "{report:#}");
    }

    // A helper, by the registry's name or for all of them, in another directory.
    let helper = format!(
        "#!/bin/sh\nread -r host\n[ \"$1 $host\" = \"get {}\" ] || {{ echo credentials not found; exit 1; }}\n\
         echo '{{\"ServerURL\": \"x\", \"Username\": \"{USER}\", \"Secret\": \"{PASSWORD}\"}}'\n",
        shop.host
    );
    shop.desk.write("docker-credential-tests", helper.as_bytes());
    let path = shop.desk.path("docker-credential-tests");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(shop.desk.path("elsewhere")).unwrap();
    let search = format!("{}:/usr/bin:/bin", shop.desk.path("").display());
    let dir = shop.desk.path("elsewhere").display().to_string();
    let environment = [("PATH", search.as_str()), ("DOCKER_CONFIG", &dir)];
    let flags = [&["--key", "release.pub"], &strs(&trusted)[..]].concat();
    for stored in [json!({"credHelpers": {&shop.host: "tests"}}), json!({"credsStore": "tests"})] {
        shop.desk.write("elsewhere/config.json", stored.to_string().as_bytes());
        shop.ask_with("verify", ":v1", &flags, &environment).allows();
    }
    for helper in ["../tests", "absent"] {
        let stored = json!({"credsStore": helper});
        shop.desk.write("elsewhere/config.json", stored.to_string().as_bytes());
        let report = shop.ask_with("verify", ":v1", &flags, &environment).is(2, "registry-refused");
        assert!(report["reasons"][0]["message"].as_str().unwrap().contains(helper), "{report:#}");
    }
}

#[test]
fn a_token_is_asked_for_where_the_registry_says_so() {
    let registry = StandIn::new(&[]);
    let shop = Shop::at(&registry.host);
    let digest = push_image(&shop.host, "v1", b"layer");
    shop.sign(&digest);
    registry.flaw(Flaw::Tokens(USER, PASSWORD));
    let with = |password: &'static str| ["--registry-username", USER, "--registry-password", password];
    shop.ask("verify", ":v1", &with(PASSWORD)).allows();
    shop.ask("verify", ":v1", &with("wrong")).is(2, "registry-refused");
    shop.ask("verify", ":v1", &[]).is(2, "registry-refused");
    let asked = registry.asked();
    let tokens = asked.iter().filter(|asked| asked.line.starts_with("GET /token"));
    assert_eq!(tokens.count(), 3, "one token a run: {asked:#?}");
    // The password goes to the token service and nowhere else.
    let password = basic(USER, PASSWORD);
    let told = asked.iter().filter(|asked| asked.authorization.as_ref() == Some(&password));
    assert!(told.clone().count() == 1 && told.clone().all(|asked| asked.line.starts_with("GET /token")));
}
