//! containerd's socket with a hand on it: what a client sends is held back at a moment of the test's choice.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
};

use crate::stage::Stage;

/// A way to containerd that stops at the first message with a certain text in it (a name; messages are not compressed).
pub(crate) struct Held {
    address: PathBuf,
    reached: Receiver<()>,
    go_on: Sender<()>,
    _directory: tempfile::TempDir,
}

impl Held {
    pub(crate) fn at(stage: &Stage, text: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let address = directory.path().join("held.sock");
        let listener = UnixListener::bind(&address).expect("a socket can be bound in it");
        let (reaching, reached) = channel();
        let (go_on, going_on) = channel();
        let gate = Gate { text: text.as_bytes().to_vec(), reaching, go_on: Mutex::new(Some(going_on)) };
        let containerd = stage.containerd().address();
        // Ends with the test process: a listener cannot be told to stop waiting.
        std::thread::spawn(move || gate.serve(&listener, &containerd));
        Self { address, reached, go_on, _directory: directory }
    }

    /// Where rpull finds it.
    pub(crate) fn address(&self) -> &Path {
        &self.address
    }

    /// Does something while the message is held, and lets it go.
    pub(crate) fn meanwhile(&self, work: impl FnOnce()) {
        self.reached.recv().expect("a message with the text comes");
        work();
        self.go_on.send(()).expect("the message is still held");
    }
}

struct Gate {
    text: Vec<u8>,
    reaching: Sender<()>,
    /// Taken by the first message that stops.
    go_on: Mutex<Option<Receiver<()>>>,
}

impl Gate {
    fn serve(self, listener: &UnixListener, containerd: &Path) {
        let gate = Arc::new(self);
        for client in listener.incoming().flatten() {
            let Ok(server) = UnixStream::connect(containerd) else { return };
            let (from, to) = (server.try_clone().expect("it can be cloned"), client.try_clone().expect("it can be cloned"));
            std::thread::spawn(move || copy(from, to, |_| {}));
            let gate = Arc::clone(&gate);
            std::thread::spawn(move || {
                let mut seen = Vec::new();
                copy(client, server, |bytes| {
                    seen.extend_from_slice(bytes);
                    gate.look(&seen);
                    seen.drain(..seen.len().saturating_sub(gate.text.len()));
                });
            });
        }
    }

    fn look(&self, bytes: &[u8]) {
        if !bytes.windows(self.text.len()).any(|window| window == self.text) {
            return;
        }
        let go_on = self.go_on.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(go_on) = go_on
            && self.reaching.send(()).is_ok()
        {
            // A test that failed meanwhile does not answer.
            let _ = go_on.recv();
        }
    }
}

/// Until either side ends; each piece is shown before it goes on.
fn copy(mut from: UnixStream, mut to: UnixStream, mut look: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        look(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
