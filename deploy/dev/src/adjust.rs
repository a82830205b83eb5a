//! What a test changes about processes that start from now on; those that run are not told.

use std::path::Path;

use anyhow::Result;

use crate::{Role, Stack};

impl Stack {
    /// A process of this role started from now on hears this in its environment, whatever its plan says:
    /// points at which it ends (`FAILPOINTS`), or a database behind something a test put between.
    pub fn tell(&mut self, role: Role, name: &str, value: &str) {
        let told = self.told.entry(role).or_default();
        told.insert(name.to_owned(), value.to_owned());
    }

    /// Takes back what [`Stack::tell`] told a role.
    pub fn untell(&mut self, role: Role) {
        self.told.remove(&role);
    }

    /// Processes started from now on are told this setting; those that run are not.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        self.plan.settings.set(name, value)
    }

    /// Gateways started from now on find the internal API at `url`: something a test put between, which can
    /// delay, cut and lose what passes.
    pub fn put_between(&mut self, url: &str) {
        self.plan.internal_through = Some(url.to_owned());
    }

    /// A process of this role started from now on runs this program, which takes the same settings: another
    /// version's.
    pub fn run_instead(&mut self, role: Role, program: &Path) {
        self.instead.insert(role, program.to_path_buf());
    }

    /// Takes back what [`Stack::run_instead`] said of a role.
    pub fn run_its_own(&mut self, role: Role) {
        self.instead.remove(&role);
    }
}
