//! Who asks, and what may be asked for: the words that credentials, roles and endpoints share.
//! Invariant: nothing in here decides; [`crate::control`] does.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

/// As whom somebody asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A user of the host, at the unix socket: the kernel says which.
    Host {
        /// The user's number.
        uid: u32,
    },
    /// A person who logged in.
    User(Uuid),
    /// A key that a person made; it can never do more than that person.
    Key {
        /// The key.
        key: Uuid,
        /// Whose it is.
        user: Uuid,
        /// What they are called.
        owner: String,
    },
    /// A service that showed a certificate.
    Service(String),
    /// A node.
    Node(String),
    /// The control plane by itself.
    System,
}

macro_rules! permissions {
    ($($variant:ident $word:literal $doc:literal)*) => {
        /// What an endpoint asks of its caller, as `vm.start` is written: the noun first.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Permission {
            $(#[doc = $doc] #[serde(rename = $word)] $variant,)*
        }

        impl Permission {
            /// All of them, in the order in which they are documented.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// As it is written in roles, keys and the audit log.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// What it lets its holder do.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $doc),* }
            }
        }
    };
}

permissions! {
    VmRead "vm.read" "See machines, what they are made of and how they are."
    VmCreate "vm.create" "Describe a new machine."
    VmUpdate "vm.update" "Change a machine's description."
    VmPower "vm.power" "Switch a machine on or off, halt it, let it run again."
    VmAct "vm.act" "Plug in and out, keep and restore snapshots, reset."
    VmConsole "vm.console" "Read a machine's console and type into it."
    VmDelete "vm.delete" "Remove a machine."
    ImageRead "image.read" "See images and their verdicts."
    ImageWrite "image.write" "Bring images and evidence."
    ImageDelete "image.delete" "Remove images."
    AdmissionDecide "admission.decide" "Ask whether images may boot or be deployed."
    NodeRead "node.read" "See nodes."
    EventRead "event.read" "See what happened."
    AuditRead "audit.read" "See the audit log, its checkpoints and proofs."
    QuarantineRead "quarantine.read" "See what may not run."
    QuarantineWrite "quarantine.write" "Put something into quarantine, and ask for its release."
    QuarantineApprove "quarantine.approve" "Approve what somebody else asked for."
    UserRead "user.read" "See users, keys, services and sessions."
    UserWrite "user.write" "Make, change and remove users, services and other people's keys and sessions."
    AccessRead "access.read" "See roles and grants."
    AccessWrite "access.write" "Make, change and remove roles and grants."
    TenantRead "tenant.read" "See tenants, projects and quotas."
    TenantWrite "tenant.write" "Make, change and remove tenants, projects and quotas."
    StateBackup "state.backup" "Take a backup of the state."
    MetricsRead "metrics.read" "Read the service's figures."
}

impl PartialSchema for Permission {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("What somebody may do, the noun first."))
            .enum_values(Some(Self::ALL.iter().map(|permission| permission.as_str())))
            .into()
    }
}

impl ToSchema for Permission {}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Permission {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|permission| permission.as_str() == text).copied();
        found.ok_or_else(|| format!("there is no permission {text:?}"))
    }
}

/// A role that is there from the beginning; others are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BuiltinRole {
    /// May do everything.
    Admin,
    /// Runs what is there.
    Operator,
    /// Makes and runs machines.
    Developer,
    /// Looks.
    Viewer,
}

impl BuiltinRole {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Admin, Self::Operator, Self::Developer, Self::Viewer];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Developer => "developer",
            Self::Viewer => "viewer",
        }
    }
}

impl fmt::Display for BuiltinRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for BuiltinRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|role| role.as_str() == text).copied();
        found.ok_or_else(|| format!("there is no built-in role {text:?}"))
    }
}
