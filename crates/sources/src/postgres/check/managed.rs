//! Whose server it is: on a managed service, settings and rights are given in other ways than on one's own.

use crate::postgres::quoted;

/// Who runs the server, as its roles tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Managed {
    /// The user, or a service that is like it.
    Own,
    /// Amazon RDS and Aurora.
    Amazon,
    CloudSql,
    AlloyDb,
    Azure,
    Supabase,
    Neon,
}

/// The role by which each is known.
const ROLES: [(&str, Managed); 6] = [
    ("rds_superuser", Managed::Amazon),
    ("cloudsqlsuperuser", Managed::CloudSql),
    ("alloydbsuperuser", Managed::AlloyDb),
    ("azure_pg_admin", Managed::Azure),
    ("supabase_admin", Managed::Supabase),
    ("neon_superuser", Managed::Neon),
];

impl Managed {
    /// The names to look for among the roles, as SQL's list.
    pub(super) fn roles() -> String {
        let names: Vec<String> = ROLES
            .iter()
            .map(|(name, _)| crate::postgres::literal(name))
            .collect();
        names.join(", ")
    }

    /// By those of the names that are there.
    pub(super) fn of(found: &[String]) -> Managed {
        let known = ROLES
            .iter()
            .find(|(name, _)| found.iter().any(|found| found == name));
        known.map_or(Managed::Own, |(_, managed)| *managed)
    }

    /// How `wal_level` becomes `logical`.
    pub(super) fn wal_level(self) -> &'static str {
        match self {
            Managed::Own => "alter system set wal_level = logical; then restart the database",
            Managed::Amazon => {
                "set rds.logical_replication = 1 in the parameter group of the instance (on Aurora: of the cluster), then \
                 reboot the instance"
            }
            Managed::CloudSql => "set the flag cloudsql.logical_decoding = on, which restarts the instance",
            Managed::AlloyDb => "set the flag alloydb.logical_decoding = on, which restarts the instance",
            Managed::Azure => "set the server parameter wal_level to logical, then restart the server",
            Managed::Supabase => {
                "set wal_level = logical in the configuration of the database, then restart it"
            }
            Managed::Neon => {
                "enable logical replication in the settings of the project, which restarts its computes and cannot be \
                 undone"
            }
        }
    }

    /// How a role gets the right to replicate.
    pub(super) fn replication(self, role: &str) -> String {
        let role = quoted(role);
        match self {
            Managed::Own => format!("alter role {role} replication"),
            Managed::Amazon => format!("grant rds_replication to {role}"),
            Managed::CloudSql => format!("alter role {role} replication (as a member of cloudsqlsuperuser)"),
            Managed::AlloyDb => format!("alter role {role} replication (as a member of alloydbsuperuser)"),
            Managed::Azure => format!("alter role {role} replication (as the server's administrator)"),
            Managed::Supabase => "let stream_url use the role postgres, which has the right".to_owned(),
            Managed::Neon => {
                format!(
                    "alter role {role} replication, or use a role made in the console, which has the right"
                )
            }
        }
    }

    /// How a setting that needs no restart is changed.
    pub(super) fn set(self, name: &str, value: &str) -> String {
        match self {
            Managed::Own => format!("alter system set {name} = '{value}'; select pg_reload_conf()"),
            Managed::Amazon
            | Managed::CloudSql
            | Managed::AlloyDb
            | Managed::Azure
            | Managed::Supabase
            | Managed::Neon => {
                format!("set {name} to {value} among the parameters of the service, where it lets you")
            }
        }
    }

    /// How a setting that needs a restart is changed.
    pub(super) fn set_at_start(self, name: &str, value: &str) -> String {
        match self {
            Managed::Own => format!("alter system set {name} = {value}; then restart the database"),
            Managed::Amazon
            | Managed::CloudSql
            | Managed::AlloyDb
            | Managed::Azure
            | Managed::Supabase
            | Managed::Neon => format!("{}, then restart the database", self.set(name, value)),
        }
    }

    /// What is particular to slots there.
    pub(super) fn slots(self) -> Option<&'static str> {
        match self {
            Managed::Neon => Some(
                "Neon removes a slot that nobody uses after about 40 hours, and all slots when a branch is restored",
            ),
            Managed::Own
            | Managed::Amazon
            | Managed::CloudSql
            | Managed::AlloyDb
            | Managed::Azure
            | Managed::Supabase => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_known_by_their_roles() {
        let of =
            |names: &[&str]| Managed::of(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[]), Managed::Own);
        assert_eq!(of(&["postgres", "somebody"]), Managed::Own);
        for (name, managed) in ROLES {
            assert_eq!(of(&["somebody", name]), managed);
        }
    }

    #[test]
    fn roles_are_quoted_in_statements() {
        for (_, managed) in ROLES {
            let remedy = managed.replication("a\"b");
            assert!(
                managed == Managed::Supabase || remedy.contains("\"a\"\"b\""),
                "{remedy}"
            );
        }
    }
}
