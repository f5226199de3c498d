//! nerdctl's configuration file (reference 1.6), read as nerdctl reads it: no file is no fault, a key it does not have is one.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt, io,
    ops::Range,
    path::{Path, PathBuf},
};

use oci::Namespace;
use serde::Deserialize;
use toml::Spanned;

/// Names the file; empty for none.
const VARIABLE: &str = "NERDCTL_TOML";
/// Below `/etc`, or below the user's own configuration.
const FILE: &str = "nerdctl/nerdctl.toml";
/// Where nerdctl looks for `hosts.toml`, below the same; the first that has a directory for the registry counts.
const HOSTS_DIRS: [&str; 2] = ["containerd/certs.d", "docker/certs.d"];

/// Keys that a pull needs.
const OURS: [&str; 7] = ["debug", "debug_full", "address", "namespace", "snapshotter", "insecure_registry", "hosts_dir"];
/// And those it does not.
const OTHERS: [&str; 15] = [
    "bridge_ip",
    "cdi_spec_dirs",
    "cgroup_manager",
    "cni_netconfpath",
    "cni_path",
    "data_root",
    "disable_hc_systemd",
    "dns",
    "dns_opts",
    "dns_search",
    "experimental",
    "host_gateway_ip",
    "kube_hide_dupe",
    "selinux_enabled",
    "userns_remap",
];

/// The machine and the user as far as they decide which files count.
pub(crate) struct Surroundings<'a> {
    variable: &'a dyn Fn(&str) -> Option<OsString>,
    root: bool,
}

/// What of the file, or of nerdctl's own defaults, a pull needs.
#[derive(Debug, PartialEq, Eq, Default)]
pub(crate) struct Config {
    pub(crate) debug: bool,
    pub(crate) address: Option<String>,
    pub(crate) namespace: Option<Namespace>,
    pub(crate) snapshotter: Option<String>,
    pub(crate) insecure_registry: bool,
    /// Never empty, unless the file says so.
    pub(crate) hosts_dirs: Vec<PathBuf>,
}

/// The file cannot be followed.
#[derive(Debug)]
pub(crate) enum Error {
    /// It is there, and cannot be read.
    Read { path: PathBuf, source: io::Error },
    /// What is wrong in it, and where.
    Broken {
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        message: String,
    },
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    debug: bool,
    #[serde(default)]
    debug_full: bool,
    address: Option<String>,
    namespace: Option<Spanned<String>>,
    snapshotter: Option<String>,
    #[serde(default)]
    insecure_registry: bool,
    hosts_dir: Option<Vec<PathBuf>>,
}

impl<'a> Surroundings<'a> {
    /// `root`: does this process have user id 0?
    pub(crate) fn new(variable: &'a dyn Fn(&str) -> Option<OsString>, root: bool) -> Self {
        Self { variable, root }
    }

    pub(crate) fn variable(&self, name: &str) -> Option<OsString> {
        (self.variable)(name)
    }

    fn given(&self, name: &str) -> Option<PathBuf> {
        self.variable(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    /// `/etc`, or the user's own place where nerdctl runs without root, also inside its user namespace.
    fn configuration(&self) -> PathBuf {
        let rootless = !self.root || self.given("ROOTLESSKIT_STATE_DIR").is_some();
        if !rootless {
            return PathBuf::from("/etc");
        }
        let home = || self.given("HOME").map(|home| home.join(".config"));
        self.given("XDG_CONFIG_HOME").or_else(home).unwrap_or_else(|| PathBuf::from("/etc"))
    }
}

impl Config {
    /// Reads the file that counts here.
    pub(crate) fn load(surroundings: &Surroundings<'_>) -> Result<Self, Error> {
        let configuration = surroundings.configuration();
        let path = surroundings.variable(VARIABLE).map_or_else(|| configuration.join(FILE), PathBuf::from);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(Error::Read { path, source }),
        };
        Self::parse(&path, &text, || HOSTS_DIRS.map(|directory| configuration.join(directory)).to_vec())
    }

    fn parse(path: &Path, text: &str, hosts_dirs: impl FnOnce() -> Vec<PathBuf>) -> Result<Self, Error> {
        let broken = |span: Range<usize>, message: &str| {
            let before = text.get(..span.start).unwrap_or(text);
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            Error::Broken {
                path: path.to_owned(),
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
                message: message.trim().replace('\n', ", "),
            }
        };
        let unreadable = |error: toml::de::Error| broken(error.span().unwrap_or_default(), error.message());
        let keys: BTreeMap<Spanned<String>, toml::Value> = toml::from_str(text).map_err(unreadable)?;
        let is_unknown = |key: &&Spanned<String>| ![&OURS[..], &OTHERS].concat().contains(&key.get_ref().as_str());
        if let Some(key) = keys.keys().filter(is_unknown).min_by_key(|key| key.span().start) {
            return Err(broken(key.span(), &format!("nerdctl has no key {:?}", key.get_ref())));
        }
        let file: File = toml::from_str(text).map_err(unreadable)?;
        let namespace = file
            .namespace
            .filter(|name| !name.get_ref().is_empty())
            .map(|name| name.get_ref().parse::<Namespace>().map_err(|error| broken(name.span(), &error.to_string())));
        Ok(Self {
            debug: file.debug || file.debug_full,
            address: file.address.filter(|address| !address.is_empty()),
            namespace: namespace.transpose()?,
            snapshotter: file.snapshotter.filter(|name| !name.is_empty()),
            insecure_registry: file.insecure_registry,
            hosts_dirs: file.hosts_dir.unwrap_or_else(hosts_dirs),
        })
    }
}

impl Error {
    /// What the user can do about it.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Read { .. } => format!("{VARIABLE}=FILE names another file, {VARIABLE}= none"),
            Self::Broken { .. } => {
                "nerdctl.toml is not the daemon's config.toml; correct it there, nerdctl would not take it either".to_owned()
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } => write!(f, "{} cannot be read: {source}", path.display()),
            Self::Broken { path, line, column, message } => write!(f, "{}:{line}:{column}: {message}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("/n.toml"), text, || vec!["/default".into()]).map_err(|error| error.to_string())
    }

    fn load(variables: &[(&str, &str)], root: bool) -> Result<Config, String> {
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
        Config::load(&Surroundings::new(&variable, root)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_that_cannot_be_read_is_said_with_what_to_do() {
        let error = Error::Read { path: "/n.toml".into(), source: io::ErrorKind::PermissionDenied.into() };
        assert_eq!(error.to_string(), "/n.toml cannot be read: permission denied");
        assert_eq!(error.hint(), "NERDCTL_TOML=FILE names another file, NERDCTL_TOML= none");
    }

    #[test]
    fn every_key_of_use_is_taken_and_the_others_pass() {
        let text = r#"
            debug = true
            address = "unix:///run/k3s/containerd/containerd.sock"
            namespace = "k8s.io"
            snapshotter = "stargz"
            insecure_registry = true
            hosts_dir = ["/a", "/b"]
            cni_path = "/opt/cni"
            experimental = false
            dns = ["8.8.8.8"]
        "#;
        let expected = Config {
            debug: true,
            address: Some("unix:///run/k3s/containerd/containerd.sock".into()),
            namespace: Some("k8s.io".parse().unwrap()),
            snapshotter: Some("stargz".into()),
            insecure_registry: true,
            hosts_dirs: vec!["/a".into(), "/b".into()],
        };
        assert_eq!(parse(text), Ok(expected));
        assert_eq!(parse(""), Ok(Config { hosts_dirs: vec!["/default".into()], ..Config::default() }));
        assert_eq!(parse("hosts_dir = []\naddress = \"\""), Ok(Config::default()));
        assert!(parse("debug_full = true").unwrap().debug);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, expected) in [
            ("debug = true\n  socket = \"/x\"\nz = 1", "/n.toml:2:3: nerdctl has no key \"socket\""),
            ("[grpc]\naddress = \"/x\"", "/n.toml:1:2: nerdctl has no key \"grpc\""),
            ("debug = \"yes\"", "/n.toml:1:9: invalid type: string \"yes\", expected a boolean"),
            ("namespace = \"a/b\"", "/n.toml:1:13: invalid namespace \"a/b\""),
            ("hosts_dir = \"/x\"", "/n.toml:1:13: invalid type: string \"/x\", expected a sequence"),
        ] {
            assert_eq!(parse(text).unwrap_err(), expected, "{text}");
        }
        assert!(parse("debug = \nx").unwrap_err().starts_with("/n.toml:"));
    }

    #[test]
    fn the_file_and_the_hosts_directories_are_roots_or_the_users() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().to_str().unwrap();
        std::fs::create_dir_all(directory.path().join(".config/nerdctl")).unwrap();
        std::fs::write(directory.path().join(".config/nerdctl/nerdctl.toml"), "namespace = \"mine\"").unwrap();
        let etc = HOSTS_DIRS.map(|directory| Path::new("/etc").join(directory));
        let users = HOSTS_DIRS.map(|below| directory.path().join(".config").join(below));
        let mine = Some("mine".parse().unwrap());

        let none = ("NERDCTL_TOML", "");
        assert_eq!(load(&[("HOME", home), none], true).unwrap().hosts_dirs, etc);
        let user = load(&[("HOME", home)], false).unwrap();
        assert_eq!((user.hosts_dirs.as_slice(), &user.namespace), (&users[..], &mine));
        let child = load(&[("HOME", home), ("ROOTLESSKIT_STATE_DIR", "/x")], true).unwrap();
        assert_eq!((child.hosts_dirs.as_slice(), &child.namespace), (&users[..], &mine));
        let moved = load(&[("HOME", "/nonexistent"), ("XDG_CONFIG_HOME", &format!("{home}/.config"))], false).unwrap();
        assert_eq!(moved.namespace, mine);
        let named = load(&[("NERDCTL_TOML", &format!("{home}/.config/nerdctl/nerdctl.toml"))], true).unwrap();
        assert_eq!((named.hosts_dirs.as_slice(), &named.namespace), (&etc[..], &mine));
        assert_eq!(load(&[("NERDCTL_TOML", "/nonexistent")], true).unwrap().namespace, None);
        assert!(load(&[("NERDCTL_TOML", home)], true).unwrap_err().contains("cannot be read"));
    }
}
