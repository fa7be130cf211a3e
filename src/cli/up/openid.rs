//! The configuration's `[[oidc]]` in, what asks those providers out. No provider is asked here: one that is down keeps
//! nobody from coming up.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use openidconnect::{IssuerUrl, RedirectUrl};

use crate::cli::UsageError;
use crate::config::OidcConfig;
use crate::control::authn::oidc::roles::GivenRole;
use crate::control::authn::oidc::{ProviderSettings, Providers};
use crate::release::artifact;
use crate::types::{Secret, limits};

/// The providers; files are beside the configuration where their paths are not absolute.
pub(super) fn providers(configured: &[OidcConfig], folder: &Path) -> anyhow::Result<Providers> {
    let mut names = BTreeSet::new();
    let mut all = Vec::new();
    for one in configured {
        let usage = |message: String| UsageError::new(message, "docs/how-to/keys.md shows an [[oidc]]");
        let name = &one.name;
        if !names.insert(name) {
            return Err(usage(format!("two providers of [[oidc]] are named {name:?}")).into());
        }
        let callback = format!("/v1/oidc/{name}/callback");
        if !one.redirect_url.ends_with(&callback) {
            return Err(usage(format!("redirect-url of the provider {name:?} must end in {callback}")).into());
        }
        if one.role_claim.is_none() && !one.roles.is_empty() {
            return Err(usage(format!("the provider {name:?} has roles and no role-claim that gives them")).into());
        }
        let wrong = |error: url::ParseError| usage(format!("an address of the provider {name:?} is none: {error}"));
        all.push(ProviderSettings {
            name: name.clone(),
            issuer: IssuerUrl::new(one.issuer.clone()).map_err(wrong)?,
            client_id: one.client_id.clone(),
            client_secret: one.client_secret_file.as_ref().map(|file| secret(&folder.join(file))).transpose()?,
            redirect_url: RedirectUrl::new(one.redirect_url.clone()).map_err(wrong)?,
            scopes: one.scopes.iter().filter(|scope| *scope != "openid").cloned().collect(),
            user_claim: one.user_claim.clone(),
            role_claim: one.role_claim.clone(),
            roles: one
                .roles
                .iter()
                .map(|(value, role)| (value.clone(), GivenRole::of(role)))
                .collect::<HashMap<_, _>>(),
            domains: one.domains.clone(),
            auto_create: one.auto_create,
        });
    }
    Providers::new(all).map_err(|error| anyhow::anyhow!("cannot set up TLS for OpenID providers: {error}"))
}

fn secret(file: &Path) -> anyhow::Result<Secret> {
    let hint = "client-secret-file in [[oidc]] names a file with the secret and nothing else";
    let wrong = |why: String| UsageError::new(format!("{}: {why}", file.display()), hint);
    let bytes = artifact::read_bounded(file, limits::CONFIG_BYTES).map_err(|error| wrong(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(wrong("it is empty".to_owned()).into());
    }
    Ok(Secret::new(secret.to_owned()))
}
