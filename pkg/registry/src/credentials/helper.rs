//! `docker-credential-NAME get`, run so that it can neither hang us nor stay behind: its own process group, a time limit, a size
//! limit. What it is asked for goes through its standard input, what it knows comes back through its standard output; neither
//! ever stands on a command line.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    process::{ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
};

use crate::{Class, Credentials, Fault, Secret, fault::About, redact};

const PROGRAM: &str = "docker-credential-";
/// Docker's helpers say so, all in the same words, on standard output.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// A user of this name means that the secret is an identity token.
const TOKEN_USER: &str = "<token>";
/// Of each stream; the longest tokens have some kilobytes.
const MAX_OUTPUT: u64 = 64 << 10;
/// Characters of a helper's own words that are shown.
const MAX_WORDS: usize = 300;
/// Someone who left the group, a daemon, may hold the pipes open: what is in them by then counts.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// How helpers are run. Shared by all hosts of a pull.
#[derive(Debug)]
pub struct Helpers {
    limit: Duration,
    search_path: Option<OsString>,
    /// They are not waited for a second time.
    hung: Mutex<BTreeSet<String>>,
}

impl Default for Helpers {
    fn default() -> Self {
        Self::new(Duration::from_secs(30), None)
    }
}

/// Why a helper is of no use.
#[derive(thiserror::Error, Debug)]
pub(super) enum Error {
    #[error("the name of credential helper {0:?} is not a program's")]
    Name(String),
    #[error("credential helper {PROGRAM}{0} is not installed")]
    Missing(String),
    #[error("credential helper {PROGRAM}{name} cannot be run")]
    Run { name: String, source: io::Error },
    #[error("credential helper {PROGRAM}{name} did not answer within {limit:?}{said}")]
    Hung { name: String, limit: Duration, said: String },
    #[error("credential helper {PROGRAM}{0} printed more than {MAX_OUTPUT} bytes")]
    Long(String),
    #[error("credential helper {PROGRAM}{name} ended with {status}{said}")]
    Failed { name: String, status: ExitStatus, said: String },
    #[error("credential helper {PROGRAM}{name} printed something else than Username and Secret{said}")]
    Rubbish { name: String, said: String },
}

impl Error {
    /// `file` names the helper. Asking once more would only take longer, so it is final.
    pub(super) fn into_fault(self, about: &About, file: &str) -> Fault {
        let fault = about.fault(Class::Denied, &self).with_hint(self.hint(file));
        if let Self::Run { source, .. } = self { fault.with_source(source) } else { fault }
    }

    fn hint(&self, file: &str) -> String {
        match self {
            Self::Name(_) => format!("correct credsStore or credHelpers in {file}"),
            Self::Missing(name) => format!("{file} names it: put {PROGRAM}{name} on PATH, or take the entry out"),
            _ => format!("{file} names it: try it by hand, or give --user"),
        }
    }
}

impl Helpers {
    /// `limit` is for one question; `search_path` takes the place of `PATH`.
    pub fn new(limit: Duration, search_path: Option<OsString>) -> Self {
        Self { limit, search_path, hung: Mutex::default() }
    }

    /// Asks once. `None`: it knows nobody there.
    pub(super) async fn ask(&self, name: &str, identifier: &str) -> Result<Option<Credentials>, Error> {
        // The name becomes part of a path otherwise.
        if name.contains(['/', '\0']) {
            return Err(Error::Name(name.to_owned()));
        }
        if self.hung().contains(name) {
            return Err(Error::Hung { name: name.to_owned(), limit: self.limit, said: String::new() });
        }
        let mut helper = self.start(name)?;
        let answer = tokio::time::timeout(self.limit, helper.answer(identifier)).await;
        let run = |source| Error::Run { name: name.to_owned(), source };
        let status = helper.end().await.map_err(run)?;
        let (output, errors) = (&helper.output, &helper.errors);
        match answer {
            Err(_) => {
                self.hung().insert(name.to_owned());
                Err(Error::Hung { name: name.to_owned(), limit: self.limit, said: words(errors, &[]) })
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::FileTooLarge => Err(Error::Long(name.to_owned())),
            Ok(Err(error)) => Err(run(error)),
            Ok(Ok(())) if status.success() => {
                parse(output).map_err(|NoAnswer| Error::Rubbish { name: name.to_owned(), said: words(errors, &[]) })
            }
            Ok(Ok(())) if output.windows(NOT_FOUND.len()).any(|window| window == NOT_FOUND.as_bytes()) => Ok(None),
            Ok(Ok(())) => Err(Error::Failed { name: name.to_owned(), status, said: words(errors, output) }),
        }
    }

    fn hung(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.hung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, name: &str) -> Result<Helper, Error> {
        let mut command = Command::new(format!("{PROGRAM}{name}"));
        command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        if let Some(path) = &self.search_path {
            command.env("PATH", path);
        }
        let child = command.spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::Missing(name.to_owned()),
            _ => Error::Run { name: name.to_owned(), source },
        })?;
        let leader = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        Ok(Helper { child, group: Group(leader), output: Vec::new(), errors: Vec::new() })
    }
}

/// A helper that runs. Dropped before its end, it is killed with all it has started.
struct Helper {
    // Dropped in this order: the group's number is the child's, free for others once that is waited for.
    group: Group,
    child: Child,
    output: Vec<u8>,
    errors: Vec<u8>,
}

/// A process group whose leader has not been waited for, so that its number still means it.
struct Group(Option<Pid>);

impl Group {
    fn kill(&mut self) {
        if let Some(leader) = self.0.take() {
            // An error means that nobody is left in it.
            let _ = rustix::process::kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Helper {
    /// Asks, and takes in both streams up to the leader's end.
    async fn answer(&mut self, identifier: &str) -> io::Result<()> {
        let (stdin, stdout, stderr) = (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take());
        let ask = async {
            if let Some(mut stdin) = stdin {
                // It may answer without reading.
                let _ = stdin.write_all(identifier.as_bytes()).await;
            }
            Ok(())
        };
        let leader = self.group.0;
        let read = async { tokio::try_join!(ask, take(stdout, &mut self.output), take(stderr, &mut self.errors)) };
        tokio::pin!(read);
        tokio::select! {
            read = &mut read => {
                read?;
                ended(leader).await?;
            }
            ended = ended(leader) => {
                ended?;
                // What it left running in its group goes, and with it the last who could write.
                self.group.kill();
                if let Ok(read) = tokio::time::timeout(DRAIN_LIMIT, &mut read).await {
                    read?;
                }
            }
        }
        Ok(())
    }

    /// Kills what is left of the group, then takes the leader's exit status.
    async fn end(&mut self) -> io::Result<ExitStatus> {
        self.group.kill();
        self.child.wait().await
    }
}

/// Waits for the leader's end without taking its exit status: its number stays its own.
async fn ended(leader: Option<Pid>) -> io::Result<()> {
    let Some(leader) = leader else { return Ok(()) };
    let wait = move || rustix::process::waitid(WaitId::Pid(leader), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    tokio::task::spawn_blocking(wait).await.map_err(io::Error::other)??;
    Ok(())
}

/// Reads a stream to its end.
async fn take(stream: Option<impl AsyncRead + Unpin>, bytes: &mut Vec<u8>) -> io::Result<()> {
    let Some(stream) = stream else { return Ok(()) };
    stream.take(MAX_OUTPUT + 1).read_to_end(bytes).await?;
    if bytes.len() as u64 > MAX_OUTPUT { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) }
}

/// It is not `{ServerURL, Username, Secret}`.
#[derive(PartialEq, Eq, Debug)]
struct NoAnswer;

#[derive(serde::Deserialize)]
struct Answer {
    #[serde(rename = "Username", default)]
    user: String,
    #[serde(rename = "Secret", default)]
    secret: String,
}

/// serde's error could quote the secret.
fn parse(output: &[u8]) -> Result<Option<Credentials>, NoAnswer> {
    let Answer { user, secret } = serde_json::from_slice(output).map_err(|_| NoAnswer)?;
    if secret.is_empty() {
        return if user.is_empty() { Ok(None) } else { Err(NoAnswer) };
    }
    let secret = Secret::new(secret);
    let is_token = user.is_empty() || user == TOKEN_USER;
    Ok(Some(if is_token { Credentials::Refresh(secret) } else { Credentials::Basic { user, password: secret } }))
}

/// The last line of standard error, and where that is silent a sentence on standard output: it may hold a secret, a sentence has
/// spaces and no braces.
fn words(errors: &[u8], output: &[u8]) -> String {
    let last = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let line = text.lines().rev().find(|line| !line.trim().is_empty() && !line.contains('{'))?;
        Some(redact::line(line, MAX_WORDS))
    };
    let said = last(errors).or_else(|| last(output).filter(|line| line.contains(' ')));
    said.map_or_else(String::new, |said| format!(": {said}"))
}

#[cfg(test)]
mod tests;
