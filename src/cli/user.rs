//! `debvisor user`: people who may log in. Who is at the socket makes the first of them.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};

use anyhow::Context as _;
use reqwest::Method;
use serde_json::json;

use super::client::{Client, Connection, print_json, print_list};
use super::{Context, Ended, Format, UsageError};
use crate::api::{RotatedView, TotpView, UserPatchRequest};
use crate::store::User;
use crate::types::Secret;
use crate::types::access::BuiltinRole;

/// What is read of a password on stdin.
const PASSWORD_BYTES: u64 = 4_096;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List users
    List,
    /// Show one user
    Show {
        /// The name, or the identity
        user: String,
    },
    /// Make somebody known
    Create {
        /// The name: letters, digits and . _ - @ +
        name: String,
        /// A built-in role on everything: admin, operator, developer or viewer
        #[arg(long)]
        role: Option<BuiltinRole>,
        #[command(flatten)]
        password: PasswordArgs,
        /// Without a password: they come by an identity provider
        #[arg(long, conflicts_with_all = ["password_stdin", "must_change"])]
        no_password: bool,
    },
    /// Remove somebody; their sessions end
    Delete {
        /// The name, or the identity
        user: String,
    },
    /// Keep somebody out; their sessions end
    Disable {
        /// The name, or the identity
        user: String,
    },
    /// Let somebody in again
    Enable {
        /// The name, or the identity
        user: String,
    },
    /// Give somebody another role on everything, or none; their sessions end
    Role {
        /// The name, or the identity
        user: String,
        /// admin, operator, developer or viewer; without it none
        role: Option<BuiltinRole>,
    },
    /// Choose another password, or give somebody one; every other session ends
    Password {
        /// The name, or the identity; without it your own, of the session that you are logged in by
        user: Option<String>,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Begin to use one-time codes; or end it
    Totp {
        /// Whose codes are no longer asked for; without it your own, of the session that you are logged in by
        #[arg(requires = "remove")]
        user: Option<String>,
        /// They are no longer asked for
        #[arg(long)]
        remove: bool,
    },
}

#[derive(Debug, clap::Args)]
struct PasswordArgs {
    /// Read the password from the first line of stdin
    #[arg(long)]
    password_stdin: bool,
    /// They have to choose another one before anything else
    #[arg(long)]
    must_change: bool,
}

pub(super) fn run(args: Args, context: &Context) -> anyhow::Result<Ended> {
    let client = Client::new(&args.connection, context)?;
    match args.command {
        Command::List => {
            let users: Vec<User> = client.all("/v1/users")?;
            print_list(context, &users, ["NAME", "ROLE", "STATE", "CODES", "LAST LOGIN", "ID"], |user| {
                [
                    user.name.clone(),
                    user.role.map_or_else(|| "-".to_owned(), |role| role.to_string()),
                    state(user).to_owned(),
                    if user.totp { "asked for" } else { "-" }.to_owned(),
                    user.login_at.map_or_else(|| "-".to_owned(), |at| at.to_string()),
                    user.id.to_string(),
                ]
            })?;
        }
        Command::Show { user } => show(&client.get(&path(&user, ""))?, context)?,
        Command::Create { name, role, password, no_password } => {
            let secret = if no_password { None } else { Some(new_password(&password)?) };
            let secret = secret.as_ref().map(Secret::reveal);
            let must_change = password.must_change;
            let request = json!({ "name": name, "role": role, "password": secret, "must_change": must_change });
            let user: User = client.send(Method::POST, "/v1/users", &request)?;
            told(context, &user, &format!("user {} is made: {}", user.name, user.id))?;
        }
        Command::Delete { user } => {
            client.done(Method::DELETE, &path(&user, ""))?;
            told(context, &json!({}), &format!("user {user} is gone"))?;
        }
        Command::Disable { user } => {
            let patch = UserPatchRequest { disabled: Some(true), ..UserPatchRequest::default() };
            changed(&client, context, &user, patch, "is kept out")?;
        }
        Command::Enable { user } => {
            let patch = UserPatchRequest { disabled: Some(false), ..UserPatchRequest::default() };
            changed(&client, context, &user, patch, "may log in")?;
        }
        Command::Role { user, role } => {
            let patch = UserPatchRequest { role: Some(role), ..UserPatchRequest::default() };
            let now = role.map_or_else(|| "has no role on everything".to_owned(), |role| format!("is {role}"));
            changed(&client, context, &user, patch, &now)?;
        }
        Command::Password { user: Some(user), password } => {
            let secret = new_password(&password)?;
            let request = json!({ "password": secret.reveal(), "must_change": password.must_change });
            let user: User = client.send(Method::PUT, &path(&user, "/password"), &request)?;
            told(context, &user, &format!("user {} has another password", user.name))?;
        }
        Command::Password { user: None, password } => {
            let present = prompt("Present password: ")?;
            let new = new_password(&password)?;
            let request = json!({ "present": present.reveal(), "new": new.reveal() });
            let _: RotatedView = client.send(Method::PUT, "/v1/me/password", &request)?;
            told(context, &json!({}), "your password is another one; log in again: debvisor login")?;
        }
        Command::Totp { user: Some(user), .. } => {
            let user: User = client.ask(Method::DELETE, &path(&user, "/totp"))?;
            told(context, &user, &format!("user {} is no longer asked for one-time codes", user.name))?;
        }
        Command::Totp { user: None, remove: true } => {
            let password = prompt("Password: ")?;
            let code = prompt("One-time or recovery code: ")?;
            let request = json!({ "password": password.reveal(), "code": code.reveal() });
            let _: RotatedView = client.send(Method::POST, "/v1/me/totp/remove", &request)?;
            told(context, &json!({}), "you are no longer asked for one-time codes; log in again: debvisor login")?;
        }
        Command::Totp { user: None, remove: false } => totp(&client, context)?,
    }
    Ok(Ended::Done)
}

fn totp(client: &Client, context: &Context) -> anyhow::Result<()> {
    let password = prompt("Password: ")?;
    let begun: TotpView = client.send(Method::POST, "/v1/me/totp", &json!({ "password": password.reveal() }))?;
    eprintln!("Tell your authenticator this seed: {}", begun.seed);
    eprintln!("or this address, as a QR code:     {}", begun.uri);
    let code = prompt("The code that it shows: ")?;
    let request = json!({ "code": code.reveal() });
    let rotated: RotatedView = client.send(Method::POST, "/v1/me/totp/confirm", &request)?;
    if context.format != Format::Text {
        return print_json(&rotated);
    }
    println!("From now on you are asked for a code. Each of these lets you in once without one; keep them safe:");
    for code in &rotated.recovery_codes {
        println!("  {code}");
    }
    println!("Log in again: debvisor login");
    Ok(())
}

fn changed(client: &Client, context: &Context, user: &str, patch: UserPatchRequest, now: &str) -> anyhow::Result<()> {
    let user: User = client.send(Method::PATCH, &path(user, ""), &patch)?;
    told(context, &user, &format!("user {} {now}", user.name))
}

fn show(user: &User, context: &Context) -> anyhow::Result<()> {
    if context.format != Format::Text {
        return print_json(user);
    }
    println!("name         {}", user.name);
    println!("identity     {}", user.id);
    println!("role         {}", user.role.map_or("none on everything", BuiltinRole::as_str));
    println!("state        {}", state(user));
    println!("password     {}", if user.has_password { "yes" } else { "none: by an identity provider" });
    println!("codes        {}", if user.totp { "asked for" } else { "not asked for" });
    println!("made         {} by {}", user.created_at, user.created_by);
    println!("last login   {}", user.login_at.map_or_else(|| "never".to_owned(), |at| at.to_string()));
    Ok(())
}

const fn state(user: &User) -> &'static str {
    match (user.disabled, user.must_change) {
        (true, _) => "kept out",
        (false, true) => "has to choose another password",
        (false, false) => "may log in",
    }
}

/// The address of a user, whatever stands in the name.
fn path(user: &str, rest: &str) -> String {
    let mut url = url::Url::parse("http://debvisor/v1/users/").ok();
    if let Some(mut segments) = url.as_mut().and_then(|url| url.path_segments_mut().ok()) {
        segments.pop_if_empty().push(user);
    }
    format!("{}{rest}", url.map_or_else(String::new, |url| url.path().to_owned()))
}

fn new_password(args: &PasswordArgs) -> anyhow::Result<Secret> {
    if args.password_stdin {
        let mut line = zeroize::Zeroizing::new(String::new());
        let mut stdin = std::io::stdin().lock().take(PASSWORD_BYTES);
        stdin.read_line(&mut line).context("cannot read the password from stdin")?;
        return Ok(Secret::new(line.trim_end_matches(['\r', '\n']).to_owned()));
    }
    let one = prompt("New password: ")?;
    let two = prompt("The same again: ")?;
    if one.reveal() != two.reveal() {
        return Err(UsageError::new("the two passwords differ", "type the same one twice").into());
    }
    Ok(one)
}

/// Asks without showing what is typed.
fn prompt(text: &str) -> anyhow::Result<Secret> {
    let missing = || UsageError::new("there is no terminal to ask for a password", "give --password-stdin");
    if !std::io::stdin().is_terminal() {
        return Err(missing().into());
    }
    std::io::stderr().flush().context("cannot write to stderr")?;
    rpassword::prompt_password(text).map(Secret::new).map_err(|_| missing().into())
}

fn told(context: &Context, document: &impl serde::Serialize, message: &str) -> anyhow::Result<()> {
    if context.format != Format::Text {
        return print_json(document);
    }
    println!("{message}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_part_of_the_address() {
        assert_eq!(path("alice@example.org", "/totp"), "/v1/users/alice@example.org/totp");
        assert_eq!(path("../vms", ""), "/v1/users/..%2Fvms");
        assert_eq!(path("a?b", ""), "/v1/users/a%3Fb");
    }
}
