//! What the client says is looked through for the secrets of the tests ([`testkit::secrets`]): its faults, its warnings, and all that
//! `--debug` and `--http-dump` would show, which is switched on in every test.

use std::{io, ops::Deref, sync::Once};

use oci::{ByteRange, Descriptor};
use registry::{Body, Fault, Keychain, Options, Proved, Resolved, Source};
use testkit::secrets;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// A repository of the client under test.
#[derive(Debug)]
pub(crate) struct Repository(registry::Repository);

impl Deref for Repository {
    type Target = registry::Repository;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Repository {
    /// `make` opens it. Whatever files of the keychain hold is a secret; the rest of it is, by those who made it.
    pub(crate) fn of(options: Options, keychain: Keychain, make: impl FnOnce(Options, Keychain) -> registry::Repository) -> Self {
        for source in &keychain.sources {
            if let Source::Docker(path) | Source::Podman(path) = source {
                secrets::keep_in_logins(&std::fs::read_to_string(path).unwrap_or_default());
            }
        }
        listen();
        Self(make(Options { http_dump: true, ..options }, keychain))
    }

    pub(crate) async fn resolve(&self) -> Result<Resolved, Fault> {
        let resolved = self.0.resolve().await.map_err(fault)?;
        resolved.warnings.iter().for_each(|warning| secrets::assert_none_in("a warning", warning));
        Ok(resolved)
    }

    pub(crate) async fn document(&self, descriptor: &Descriptor) -> Result<Proved, Fault> {
        let proved = self.0.document(descriptor).await.map_err(fault)?;
        proved.warnings.iter().for_each(|warning| secrets::assert_none_in("a warning", warning));
        Ok(proved)
    }

    pub(crate) async fn blob(&self, host: usize, blob: &Descriptor, range: Option<ByteRange>) -> Result<Body, Fault> {
        self.0.blob(host, blob, range).await.map_err(fault)
    }
}

/// The fault, looked through.
pub(crate) fn fault(fault: Fault) -> Fault {
    secrets::assert_none_in("a fault", &format!("{fault}: {fault:?}"));
    fault
}

/// What the client logs.
struct Lines;

/// One of its lines, or another crate's, which is not ours to answer for and which `rpull --debug` does not show.
enum Line {
    Ours,
    Others,
}

fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        let lines = tracing_subscriber::fmt().with_max_level(Level::DEBUG).with_ansi(false).with_writer(Lines).finish();
        tracing::subscriber::set_global_default(lines).expect("nobody else listens");
    });
}

impl MakeWriter<'_> for Lines {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line::Others
    }

    fn make_writer_for(&self, line: &Metadata<'_>) -> Line {
        if matches!(line.target().split("::").next(), Some("registry" | "http")) { Line::Ours } else { Line::Others }
    }
}

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if matches!(self, Self::Ours) {
            secrets::assert_none_in("the log", &String::from_utf8_lossy(bytes));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
#[should_panic(expected = "a fault shows a secret")]
async fn a_secret_in_a_fault_would_be_found() {
    let name = "planted-in-a-name";
    let repository = crate::asking::repository("127.0.0.1:9", crate::asking::plain(), crate::asking::ann("pass-word"));
    let unanswered = repository.resolve().await.unwrap_err();
    secrets::keep(name);
    fault(Fault { what: name.to_owned(), ..unanswered });
}

#[test]
#[should_panic(expected = "the log shows a secret")]
fn a_secret_in_the_log_would_be_found() {
    listen();
    tracing::debug!(target: "http", "> GET /{}", secrets::keep("planted-in-the-log"));
}
