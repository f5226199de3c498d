//! Where `hosts.toml` files and certificates are looked for when no flag says it.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

/// containerd's place, then Docker's; of both the first that has a directory for the registry counts.
const DEFAULTS: [&str; 2] = ["/etc/containerd/certs.d", "/etc/docker/certs.d"];

/// The directory of `--hosts-dir`, or the defaults. Called `ctr` there are none, as there (reference, trap 16).
pub(crate) fn choose(given: Option<&Path>, program: Option<&OsStr>) -> Vec<PathBuf> {
    let called_ctr = program.and_then(|program| Path::new(program).file_name()).is_some_and(|name| name == "ctr");
    match given {
        Some(directory) => vec![directory.to_owned()],
        None if called_ctr => Vec::new(),
        None => DEFAULTS.map(PathBuf::from).to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_goes_before_the_name_and_the_name_before_the_defaults() {
        let chosen = |given: Option<&str>, program: &str| choose(given.map(Path::new), Some(OsStr::new(program)));
        let given = [PathBuf::from("/x")];
        assert_eq!(chosen(Some("/x"), "rpull"), given);
        assert_eq!(chosen(Some("/x"), "/usr/bin/ctr"), given);
        assert_eq!(chosen(None, "rpull"), DEFAULTS.map(PathBuf::from));
        assert_eq!(chosen(None, "/usr/local/bin/rpull"), DEFAULTS.map(PathBuf::from));
        assert!(chosen(None, "ctr").is_empty() && chosen(None, "/opt/bin/ctr").is_empty());
    }
}
