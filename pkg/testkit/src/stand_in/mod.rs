//! A small overlaybd snapshotter for machines that have no real one: outcomes, directories, `config.v1.json`, labels,
//! usage and mounts as the real one answers them, without any block device.
//!
//! It keeps its records in memory. The conformance tests in `tests/it/snapshotter.rs` run the same assertions against it
//! and against the real one.

mod filter;
mod layer;
mod service;
mod store;

use std::{
    fs, io,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use tokio_stream::wrappers::UnixListenerStream;

use self::{service::Snapshots, store::Store};

/// Serves a stand-in with a fresh `root` on `socket` until the process ends, for `examples/overlaybd-stand-in`.
///
/// # Errors
/// `root` cannot be made or is in use, or `socket` cannot be bound.
pub fn serve_stand_in(root: &Path, socket: &Path) -> io::Result<()> {
    let mut stand_in = StandIn::new(root, socket.to_owned())?;
    stand_in.serve()?;
    stand_in.wait();
    Ok(())
}

/// The stand-in behind one socket, served by a thread of its own so that blocking tests can talk to it.
#[derive(Debug)]
pub(crate) struct StandIn {
    address: PathBuf,
    store: Arc<Mutex<Store>>,
    running: Option<(tokio::sync::oneshot::Sender<()>, JoinHandle<()>)>,
}

impl StandIn {
    /// A stand-in that does not serve yet; makes `root`, which must hold no snapshots.
    pub(crate) fn new(root: &Path, address: PathBuf) -> io::Result<Self> {
        Ok(Self { address, store: Arc::new(Mutex::new(Store::new(root)?)), running: None })
    }

    /// Serves on the socket until [`stop`](Self::stop); connections are taken as soon as this returns.
    pub(crate) fn serve(&mut self) -> io::Result<()> {
        self.stop();
        match fs::remove_file(&self.address) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&self.address)?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let snapshots = Snapshots(Arc::clone(&self.store));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async move {
                let listener = tokio::net::UnixListener::from_std(listener).expect("a bound socket can be watched");
                let server = tonic::transport::Server::builder().add_service(snapshots);
                // Either way out drops every connection, as the end of a process does.
                tokio::select! {
                    ended = server.serve_with_incoming(UnixListenerStream::new(listener)) => ended.expect("the stand-in serves"),
                    _ = stopped => {}
                }
            });
        });
        self.running = Some((stop, thread));
        Ok(())
    }

    /// Waits for as long as it serves.
    fn wait(&mut self) {
        if let Some((_stop, thread)) = self.running.take() {
            let _ = thread.join();
        }
    }

    /// Stops at once; the socket file stays, as after a crash.
    pub(crate) fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stop();
    }
}
