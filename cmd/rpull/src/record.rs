//! What is left of a run for those who want to see how it went: a trace, a picture, counters.
//!
//! The recorder listens beside the screen. Nothing is collected unless a file is to be made of it; the counters come from the
//! run's meter, which counts anyway.

mod log;
mod metrics;
mod rows;
mod trace;
mod waterfall;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use progress::Progress;

use crate::{
    args::Record,
    exit::ExitCode,
    failure::Failure,
    output::{OutputFile, unwritten},
};
use log::Log;

/// The files to be written, and what is collected for them.
pub(crate) struct Recorder {
    trace: Option<OutputFile>,
    waterfall: Option<OutputFile>,
    metrics: Option<OutputFile>,
    log: Arc<Mutex<Log>>,
    progress: Progress,
}

impl Recorder {
    /// Finds out whether the files can be written, and listens to the run as far as they need it.
    pub(crate) fn open(asked: &Record, progress: Progress) -> Result<(Self, Progress), Failure> {
        let open = |what, path: &Option<_>| path.as_deref().map(|path| OutputFile::open(what, path)).transpose();
        let trace = open("trace", &asked.trace)?;
        let waterfall = open("waterfall", &asked.waterfall)?;
        let metrics = open("metrics file", &asked.metrics)?;
        let log = Arc::<Mutex<Log>>::default();
        let progress = if trace.is_some() || waterfall.is_some() {
            let ears = Arc::clone(&log);
            progress.heard_by(move |_, event| ears.lock().unwrap_or_else(PoisonError::into_inner).hear(event))
        } else {
            progress
        };
        Ok((Self { trace, waterfall, metrics, log, progress: progress.clone() }, progress))
    }

    /// Writes the files, however the run ended. One that cannot be written makes a failure of a run that went well, and is told
    /// beside the failure of one that did not.
    pub(crate) fn write<T>(self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        let code = outcome.as_ref().map_or_else(|failure| failure.code, |_| ExitCode::Done);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.end(self.progress.elapsed(), code as u8);
        let tally = self.progress.meter().tally();
        let trace = self.trace.map_or(Ok(()), |file| file.write(|out| trace::write(&log, &tally, out)));
        let waterfall = self.waterfall.map_or(Ok(()), |file| file.write(|out| waterfall::write(&log, &tally, out)));
        let metrics = self.metrics.map_or(Ok(()), |file| {
            let former = metrics::Former::of(file.path());
            let run = metrics::Run { tally: &tally, code: code as u8, took: self.progress.elapsed(), ended: SystemTime::now() };
            file.write(|out| out.write_all(metrics::text(&run, &former).as_bytes()))
        });
        let failed: Vec<String> = [trace, waterfall, metrics].into_iter().filter_map(Result::err).collect();
        match outcome {
            _ if failed.is_empty() => outcome,
            Ok(_) => Err(unwritten(&failed.join("; "))),
            Err(failure) => Err(Failure { message: format!("{}; {}", failure.message, failed.join("; ")), ..failure }),
        }
    }
}
