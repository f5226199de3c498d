//! The threads behind a blob that is being written: one hashes the finished prefix, one sends bytes to the disk early.
//!
//! Both are plain threads, not the runtime's: they live as long as the blob takes, and end when its entry is dropped.

use std::{fs::File, os::fd::AsRawFd as _, sync::Arc, thread};

use oci::ByteRange;

use crate::{
    Error,
    core::{CHUNK, Core, Prefix, read_range},
    verified::descriptor_path,
};

pub(crate) fn start(core: &Arc<Core>, prefix: Prefix, flush: bool) -> Result<(), Error> {
    let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
        thread::Builder::new().name(name.to_owned()).spawn(run).map(drop).map_err(|error| core.io("start a thread for", error))
    };
    let follower = core.clone();
    spawn("spool-hash", Box::new(move || hash(&follower, prefix)))?;
    if flush {
        // Opened anew, before the first write: the system tells a failed write-back once to every open file. On one shared with
        // the last sync, the one that decides, this thread could hear of it in its place.
        let file = File::open(descriptor_path(core.read.as_raw_fd())).map_err(|error| core.io("open", error))?;
        let flusher = core.clone();
        spawn("spool-flush", Box::new(move || write_back(&flusher, &file)))?;
    }
    Ok(())
}

/// Feeds the finished prefix to SHA-256, read back from the page cache.
fn hash(core: &Core, mut prefix: Prefix) {
    let mut buffer = vec![0; CHUNK];
    while prefix.len < core.size {
        let Some(end) = core.next_hash(prefix.len) else { return };
        let step = ByteRange::new(prefix.len, end).expect("a step is never empty");
        if let Err(error) = read_range(&core.read, step, &mut buffer, |bytes| prefix.hasher.update(bytes)) {
            core.publish_end(Err(core.io("read", error)));
            return;
        }
        prefix.len = end;
        core.publish(end);
    }
    core.publish_end(Ok(prefix.hasher.finish()));
}

/// Writes back while the rest still arrives. A failure is the entry's, and told as early as it is known.
fn write_back(core: &Core, file: &File) {
    let mut flushed = 0;
    while let Some(complete) = core.next_flush(&mut flushed) {
        if let Err(error) = file.sync_data() {
            core.publish_end(Err(core.io("sync", error)));
            return;
        }
        if complete {
            return;
        }
    }
}
