//! What goes wrong, and when.

use std::time::Duration;

/// One thing that goes wrong with one blob request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// TCP reset after so many body bytes.
    ResetAt(u64),
    /// The connection closes in order after so many body bytes, short of its `Content-Length`.
    ShortBody(u64),
    /// After so many body bytes, `bytes` at a time.
    Drip {
        /// Body bytes at full speed.
        after: u64,
        /// Size of each drop.
        bytes: usize,
        /// Pause between drops.
        every: Duration,
    },
    /// After so many body bytes nothing more, the connection stays open.
    Stall {
        /// Body bytes before.
        after: u64,
    },
    /// 206 whose `Content-Range` is one byte off.
    WrongContentRange,
    /// 200 and the whole blob for a range.
    WholeForRange,
    /// 416.
    RangeNotSatisfiable,
    /// A bare status, with `Retry-After` when given.
    Status {
        /// Status code.
        code: u16,
        /// Value of the header.
        retry_after: Option<String>,
    },
    /// The byte at this offset of the blob is wrong.
    FlipByte(u64),
    /// The body ends with the connection.
    NoContentLength,
    /// 307 to an address that works once.
    Redirect,
}

impl Fault {
    /// Under which it is counted.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ResetAt(_) => "reset",
            Self::ShortBody(_) => "short body",
            Self::Drip { .. } => "drip",
            Self::Stall { .. } => "stall",
            Self::WrongContentRange => "wrong Content-Range",
            Self::WholeForRange => "200 for a range",
            Self::RangeNotSatisfiable => "416",
            Self::Status { code: 429, .. } => "429",
            Self::Status { code: 503, .. } => "503",
            Self::Status { .. } => "status",
            Self::FlipByte(_) => "flipped byte",
            Self::NoContentLength => "no Content-Length",
            Self::Redirect => "redirect",
        }
    }
}

/// A blob request as the script sees it.
#[derive(Debug)]
pub struct Request<'a> {
    /// Blob requests before it, of all blobs.
    pub number: u64,
    /// Number of the accepted connection it came on.
    pub connection: u64,
    /// Size of the blob.
    pub size: u64,
    /// First byte and byte behind the last, `None` without a `Range` header.
    pub range: Option<(u64, u64)>,
    /// The server's dice.
    pub random: &'a mut fastrand::Rng,
}

impl Request<'_> {
    /// Body bytes of an answer without fault.
    pub fn length(&self) -> u64 {
        self.range.map_or(self.size, |(start, end)| end - start)
    }
}

/// The mixed profile: 5 % resets, 2 % 503, 2 % short bodies, 1 % drip, 0.5 % wrong `Content-Range`.
pub fn mixed(request: &mut Request<'_>) -> Option<Fault> {
    let somewhere = request.random.u64(..request.length().max(1));
    match request.random.u32(..1000) {
        0..50 => Some(Fault::ResetAt(somewhere)),
        50..70 => Some(Fault::Status { code: 503, retry_after: None }),
        70..90 => Some(Fault::ShortBody(somewhere)),
        90..100 => Some(Fault::Drip { after: somewhere, bytes: 1024, every: Duration::from_secs(1) }),
        100..105 => Some(Fault::WrongContentRange),
        _ => None,
    }
}
