//! The built-in roles, in one table. Nobody can change them, and no role that somebody makes may have their names.
//! Invariant: what stands in no role is allowed to nobody; a new permission is in a role only once it is written here.

use crate::types::access::Permission::{self, *};

/// A role that is there without anybody making it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltIn {
    /// Its name, one of [`BuiltinRole`]'s.
    pub name: &'static str,
    /// What it is for.
    pub description: &'static str,
    /// What it lets its holders do.
    pub permissions: &'static [Permission],
}

/// From the one that may everything to the one that may least.
pub const BUILT_IN: [BuiltIn; 4] = [
    BuiltIn { name: "admin", description: "Everything.", permissions: Permission::ALL },
    BuiltIn {
        name: "operator",
        description: "Machines, images, nodes and quarantine; neither users nor who may what.",
        permissions: &[
            VmRead,
            VmCreate,
            VmUpdate,
            VmPower,
            VmAct,
            VmConsole,
            VmDelete,
            ImageRead,
            ImageWrite,
            ImageDelete,
            AdmissionDecide,
            NodeRead,
            EventRead,
            AuditRead,
            QuarantineRead,
            QuarantineWrite,
            QuarantineApprove,
            TenantRead,
            MetricsRead,
        ],
    },
    BuiltIn {
        name: "developer",
        description: "Machines and images; what may not run is for others to say.",
        permissions: &[
            VmRead,
            VmCreate,
            VmUpdate,
            VmPower,
            VmAct,
            VmConsole,
            VmDelete,
            ImageRead,
            ImageWrite,
            AdmissionDecide,
            NodeRead,
            EventRead,
            QuarantineRead,
            TenantRead,
        ],
    },
    // No console: what a machine says there may be a secret, and who reads it also types.
    BuiltIn {
        name: "viewer",
        description: "Looking at machines, images, nodes, events and quarantine, without the consoles.",
        permissions: &[VmRead, ImageRead, NodeRead, EventRead, QuarantineRead, TenantRead, MetricsRead],
    },
];

/// What all tenants share: whoever holds one of these anywhere holds it. Machines of every project are made of the
/// same store of images, and no image says whose it is.
pub(super) const SHARED: [Permission; 2] = [ImageRead, AdmissionDecide];

/// The built-in role of this name.
pub fn built_in(name: &str) -> Option<&'static BuiltIn> {
    BUILT_IN.iter().find(|role| role.name == name)
}

/// Permissions as a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Permissions(u64);

impl Permissions {
    /// Whether it is one of them.
    pub const fn contains(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u64) != 0
    }

    /// Each of them.
    pub(super) fn all(self) -> Vec<Permission> {
        Permission::ALL.iter().copied().filter(|permission| self.contains(*permission)).collect()
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<T: IntoIterator<Item = Permission>>(permissions: T) -> Self {
        Self(permissions.into_iter().fold(0, |set, permission| set | 1 << permission as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_holds_what_the_one_below_it_holds_and_every_permission_fits_into_a_set() {
        assert!(Permission::ALL.len() <= 64);
        let sets: Vec<Permissions> = BUILT_IN.iter().map(|role| role.permissions.iter().copied().collect()).collect();
        for pair in sets.windows(2) {
            let below = Permission::ALL.iter().filter(|permission| pair[1].contains(**permission));
            for permission in below {
                // A developer reads no figures of the whole service; a monitor that does is a viewer.
                assert!(pair[0].contains(*permission) || *permission == MetricsRead, "{permission}");
            }
        }
        assert_eq!(
            Permission::ALL.iter().filter(|permission| sets[0].contains(**permission)).count(),
            Permission::ALL.len()
        );
    }
}
