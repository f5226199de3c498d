//! Why a blob or document could not be had.

use std::{error::Error as _, time::Duration};

use oci::Digest;

use crate::Cause;

/// A transfer that came to nothing. What was written stays in the spool, except after [`Error::Corrupt`].
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The last host that was left said no, or failed too often.
    #[error("{}", refused(what, host, *attempts, source, others))]
    Refused {
        /// Blob digest or document.
        what: String,
        /// Host and port.
        host: String,
        /// Requests made for the part that failed.
        attempts: u32,
        /// The last failure.
        source: Cause,
        /// The hosts that were asked before it, each with its last failure.
        others: Vec<(String, Cause)>,
    },
    /// Nothing arrived on any connection.
    #[error("{}blob {blob}: no byte on any connection for {} s", host.as_ref().map_or_else(String::new, |host| format!("{host}: ")), span.as_secs())]
    Silent {
        /// The blob.
        blob: Digest,
        /// For how long.
        span: Duration,
        /// Where it failed last, if it did.
        host: Option<String>,
        /// Its last failure.
        source: Option<Cause>,
    },
    /// The repository names no host that serves blobs.
    #[error("no host to fetch blob {blob} from")]
    NoHost {
        /// The blob.
        blob: Digest,
    },
    /// Fetched twice, and twice other bytes than promised.
    #[error("blob {expected} from {hosts} has digest {actual}{}", also(others))]
    Corrupt {
        /// As the manifest has it.
        expected: Digest,
        /// Of the bytes that came.
        actual: Digest,
        /// The host that served it last; several when each served a part.
        hosts: String,
        /// What came from the hosts before it.
        others: Vec<String>,
    },
    /// Writing or proving it failed here, not there.
    #[error("blob {blob} could not be kept")]
    Spool {
        /// The blob.
        blob: Digest,
        /// Why.
        source: spool::Error,
    },
    /// The runtime ended under the transfer.
    #[error("the transfer of blob {blob} was stopped")]
    Stopped {
        /// The blob.
        blob: Digest,
    },
}

/// What came of the other hosts, behind what came of the last.
fn also(others: &[String]) -> String {
    others.iter().flat_map(|other| ["; ", other]).collect()
}

/// A fault of the registry names host and object itself, so it is not wrapped in the same words once more.
fn refused(what: &str, host: &str, attempts: u32, cause: &Cause, others: &[(String, Cause)]) -> String {
    let said = |host: &str, cause: &Cause| match cause {
        Cause::Fault(fault) => fault.to_string(),
        cause => format!("{host}: {what}: {cause}"),
    };
    let mut text = said(host, cause);
    if attempts > 1 {
        text = format!("{text}, tried {attempts} times");
    }
    for (host, cause) in others {
        text = text + "; " + &said(host, cause);
        if let Some(source) = cause.source() {
            text = text + ": " + &source.to_string();
        }
    }
    text
}

/// Whose trouble an error is; the exit code follows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Class {
    /// Credentials missing, wrong or not sufficient.
    Denied,
    /// No host has it.
    Missing,
    /// The bytes are not what they should be.
    Corrupt,
    /// Registry or network, after all retries.
    Unavailable,
    /// The local disk.
    Disk,
    /// This process was stopped.
    Stopped,
}

impl Error {
    /// Whose trouble it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Refused { source: Cause::Fault(fault), .. } => match fault.class {
                registry::Class::Denied => Class::Denied,
                registry::Class::Missing => Class::Missing,
                registry::Class::Corrupt => Class::Corrupt,
                _ => Class::Unavailable,
            },
            Self::Refused { .. } | Self::Silent { .. } | Self::NoHost { .. } => Class::Unavailable,
            Self::Corrupt { .. } => Class::Corrupt,
            Self::Spool { .. } => Class::Disk,
            Self::Stopped { .. } => Class::Stopped,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { source: Cause::Fault(fault), .. } if fault.hint.is_some() => fault.hint.clone(),
            // What cannot work the next time is not helped by waiting.
            Self::Refused { source: Cause::Fault(fault), .. } if fault.class == registry::Class::Fatal => None,
            Self::Refused { .. } | Self::Silent { .. } if self.class() == Class::Unavailable => {
                Some("run rpull again when the registry answers; what was fetched is kept".to_owned())
            }
            Self::Refused { .. } | Self::Corrupt { .. } if self.class() == Class::Corrupt => {
                Some("the registry or a cache before it holds a damaged blob; push the image again".to_owned())
            }
            Self::Spool { source, .. } => source.hint(),
            _ => None,
        }
    }
}
