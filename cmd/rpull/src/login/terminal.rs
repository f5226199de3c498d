//! Asks for a secret on the terminal.
//!
//! Of our own because the order matters: echo is off before the prompt is seen, so that one who answers at once (a script on
//! a terminal) shows nothing; and the terminal is as it was before Ctrl-C ends the program.

use std::{
    fs::File,
    io::{self, Read, Write as _},
};

use rustix::{
    process::{Signal, getpid, kill_process},
    termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr},
};

/// No password is longer; a pasted file is not one.
const MAX_SECRET: usize = 4096;

/// What was typed.
#[derive(PartialEq, Eq, Debug)]
enum Entry {
    /// A line, without its end.
    Line(Vec<u8>),
    /// Ctrl-C.
    Interrupt,
}

/// Shows `prompt` on the terminal and reads a line without echo. Ctrl-C ends the program as it does everywhere.
pub(super) fn ask(prompt: &str) -> io::Result<String> {
    let terminal = File::options().read(true).write(true).open("/dev/tty")?;
    let entry = {
        let _silence = Silence::on(&terminal)?;
        (&terminal).write_all(prompt.as_bytes())?;
        read_entry(&mut &terminal)
    };
    (&terminal).write_all(b"\n")?;
    match entry? {
        Entry::Line(bytes) => String::from_utf8(bytes).map_err(|_| io::Error::other("the password is not UTF-8")),
        Entry::Interrupt => {
            kill_process(getpid(), Signal::INT)?;
            Err(io::ErrorKind::Interrupted.into())
        }
    }
}

/// Echo, line editing and signal keys are off while this lives.
struct Silence<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Silence<'a> {
    fn on(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG);
        silent.special_codes[SpecialCodeIndex::VMIN] = 1;
        silent.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(terminal, OptionalActions::Now, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Reads up to Enter, with the keys a terminal would have handled itself.
fn read_entry(keys: &mut impl Read) -> io::Result<Entry> {
    const CTRL_C: u8 = 0x03;
    const CTRL_D: u8 = 0x04;
    const CTRL_H: u8 = 0x08;
    const CTRL_U: u8 = 0x15;
    const DELETE: u8 = 0x7f;
    let mut line = Vec::new();
    let mut key = [0];
    loop {
        keys.read_exact(&mut key)?;
        match key[0] {
            b'\n' | b'\r' => return Ok(Entry::Line(line)),
            CTRL_C => return Ok(Entry::Interrupt),
            CTRL_D if line.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            CTRL_H | DELETE => {
                // A whole character: its continuation bytes and the first one.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            CTRL_U => line.clear(),
            byte if byte < b' ' => {}
            _ if line.len() == MAX_SECRET => return Err(io::Error::other("the password is longer than 4096 bytes")),
            byte => line.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_edit_the_line_as_on_a_terminal() {
        for (typed, line) in [
            ("secret\n", "secret"),
            ("secret\rmore", "secret"),
            ("\n", ""),
            ("se cret\n", "se cret"),
            ("secx\x7fret\n", "secret"),
            ("\x08secret\n", "secret"),
            ("s\u{e4}\x7f\u{f6}\n", "s\u{f6}"),
            ("wrong\x15secret\n", "secret"),
            ("sec\x04\x01ret\n", "secret"),
        ] {
            assert_eq!(read_entry(&mut typed.as_bytes()).unwrap(), Entry::Line(line.as_bytes().to_vec()), "{typed:?}");
        }
        assert_eq!(read_entry(&mut &b"sec\x03"[..]).unwrap(), Entry::Interrupt);
    }

    #[test]
    fn no_line_is_no_password() {
        for typed in ["", "secret", "\x04"] {
            assert_eq!(read_entry(&mut typed.as_bytes()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{typed:?}");
        }
        assert!(read_entry(&mut io::repeat(b'x')).is_err());
    }
}
