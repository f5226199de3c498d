//! Where `hosts.toml` files and certificates are looked for: what the flag says, else what those look for whose place we take.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use crate::{door::Name, nerdctl::Config};

/// containerd's place, then Docker's; of both the first that has a directory for the registry counts.
const DEFAULTS: [&str; 2] = ["/etc/containerd/certs.d", "/etc/docker/certs.d"];

/// The directories of `--hosts-dir`, or the defaults. nerdctl takes all that are given, also several with commas between; otherwise
/// the last counts. Called `ctr` there are no defaults, as there (reference, trap 16).
pub(crate) fn choose(given: &[PathBuf], called: Name, nerdctl: Option<&Config>) -> Vec<PathBuf> {
    match (nerdctl, given) {
        (Some(config), []) => config.hosts_dirs.clone(),
        (Some(_), given) => given.iter().flat_map(|directories| at_commas(directories)).collect(),
        (None, []) if called == Name::Ctr => Vec::new(),
        (None, []) => DEFAULTS.map(PathBuf::from).to_vec(),
        (None, [.., last]) => vec![last.clone()],
    }
}

fn at_commas(directories: &Path) -> impl Iterator<Item = PathBuf> {
    let parts = directories.as_os_str().as_bytes().split(|&byte| byte == b',').filter(|part| !part.is_empty());
    parts.map(|part| PathBuf::from(OsStr::from_bytes(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_goes_before_the_name_and_the_name_before_the_defaults() {
        let chosen =
            |given: &[&str], called, config| choose(&given.iter().map(PathBuf::from).collect::<Vec<_>>(), called, config);
        let config = Config { hosts_dirs: vec!["/toml".into()], ..Config::default() };
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        for name in [Name::Rpull, Name::Ctr] {
            assert_eq!(chosen(&["/w", "/x,y"], name, None), paths(&["/x,y"]), "{name:?}");
        }
        assert_eq!(chosen(&["/w", "/x,/y,"], Name::Nerdctl, Some(&config)), paths(&["/w", "/x", "/y"]));
        assert_eq!(chosen(&[], Name::Nerdctl, Some(&config)), paths(&["/toml"]));
        assert_eq!(chosen(&[], Name::Ctr, Some(&config)), paths(&["/toml"]));
        assert_eq!(chosen(&[], Name::Rpull, None), paths(&DEFAULTS));
        assert_eq!(chosen(&[], Name::Ctr, None), paths(&[]));
    }
}
