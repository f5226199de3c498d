//! What `--receipt` leaves of a pull that succeeded.

use pull::Receipt;

use crate::{
    failure::Failure,
    output::{OutputFile, unwritten},
};

/// One object, or an array of them where `several` images were asked for. Nothing where none was pulled.
pub(crate) fn write(file: OutputFile, receipts: &[Receipt], several: bool) -> Result<(), Failure> {
    if receipts.is_empty() {
        return Ok(());
    }
    let written = file.write(|out| {
        match receipts {
            [receipt] if !several => serde_json::to_writer_pretty(&mut *out, receipt)?,
            _ => serde_json::to_writer_pretty(&mut *out, receipts)?,
        }
        out.write_all(b"\n")
    });
    written.map_err(|what| unwritten(&what))
}
