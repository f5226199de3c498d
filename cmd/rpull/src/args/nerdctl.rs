//! nerdctl's flags and its configuration in our arguments: flag, else variable, else file, else what is built in (reference 1.6).

use std::ffi::{OsStr, OsString};

use clap::{ArgMatches, parser::ValueSource};

use super::{Args, go_flags, refusal::Refusal};
use crate::{
    door::Name,
    nerdctl::{Config, Surroundings},
};

/// Says that nerdctl's configuration counts, also without the flag.
pub(super) const VARIABLE: &str = "RPULL_NERDCTL";
const FLAG: &str = "--nerdctl";

/// What only nerdctl has.
#[derive(clap::Args)]
pub(crate) struct Nerdctl {
    /// Take nerdctl's configuration: nerdctl.toml, its hosts directories, unix:// in addresses
    #[arg(global = true, help_heading = "nerdctl", long)]
    nerdctl: bool,

    /// Do not verify TLS certificates, and speak HTTP to a registry that has no TLS
    #[arg(global = true, help_heading = "nerdctl", long)]
    pub(crate) insecure_registry: bool,
}

/// nerdctl's configuration, where it counts: by our name, by the flag among the `rewritten` arguments, or by the variable.
pub(super) fn config(called: Name, rewritten: &[OsString], surroundings: &Surroundings<'_>) -> Result<Option<Config>, Refusal> {
    let flagged = rewritten.iter().take_while(|argument| *argument != "--").any(|argument| argument == FLAG);
    if !(called == Name::Nerdctl || flagged || switch(VARIABLE, surroundings.variable(VARIABLE).as_deref())?) {
        return Ok(None);
    }
    let config = Config::load(surroundings).map_err(|error| Refusal::usage(error.to_string(), error.hint()))?;
    Ok(Some(config))
}

/// A variable that is a switch. Empty is off, as when it is not there.
pub(super) fn switch(name: &str, value: Option<&OsStr>) -> Result<bool, Refusal> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(false) };
    value.to_str().and_then(go_flags::parse_bool).ok_or_else(|| {
        Refusal::usage(
            format!("invalid value {:?} of {name}: not true or false", value.to_string_lossy()),
            format!("write {name}=1 or {name}=0"),
        )
    })
}

/// The switches that the file turns on, as flags: what the command line says behind them counts.
pub(super) fn switches(config: Option<&Config>) -> Vec<OsString> {
    let Some(config) = config else { return Vec::new() };
    let on = [(config.debug, "--debug"), (config.insecure_registry, "--insecure-registry")];
    on.into_iter().filter(|(on, _)| *on).map(|(_, flag)| flag.into()).collect()
}

impl Args {
    /// Takes from `config` what neither a flag nor a variable gave.
    pub(super) fn take(&mut self, config: &Config, matches: &ArgMatches) -> Result<(), Refusal> {
        let open = |flag: &str| matches.value_source(flag) == Some(ValueSource::DefaultValue);
        if let Some(address) = config.address.as_ref().filter(|_| open("address")) {
            self.address.clone_from(address);
        }
        if let Some(snapshotter) = config.snapshotter.as_ref().filter(|_| open("snapshotter")) {
            self.snapshotter.clone_from(snapshotter);
        }
        if let Some(namespace) = config.namespace.as_ref().filter(|_| open("namespace")) {
            self.namespace = namespace.clone();
        }
        if let Some(path) = self.address.strip_prefix("unix://") {
            self.address = path.to_owned();
        } else if self.address.contains("://") {
            let message = format!("invalid address {:?}", self.address);
            return Err(Refusal::usage(message, "nerdctl's addresses are paths, with or without unix:// in front"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::door::Call;

    const TOML: &str = r#"
        debug = true
        address = "unix:///toml.sock"
        namespace = "toml"
        snapshotter = "of-toml"
        insecure_registry = true
        hosts_dir = ["/toml"]
    "#;

    struct File(tempfile::TempDir);

    impl File {
        fn new(text: &str) -> Self {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("n.toml"), text).unwrap();
            Self(directory)
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("n.toml")
        }

        fn read(&self, name: Name, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Args, Refusal> {
            let path = self.path();
            let variable = |asked: &str| {
                let known = variables.iter().find(|(known, _)| *known == asked).map(|(_, value)| OsString::from(value));
                known.or_else(|| (asked == "NERDCTL_TOML").then(|| path.clone().into()))
            };
            let arguments = arguments.iter().chain(&["r/a:1"]).map(OsString::from).collect();
            Args::read(Call { name, arguments }, &Surroundings::new(&variable, true))
        }
    }

    fn good(args: Result<Args, Refusal>) -> Args {
        args.unwrap_or_else(|refusal| panic!("{refusal:?}"))
    }

    #[test]
    fn a_flag_goes_before_the_file() {
        let file = File::new(TOML);
        let args = good(file.read(Name::Nerdctl, &[], &[]));
        assert_eq!(
            (args.address.as_str(), args.namespace.as_str(), args.snapshotter.as_str()),
            ("/toml.sock", "toml", "of-toml")
        );
        assert!(args.debug && args.nerdctl.insecure_registry);
        assert_eq!(args.hosts_dirs, [Path::new("/toml")]);

        let flags =
            ["-H", "unix:///flag", "-n", "flag", "--storage-driver=of-flag", "--debug=false", "--insecure-registry=false"];
        let args = good(file.read(Name::Nerdctl, &flags, &[]));
        assert_eq!((args.address.as_str(), args.namespace.as_str(), args.snapshotter.as_str()), ("/flag", "flag", "of-flag"));
        assert!(!args.debug && !args.nerdctl.insecure_registry);
        assert_eq!(good(file.read(Name::Nerdctl, &["--hosts-dir=/a,/b", "--hosts-dir", "/c"], &[])).hosts_dirs.len(), 3);
    }

    #[test]
    fn the_flag_and_the_variable_are_as_good_as_the_name() {
        let file = File::new("namespace = \"toml\"");
        for (name, arguments, variables, counts) in [
            (Name::Nerdctl, &[][..], &[][..], true),
            (Name::Rpull, &["--nerdctl"], &[], true),
            (Name::Rpull, &[], &[(VARIABLE, "1")], true),
            (Name::Ctr, &["--nerdctl"], &[], true),
            (Name::Rpull, &[], &[], false),
            (Name::Ctr, &[], &[], false),
            (Name::Rpull, &["--nerdctl=false"], &[], false),
            (Name::Rpull, &["--user", "--nerdctl"], &[], false),
            (Name::Rpull, &[], &[(VARIABLE, "0")], false),
            (Name::Rpull, &[], &[(VARIABLE, "")], false),
        ] {
            let args = good(file.read(name, arguments, variables));
            let expected = if counts { "toml" } else { "default" };
            assert_eq!(args.namespace.as_str(), expected, "{name:?} {arguments:?} {variables:?}");
        }
        assert!(matches!(file.read(Name::Rpull, &[], &[(VARIABLE, "yes")]), Err(Refusal::Usage { .. })));
    }

    #[test]
    fn a_file_that_cannot_be_followed_and_an_address_of_another_kind_are_refused() {
        let file = File::new("[plugins]");
        let Err(Refusal::Usage { message, hint }) = file.read(Name::Nerdctl, &[], &[]) else { panic!("taken") };
        assert_eq!(message, format!("{}:1:2: nerdctl has no key \"plugins\"", file.path().display()));
        assert!(hint.contains("config.toml"), "{hint}");
        // It is nobody's business elsewhere.
        good(file.read(Name::Rpull, &[], &[]));
        let Err(Refusal::Usage { message, .. }) = File::new("").read(Name::Nerdctl, &["-H", "tcp://x:1"], &[]) else {
            panic!("taken")
        };
        assert_eq!(message, "invalid address \"tcp://x:1\"");
    }
}
