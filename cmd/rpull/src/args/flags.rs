//! The flags, in the groups in which `--help` shows them. Names, short names, variables and defaults are those of
//! `ctr rpull` where it has them (reference 1.1, 1.2).

use std::{
    num::{NonZeroU64, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use clap::{
    ArgAction,
    builder::{OsStringValueParser, TypedValueParser},
};
use oci::{Namespace, Platform};

use super::{Install, Nerdctl, Uninstall, images::Images, node::Node, plan::DryRun, record::Record, screen::Screen, tune, value};
use crate::exit;

/// One pull as it was asked for. Not `Debug`: it may hold a password.
#[derive(clap::Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
#[command(
    name = "rpull",
    version = env!("RPULL_VERSION"),
    about = "Pull an overlaybd image into containerd, whole or not at all.",
    after_help = exit::table(),
    override_usage = "rpull [FLAGS] REF...\n       rpull verify [FLAGS] REF...\n       rpull install|uninstall [--prefix DIR]",
    args_override_self = true,
    disable_help_flag = true,
    disable_help_subcommand = true,
    disable_version_flag = true,
    propagate_version = true
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Images to pull: HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]; without a registry or a tag as Docker reads it
    #[arg(value_name = "REF")]
    pub(super) references: Vec<String>,

    /// Socket of containerd
    #[arg(
        global = true,
        help_heading = "containerd",
        short,
        short_alias = 'H',
        long,
        alias = "host",
        env = "CONTAINERD_ADDRESS",
        hide_env_values = true,
        default_value = "/run/containerd/containerd.sock"
    )]
    pub(crate) address: String,

    /// Namespace of the image in containerd
    #[arg(
        global = true,
        help_heading = "containerd",
        short,
        long,
        env = "CONTAINERD_NAMESPACE",
        hide_env_values = true,
        default_value = "default"
    )]
    pub(crate) namespace: Namespace,

    /// Snapshotter, by containerd's name for it
    #[arg(
        global = true,
        help_heading = "containerd",
        long,
        alias = "storage-driver",
        value_name = "NAME",
        env = "CONTAINERD_SNAPSHOTTER",
        hide_env_values = true,
        default_value = "overlaybd"
    )]
    pub(crate) snapshotter: String,

    /// Time limit for connecting to containerd, 0 for 10s
    #[arg(global = true, help_heading = "containerd", long, value_name = "DURATION", default_value = "0", value_parser = value::duration)]
    pub(super) connect_timeout: Duration,

    #[command(flatten)]
    pub(crate) node: Node,

    /// Label of the image record, KEY=VALUE; may be repeated
    #[arg(help_heading = "containerd", long = "label", value_name = "LABEL", value_parser = value::label)]
    pub(super) labels: Vec<(String, String)>,

    /// How blobs become content: as hard links into the content store (direct), through containerd's API (api), or as hard
    /// links where the store can be reached (auto)
    #[arg(
        global = true,
        help_heading = "containerd",
        long,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "auto|direct|api"
    )]
    pub(crate) store: Store,

    /// Do not verify TLS certificates
    #[arg(global = true, help_heading = "Registry", short = 'k', long)]
    pub(crate) skip_verify: bool,

    /// Speak HTTP without TLS
    #[arg(global = true, help_heading = "Registry", long)]
    pub(crate) plain_http: bool,

    /// User at the registry; without a password it is asked for
    #[arg(global = true, help_heading = "Registry", short, long, value_name = "USER[:PASSWORD]")]
    pub(crate) user: Option<String>,

    /// Read the password of --user from standard input
    #[arg(global = true, help_heading = "Registry", long)]
    pub(crate) password_stdin: bool,

    /// Refresh or identity token, used when there is no user
    #[arg(global = true, help_heading = "Registry", long, value_name = "TOKEN")]
    pub(crate) refresh: Option<String>,

    /// Directory of hosts.toml files and certificates; /etc/containerd/certs.d, then /etc/docker/certs.d when not given
    #[arg(global = true, help_heading = "Registry", long = "hosts-dir", value_name = "DIR", action = ArgAction::Append, value_parser = path())]
    pub(super) hosts_dir: Vec<PathBuf>,

    /// Certificates to trust, instead of the system's
    #[arg(global = true, help_heading = "Registry", long, value_name = "FILE", value_parser = path())]
    pub(crate) tlscacert: Option<PathBuf>,

    /// Client certificate
    #[arg(global = true, help_heading = "Registry", long, value_name = "FILE", value_parser = path())]
    pub(super) tlscert: Option<PathBuf>,

    /// Key of the client certificate
    #[arg(global = true, help_heading = "Registry", long, value_name = "FILE", value_parser = path())]
    pub(super) tlskey: Option<PathBuf>,

    /// Platform to choose, OS/ARCH[/VARIANT]; this machine's when not given
    #[arg(global = true, help_heading = "Pull", long)]
    pub(crate) platform: Option<Platform>,

    /// Leave the layers in the registry, to be read from there when they are needed
    #[arg(help_heading = "Pull", long)]
    pub(crate) lazy: bool,

    /// Accepted for ctr's sake: layers are always fetched, unless --lazy is given
    #[arg(help_heading = "Pull", long)]
    pub(super) download_blobs: bool,

    /// Time limit for the whole pull, 0 for none
    #[arg(global = true, help_heading = "Pull", long, value_name = "DURATION", default_value = "0", value_parser = value::duration)]
    pub(super) timeout: Duration,

    /// Connections at once
    #[arg(global = true, help_heading = "Pull", long, value_name = "N", default_value = "32")]
    pub(crate) max_connections: NonZeroUsize,

    /// Bytes asked for at once, with a suffix K, M or G
    #[arg(global = true, help_heading = "Pull", long, value_name = "SIZE", default_value = "8M", value_parser = value::range_size)]
    pub(crate) range_size: NonZeroU64,

    /// Numbers of the transfer, KEY=VALUE, see docs/tuning.md; several with commas, may be repeated
    #[arg(global = true, help_heading = "Pull", long, value_name = "KEY=VALUE", value_delimiter = ',', value_parser = tune::setting, hide = true)]
    pub(super) tune: Vec<tune::Setting>,

    /// Bytes per second for the whole pull, with a suffix K, M or G; 0 for no limit
    #[arg(global = true, help_heading = "Pull", long, value_name = "RATE", default_value = "0", value_parser = value::rate)]
    pub(super) limit_rate: u64,

    /// How long to keep what an unfinished pull left in the spool, counted from its last use
    #[arg(global = true, help_heading = "Pull", long, value_name = "DURATION", default_value = "7d", value_parser = value::age)]
    pub(crate) keep_partial: Duration,

    /// Directory for blobs that are not proved yet; beside the content store when not given
    #[arg(global = true, help_heading = "Pull", long, value_name = "DIR", value_parser = path())]
    pub(crate) spool_dir: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) images: Images,

    #[command(flatten)]
    pub(crate) dry_run: DryRun,

    #[command(flatten)]
    pub(crate) screen: Screen,

    /// Write what was done to this file, as JSON
    #[arg(help_heading = "Output", long, value_name = "FILE", value_parser = path())]
    pub(crate) receipt: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) record: Record,

    /// Show on stderr what is going on
    #[arg(global = true, help_heading = "Output", long)]
    pub(crate) debug: bool,

    /// Show requests and answers on stderr, secrets removed
    #[arg(global = true, help_heading = "Output", long)]
    pub(crate) http_dump: bool,

    /// Accepted for ctr's sake, where it has no effect on a pull either
    #[arg(help_heading = "Output", long)]
    http_trace: bool,

    /// Print help
    #[arg(global = true, help_heading = "Output", short, long, action = ArgAction::Help)]
    help: Option<bool>,

    /// Print version
    #[arg(global = true, help_heading = "Output", short = 'v', visible_short_alias = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,

    /// nerdctl's ways.
    #[command(flatten)]
    pub(crate) nerdctl: Nerdctl,

    /// Where `hosts.toml` files are looked for, all things considered.
    #[arg(skip)]
    pub(crate) hosts_dirs: Vec<PathBuf>,

    /// What of the command line does not count.
    #[arg(skip)]
    pub(crate) warnings: Vec<String>,
}

/// What to do instead of a pull.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Look whether images that are here are whole, and mend them
    Verify(Verify),
    /// Take ctr's place in a directory: `ctr rpull` is rpull then, all else goes to the real ctr
    Install(Install),
    /// Put the real ctr back
    Uninstall(Uninstall),
}

/// Looks at images that are already here; asks no registry unless it has to mend one.
#[derive(clap::Args)]
#[command(override_usage = "rpull verify [FLAGS] REF...", disable_help_flag = true, disable_version_flag = true)]
pub(crate) struct Verify {
    /// Images to look at
    #[arg(value_name = "REF")]
    pub(super) references: Vec<String>,

    /// Also unpack compressed layers, and compare what comes out with the image's config
    #[arg(help_heading = "Verify", long)]
    pub(crate) deep: bool,

    /// Mend what is damaged: from what is on this machine, and only what is not from the registry
    #[arg(help_heading = "Verify", long)]
    pub(crate) repair: bool,
}

/// Which way blobs become content of containerd.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, clap::ValueEnum)]
pub(crate) enum Store {
    /// Direct where its conditions hold, else the API.
    #[default]
    Auto,
    /// Hard links into the content store.
    Direct,
    /// containerd's `Content.Write`.
    Api,
}

/// A path that may be empty, which counts as not given.
pub(super) fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}
