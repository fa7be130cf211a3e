//! Who has which role, where, and under which conditions: the words that grants are written in.
//! Invariant: nothing in here decides, and nothing looks at a clock; [`crate::control::authz`] does.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;
use jiff::Timestamp;
use jiff::civil::Time;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::vm::VmId;

/// Where a role counts: on everything, or on a part of it and whatever is below that part.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scope {
    /// The control plane as a whole.
    Everything,
    /// A tenant, its projects and their machines.
    Tenant(String),
    /// A project and its machines.
    Project(String),
    /// One machine.
    Vm(VmId),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("everything"),
            Self::Tenant(name) => write!(f, "tenant:{name}"),
            Self::Project(name) => write!(f, "project:{name}"),
            Self::Vm(id) => write!(f, "vm:{id}"),
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "everything" => Ok(Self::Everything),
            Some(("tenant", name)) if is_label(name) => Ok(Self::Tenant(name.to_owned())),
            Some(("project", name)) if is_label(name) => Ok(Self::Project(name.to_owned())),
            Some(("vm", id)) => id.parse().map(Self::Vm).map_err(|_| format!("{id:?} is no machine's identity")),
            _ => Err(format!("{text:?} is none of everything, tenant:NAME, project:NAME and vm:NAME")),
        }
    }
}

impl TryFrom<String> for Scope {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}

/// Whom a role is given to. What a key may do is what its user may.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Holder {
    /// A person.
    User(Uuid),
    /// A service with a certificate.
    Service(String),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::Service(name) => write!(f, "service:{name}"),
        }
    }
}

impl FromStr for Holder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("user", id)) => id.parse().map(Self::User).map_err(|_| format!("{id:?} is no user's identity")),
            Some(("service", name)) if is_label(name) => Ok(Self::Service(name.to_owned())),
            _ => Err(format!("{text:?} is neither user:NAME nor service:NAME")),
        }
    }
}

impl TryFrom<String> for Holder {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Holder> for String {
    fn from(holder: Holder) -> Self {
        holder.to_string()
    }
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Day {
    /// The week, as ISO 8601 counts it.
    pub const ALL: [Self; 7] = [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];
}

/// A part of the day. Where it ends before it begins it goes over midnight, and belongs to the day on which it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// From this time on, as `08:00`.
    #[schema(value_type = String, pattern = "^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$", example = "08:00")]
    pub from: Time,
    /// Until this time, which is not part of it.
    #[schema(value_type = String, pattern = "^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$", example = "18:00")]
    pub until: Time,
}

/// When, and from where, a grant counts: all of what is given must hold. Without any it counts always.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    /// Not earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub not_before: Option<Timestamp>,
    /// No longer from this time on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// On these days of the week; all of them where none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 7)]
    pub days: Vec<Day>,
    /// At these hours of the day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<Hours>,
    /// Where days and hours are told: a zone of the IANA database, as `Europe/Berlin`; UTC without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub time_zone: Option<String>,
    /// From these addresses and ranges; a connection without an address, as the host's own socket, is in none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, max_items = 64)]
    pub addresses: Vec<IpNet>,
}

/// Whether it is a name for a tenant, a project, a role or a service: 1 to 63 lower-case letters, digits and hyphens,
/// with none of the last at its ends (a label of RFC 1123 section 2.1).
pub fn is_label(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}
