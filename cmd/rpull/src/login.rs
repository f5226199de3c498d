//! Who we are for the registry: the flags, asking for a password where one is missing as `ctr` does, and the places where docker
//! and podman keep what `login` gave them.

mod password;
mod places;
mod terminal;

use std::env;

use registry::{Credentials, Helpers, Keychain};

use crate::args::Args;

pub(crate) use self::password::NoPassword;

/// Everything there is to show to a registry, the flags first.
pub(crate) fn keychain(args: &Args) -> Result<Keychain, NoPassword> {
    let given = match (&args.user, &args.refresh) {
        (Some(user), _) => {
            let (user, password) = password::of(user, args.password_stdin)?;
            Credentials::Basic { user, password: password.into() }
        }
        (None, Some(token)) => Credentials::Refresh(token.clone().into()),
        (None, None) => Credentials::Anonymous,
    };
    let sources = places::sources(|variable| env::var_os(variable).filter(|value| !value.is_empty()), env::home_dir());
    Ok(Keychain { given, sources, helpers: Helpers::default() })
}
