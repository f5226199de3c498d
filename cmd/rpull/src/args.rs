//! The command line: flags, environment and defaults of `ctr rpull` (reference 1.1–1.3), and rpull's own.

mod flags;
mod go_flags;
mod images;
mod install;
mod nerdctl;
mod node;
mod plan;
mod record;
mod refusal;
mod screen;
mod tune;
mod value;

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    num::NonZeroU64,
    path::PathBuf,
    time::Duration,
};

use clap::{Arg, CommandFactory as _, FromArgMatches as _};
use oci::Reference;

use crate::{
    door::{Call, Name},
    hosts_dirs,
    nerdctl::Surroundings,
};

pub(crate) use self::{
    flags::{Args, Command, Store, Verify},
    install::{Install, Uninstall},
    nerdctl::Nerdctl,
    plan::Form,
    record::Record,
    refusal::Refusal,
    tune::Tuned,
};

/// What containerd takes when nobody names a snapshotter.
const CONTAINERDS_SNAPSHOTTER: &str = "overlayfs";
/// What containerd's client takes when nobody sets a limit (reference 1.1).
const CONTAINERDS_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const USAGE: &str = "rpull [FLAGS] REF..., for example rpull registry.example/app:1";
const VERIFY_USAGE: &str = "rpull verify [FLAGS] REF..., for example rpull verify registry.example/app:1";

/// Called `ctr`, a pull is lazy unless `--download-blobs` is given, as upstream's is.
const LAZY_DEFAULT: &str = "RPULL_LAZY_DEFAULT";

impl Args {
    /// Reads the command line of `call` and the environment.
    pub(crate) fn parse(call: Call) -> Result<Self, Refusal> {
        let root = rustix::process::geteuid().is_root();
        Self::read(call, &Surroundings::new(&|variable| env::var_os(variable), root))
    }

    fn read(Call { name, arguments }: Call, surroundings: &Surroundings<'_>) -> Result<Self, Refusal> {
        // An empty variable counts as unset.
        let is_set = |variable: &OsStr| {
            variable.to_str().and_then(|variable| surroundings.variable(variable)).is_some_and(|value| !value.is_empty())
        };
        let mut command =
            Self::command().mut_args(|arg| if arg.get_env().is_some_and(is_set) { arg } else { arg.env(None::<&str>) });
        command = match name {
            Name::Rpull => command,
            Name::Ctr => command.override_usage("ctr [GLOBALS] rpull [FLAGS] REF"),
            Name::Nerdctl => command.override_usage("nerdctl [GLOBALS] rpull [FLAGS] REF"),
        };
        command.build();
        for installs in install::COMMANDS {
            let of_pulls = |arg: &Arg| arg.is_global_set() && !matches!(arg.get_id().as_str(), "help" | "version");
            command = command.mut_subcommand(installs, |command| {
                command.mut_args(|arg| {
                    let hide = of_pulls(&arg);
                    arg.hide(hide)
                })
            });
        }
        let rewritten = go_flags::rewrite(&command, arguments.iter().cloned())?;
        let config = nerdctl::config(name, &rewritten, surroundings)?;
        let arguments = go_flags::rewrite(&command, nerdctl::switches(config.as_ref()).into_iter().chain(arguments))?;
        let program = OsString::from(command.get_name());
        let matches = command.try_get_matches_from_mut([program].into_iter().chain(arguments));
        let matches = matches.map_err(|error| refusal::explain(error, &command))?;
        let mut args = Self::from_arg_matches(&matches)?;
        args.forget_empty();
        if let Some(config) = &config {
            args.take(config, &matches)?;
        }
        args.namespace = args.node.namespace(&args.namespace, &matches)?;
        args.hosts_dirs = hosts_dirs::choose(&args.hosts_dir, name, config.as_ref());
        if name == Name::Ctr {
            args.be_ctr(nerdctl::switch(LAZY_DEFAULT, surroundings.variable(LAZY_DEFAULT).as_deref())?);
        }
        args.check()?;
        Ok(args)
    }

    /// Upstream's `ctr rpull` takes the first reference and does not look at others.
    fn be_ctr(&mut self, lazy_default: bool) {
        if self.command.is_none() && self.references.len() > 1 {
            let ignored = self.references.split_off(1).join(", ");
            self.warnings.push(format!("as ctr, rpull takes one reference; not pulled: {ignored}"));
        }
        self.lazy |= lazy_default && !self.download_blobs;
    }

    /// The images named on the command line; none only where a file names them.
    pub(crate) fn references(&self) -> Result<Vec<Reference>, Refusal> {
        if self.references.is_empty() && self.images.from_file.is_none() {
            return Err(Refusal::usage("no image reference given", USAGE));
        }
        parse_all(&self.references, |text| self.reference(text))
    }

    /// A reference as it is meant here.
    pub(crate) fn reference(&self, text: &str) -> Result<Reference, oci::Error> {
        self.node.read(text.parse()?)
    }

    /// May layers come over the network in this run?
    pub(crate) fn fetches(&self) -> bool {
        match &self.command {
            None => !self.dry_run.is_wanted(),
            Some(Command::Verify(verify)) => verify.repair,
            Some(Command::Install(_) | Command::Uninstall(_)) => false,
        }
    }

    /// Limit of the whole pull.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        Some(self.timeout).filter(|limit| !limit.is_zero())
    }

    /// Limit for connecting to containerd.
    pub(crate) fn connect_timeout(&self) -> Duration {
        if self.connect_timeout.is_zero() { CONTAINERDS_CONNECT_TIMEOUT } else { self.connect_timeout }
    }

    /// Bytes per second of the whole pull.
    pub(crate) fn limit_rate(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.limit_rate)
    }

    /// Labels of the image record; of two with one key the last counts.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        self.labels.iter().cloned().collect()
    }

    /// The numbers of the transfer, those of their own flags among them.
    pub(crate) fn tuned(&self) -> Tuned {
        let mut tuned = tune::tuned(&self.tune);
        tuned.limits.max_connections = self.max_connections;
        tuned.limits.range_size = self.range_size;
        tuned.limits.rate = self.limit_rate();
        tuned
    }

    /// Client certificate and its key.
    pub(crate) fn client_certificate(&self) -> Option<(PathBuf, PathBuf)> {
        self.tlscert.clone().zip(self.tlskey.clone())
    }

    /// Texts and paths given as `""` count as not given: callers pass `--user ""`.
    fn forget_empty(&mut self) {
        for text in [&mut self.user, &mut self.refresh] {
            text.take_if(|text| text.is_empty());
        }
        let files = [&mut self.tlscacert, &mut self.tlscert, &mut self.tlskey, &mut self.receipt];
        let others = [&mut self.spool_dir, &mut self.images.from_file];
        for path in files.into_iter().chain(others).chain(self.record.paths()) {
            path.take_if(|path| path.as_os_str().is_empty());
        }
        self.hosts_dir.retain(|path| !path.as_os_str().is_empty());
        if self.snapshotter.is_empty() {
            CONTAINERDS_SNAPSHOTTER.clone_into(&mut self.snapshotter);
        }
    }

    /// What no single flag can know.
    fn check(&self) -> Result<(), Refusal> {
        match &self.command {
            None if self.record.pages.is_some() => {}
            None => drop(self.references()?),
            Some(Command::Verify(verify)) => drop(verify.references()?),
            Some(Command::Install(_) | Command::Uninstall(_)) => {}
        }
        if self.address.is_empty() {
            return Err(Refusal::usage("--address is empty", "leave it out for /run/containerd/containerd.sock"));
        }
        if self.user.as_ref().is_some_and(|user| user.starts_with(':')) {
            return Err(Refusal::usage("--user has no name before the colon", "write --user NAME:PASSWORD"));
        }
        if self.password_stdin {
            match self.user.as_deref().map(|user| user.split_once(':')) {
                None => return Err(Refusal::usage("--password-stdin without --user", "say whose password it is: --user NAME")),
                Some(Some((_, password))) if !password.is_empty() => {
                    return Err(Refusal::usage("--password-stdin beside --user NAME:PASSWORD", "leave out one of the passwords"));
                }
                Some(_) => {}
            }
        }
        match (&self.tlscert, &self.tlskey) {
            (Some(_), None) => return Err(Refusal::usage("--tlscert without --tlskey", "give the key of the certificate too")),
            (None, Some(_)) => return Err(Refusal::usage("--tlskey without --tlscert", "give the certificate of the key too")),
            _ => {}
        }
        self.images.check(self.password_stdin)?;
        self.node.check()?;
        self.screen.check()?;
        self.record.check(self.receipt.as_ref())?;
        self.dry_run.check(self.screen.kind(false, false), self.receipt.is_some() || self.record.is_wanted())?;
        if self.lazy && self.download_blobs {
            return Err(Refusal::usage("--lazy and --download-blobs contradict each other", "leave one of them out"));
        }
        Ok(())
    }
}

impl Verify {
    /// The images to look at, at least one.
    pub(crate) fn references(&self) -> Result<Vec<Reference>, Refusal> {
        if self.references.is_empty() {
            return Err(Refusal::usage("no image reference given", VERIFY_USAGE));
        }
        parse_all(&self.references, str::parse)
    }
}

fn parse_all(texts: &[String], reference: impl Fn(&str) -> Result<Reference, oci::Error>) -> Result<Vec<Reference>, Refusal> {
    texts.iter().map(|text| reference(text).map_err(|error| Refusal::from_oci(&error))).collect()
}

#[cfg(test)]
mod tests;
