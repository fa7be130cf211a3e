//! `/v1/oidc` and `/v1/identities`: login by an OpenID provider, and which of its people is who here.
//! A browser that logs in for a program is shown the one page that there is here: it loads and runs nothing.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, Html, IntoResponse as _, Redirect, Response};
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::authn::{self, From};
use super::extract::{Cursor, Json, Path, Query, ReturnedQuery, StartQuery};
use super::session::{SessionView, secret};
use super::{App, Page, Problem};
use crate::control::Caller;
use crate::control::authn::Opened;
use crate::control::authn::oidc::program::{Answered, Program};
use crate::control::authn::oidc::{Finished, Returned};
use crate::control::authz::Resource;
use crate::store::Identity;
use crate::types::Secret;
use crate::types::access::Permission;

/// What carries a login to the provider and back. Only this host sets it, only TLS carries it, and a form or a picture
/// on another site does not.
const LOGIN: &str = "__Host-debvisor-oidc";

/// A provider by which people log in.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ProviderView {
    /// What it is called here.
    pub name: String,
    /// Its issuer.
    pub issuer: String,
    /// For whom an ID token must be made that is exchanged here.
    pub client_id: String,
    /// What is asked for besides `openid`.
    pub scopes: Vec<String>,
    /// Where a browser begins a login, as the provider's answer finds it again.
    pub start: String,
}

/// An ID token that shall become a session.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// The ID token, made for the provider's `client_id` within the last ten minutes; it is taken once.
    #[schema(value_type = String, max_length = 16_384)]
    pub id_token: Secret,
}

/// A code that a browser brought a program.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CodeRequest {
    /// The code; it lasts five minutes, and is taken once.
    #[schema(value_type = String, max_length = 16_384)]
    pub code: Secret,
    /// What the program began the login with the SHA-256 of.
    #[schema(value_type = String, min_length = 43, max_length = 128)]
    pub verifier: Secret,
}

/// A person of a provider who shall be a user here.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityRequest {
    /// The provider, by its name here.
    #[schema(min_length = 1, max_length = 63)]
    pub provider: String,
    /// What it calls them in `sub`.
    #[schema(min_length = 1, max_length = 255)]
    pub subject: String,
    /// Who they are here, by identity or name.
    #[schema(min_length = 1, max_length = 64)]
    pub user: String,
}

/// The providers by which people log in.
#[utoipa::path(get, path = "/v1/oidc", tag = "oidc",
    responses((status = 200, body = Page<ProviderView>), (status = "default", body = Problem)))]
pub(super) async fn providers(State(app): State<App>) -> Json<Page<ProviderView>> {
    let items = app.control.providers().into_iter().map(|provider| ProviderView {
        name: provider.name.clone(),
        issuer: provider.issuer.to_string(),
        client_id: provider.client_id.clone(),
        scopes: provider.scopes.clone(),
        start: start_of(provider.redirect_url.as_str()),
    });
    Json(Page { items: items.collect(), next: None })
}

/// Sends a browser to the provider, for itself or for a program that waits beside it.
#[utoipa::path(get, path = "/v1/oidc/{provider}/start", tag = "oidc", params(("provider" = String, Path), StartQuery),
    responses((status = 303), (status = "default", body = Problem)))]
pub(super) async fn start(
    State(app): State<App>,
    Path(provider): Path<String>,
    Query(query): Query<StartQuery>,
) -> Result<Response, Problem> {
    let program = match query {
        StartQuery { port: None, state: None, challenge: None } => None,
        StartQuery { port: Some(port), state: Some(state), challenge: Some(challenge) } => {
            Some(Program::new(port, state, challenge)?)
        }
        _ => {
            let message = "port, state and challenge belong together, and one of them is missing";
            return Err(Problem::malformed(StatusCode::UNPROCESSABLE_ENTITY, message));
        }
    };
    let begun = app.control.oidc_begin(&provider, program).await?;
    let cookie = AppendHeaders([(header::SET_COOKIE, login_cookie(begun.cookie).to_string())]);
    Ok((secret(), cookie, Redirect::to(&begun.url)).into_response())
}

/// Where the provider sends the browser back to: it is logged in, and goes on to the panel; or it is shown for which
/// program that was, and goes there when its user says so.
#[utoipa::path(get, path = "/v1/oidc/{provider}/callback", tag = "oidc",
    params(("provider" = String, Path), ReturnedQuery),
    responses((status = 303), (status = 200, body = String, content_type = "text/html"),
        (status = "default", body = Problem)))]
pub(super) async fn callback(
    From(from): From,
    State(app): State<App>,
    Path(provider): Path<String>,
    Query(query): Query<ReturnedQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let ReturnedQuery { code, state, error, iss } = query;
    let returned = Returned { code, state, error, iss };
    let jar = CookieJar::from_headers(&headers);
    let carried = jar.get(LOGIN).map(|cookie| cookie.value().to_owned());
    let before = authn::cookie(&headers);
    let finished = app.control.oidc_finish(&provider, returned, carried.as_deref(), before, &from).await?;
    let mut gone = login_cookie(String::new());
    gone.make_removal();
    let gone = (header::SET_COOKIE, gone.to_string());
    Ok(match finished {
        Finished::Browser(opened) => {
            let cookies = AppendHeaders([authn::set_cookie(&opened.token), gone]);
            (secret(), cookies, Redirect::to("/")).into_response()
        }
        Finished::Program(answered) => {
            let shown = AppendHeaders(PAGE);
            match page(&answered) {
                Some(page) => (secret(), AppendHeaders([gone]), shown, Html(page)).into_response(),
                // There is nothing to say yes to: the program hears of it at once.
                None => (secret(), AppendHeaders([gone]), shown, Redirect::to(&answered.address)).into_response(),
            }
        }
    })
}

/// What a page may do: nothing but be looked at, in no frame; and whom its links lead to is not told where from.
const PAGE: [(header::HeaderName, &str); 3] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

/// Asks whoever sits at the browser whether it was them who began the login in a terminal.
fn page(answered: &Answered) -> Option<String> {
    let who = plain(answered.who.as_deref()?);
    let Answered { sign, address, refused, .. } = answered;
    let (address, refused) = (plain(address), plain(refused));
    Some(format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>DebVisor: log in a program?</title></head>\
         <body><h1>Log in a program as {who}?</h1>\
         <p>A program on this computer wants to log in to DebVisor.</p>\
         <p>Its terminal must show the sign <strong>{sign}</strong>. \
         If it shows another one, or you have begun no login there, say no.</p>\
         <p><a href=\"{address}\">Yes, log it in</a></p><p><a href=\"{refused}\">No</a></p></body></html>"
    ))
}

/// A text between tags, or between quotes.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => plain.push_str("&amp;"),
            '<' => plain.push_str("&lt;"),
            '>' => plain.push_str("&gt;"),
            '"' => plain.push_str("&quot;"),
            '\'' => plain.push_str("&#39;"),
            letter => plain.push(letter),
        }
    }
    plain
}

/// Exchanges a code that a browser brought a program for a session.
#[utoipa::path(post, path = "/v1/oidc/{provider}/code", tag = "oidc", params(("provider" = String, Path)),
    request_body = CodeRequest,
    responses((status = 201, body = SessionView), (status = "default", body = Problem)))]
pub(super) async fn code(
    From(from): From,
    State(app): State<App>,
    Path(provider): Path<String>,
    Json(request): Json<CodeRequest>,
) -> Result<Response, Problem> {
    let CodeRequest { code, verifier } = request;
    let opened = app.control.oidc_redeem(&provider, code.reveal(), verifier.reveal(), &from).await?;
    Ok(told_once(opened))
}

/// Exchanges an ID token that a program got from the provider for a session.
#[utoipa::path(post, path = "/v1/oidc/{provider}/token", tag = "oidc", params(("provider" = String, Path)),
    request_body = TokenRequest,
    responses((status = 201, body = SessionView), (status = "default", body = Problem)))]
pub(super) async fn token(
    From(from): From,
    State(app): State<App>,
    Path(provider): Path<String>,
    Json(request): Json<TokenRequest>,
) -> Result<Response, Problem> {
    let opened = app.control.oidc_exchange(&provider, request.id_token.reveal(), &from).await?;
    Ok(told_once(opened))
}

/// A session with the token that the program carries from now on.
fn told_once(opened: Opened) -> Response {
    let token = Some(opened.token.reveal().to_owned());
    let view = SessionView { session: opened.session, user: opened.user, csrf: None, token };
    (StatusCode::CREATED, secret(), Json(view)).into_response()
}

/// Which people of providers are which users here.
#[utoipa::path(get, path = "/v1/identities", tag = "oidc", params(Cursor),
    responses((status = 200, body = Page<Identity>), (status = "default", body = Problem)))]
pub(super) async fn identities(
    _: Caller,
    State(app): State<App>,
    Query(cursor): Query<Cursor>,
) -> Result<Json<Page<Identity>>, Problem> {
    let items = app.control.identity_list(&cursor.after, cursor.limit()).await?;
    Ok(Json(Page::new(items, cursor.limit(), |identity| identity.id.to_string())))
}

/// Links a person of a provider with a user.
#[utoipa::path(post, path = "/v1/identities", tag = "oidc", request_body = IdentityRequest,
    responses((status = 201, body = Identity), (status = "default", body = Problem)))]
pub(super) async fn link(
    caller: Caller,
    State(app): State<App>,
    Json(request): Json<IdentityRequest>,
) -> Result<(StatusCode, Json<Identity>), Problem> {
    // Who comes in as somebody can do what they may: that takes what giving them a role takes.
    app.control.authorize(&caller, Permission::AccessWrite, &Resource::Everything).await?;
    let user = app.control.user_find(&request.user).await?;
    let linked = app.control.identity_link(&caller, &request.provider, &request.subject, &user).await?;
    Ok((StatusCode::CREATED, Json(linked)))
}

/// Unlinks a person of a provider.
#[utoipa::path(delete, path = "/v1/identities/{identity}", tag = "oidc", params(("identity" = String, Path, format = "uuid")),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn unlink(
    caller: Caller,
    State(app): State<App>,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, Problem> {
    app.control.identity_unlink(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The address at which a login begins whose answer comes to this one: the cookie in between is of one host.
fn start_of(callback: &str) -> String {
    format!("{}/start", callback.trim_end_matches("/callback"))
}

/// It must come along when the provider sends the browser back, which is another site's doing: not `Strict`.
fn login_cookie(value: String) -> Cookie<'static> {
    Cookie::build((LOGIN, value)).path("/").secure(true).http_only(true).same_site(SameSite::Lax).build()
}
