//! Where lines go: a file that is rotated by its size, or standard output or error.
//!
//! `access.log` becomes `access.log.1`, that `access.log.2`, and so on; the oldest goes. A file that someone else moved
//! away is made again on [`Sink::reopen`].
//!
//! Invariants: a line in a file is whole: what could be written only in part is taken back. Nothing here fails towards
//! the caller; lines that could not be written are counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// When a file is put aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotate {
    /// Bytes that a file may have.
    pub bytes: u64,
    /// Files that are kept beside the current one.
    pub keep: u32,
}

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, which is appended to; `None` leaves rotation to others.
    File(PathBuf, Option<Rotate>),
}

/// What became of the lines of a log.
#[derive(Debug, Default)]
pub struct Counts {
    written: AtomicU64,
    dropped: AtomicU64,
}

impl Counts {
    /// Lines that were written.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Lines that could not be written: the disk is full, nobody reads the pipe, or it does not keep up.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(in crate::meter) fn drop_lines(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
    }
}

/// The end of a log.
pub struct Sink {
    output: Output,
    /// Of a new file.
    mode: u32,
    /// The file, when it is one and is open.
    file: Option<File>,
    /// Bytes in the file.
    length: u64,
    /// The last line written to a pipe was cut; the next write ends it first.
    cut: bool,
    counts: Arc<Counts>,
}

impl Sink {
    /// Opens `output`; a file and its directories are made when they are not there.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(output: Output, counts: Arc<Counts>) -> io::Result<Sink> {
        Sink::open_with_mode(output, counts, 0o640)
    }

    /// The same, and a new file has this mode.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open_with_mode(output: Output, counts: Arc<Counts>, mode: u32) -> io::Result<Sink> {
        let mut sink = Sink { output, mode, file: None, length: 0, cut: false, counts };
        if let Output::File(path, _) = &sink.output {
            if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
                std::fs::create_dir_all(directory)?;
            }
            let (file, length) = open(path, mode)?;
            (sink.file, sink.length) = (Some(file), length);
        }
        Ok(sink)
    }

    /// Opens the file again, so that a file that was moved away is made anew. Until that works, lines are dropped.
    pub fn reopen(&mut self) {
        if let Output::File(path, _) = &self.output {
            (self.file, self.length) = match open(path, self.mode) {
                Ok((file, length)) => (Some(file), length),
                Err(_) => (None, 0),
            };
        }
    }

    /// Writes whole lines; `count` is how many they are.
    pub fn write(&mut self, lines: &[u8], count: u64) {
        let written = match &self.output {
            Output::Stdout => write_to_pipe(&mut io::stdout(), lines, &mut self.cut),
            Output::Stderr => write_to_pipe(&mut io::stderr(), lines, &mut self.cut),
            Output::File(..) => self.write_to_file(lines),
        };
        match written {
            Ok(()) => drop(self.counts.written.fetch_add(count, Ordering::Relaxed)),
            Err(_) => self.counts.drop_lines(count),
        }
    }

    fn write_to_file(&mut self, lines: &[u8]) -> io::Result<()> {
        if let Output::File(path, Some(rotate)) = &self.output
            && self.length > 0
            && self.length + lines.len() as u64 > rotate.bytes
        {
            // A file that cannot be put aside goes on growing: a long log is worth more than none.
            if put_aside(path, rotate.keep).is_ok() {
                self.file = None;
            }
        }
        if self.file.is_none() {
            self.reopen();
        }
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        match file.write_all(lines) {
            Ok(()) => {
                self.length += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Devices have no length to go back to.
                let _ = file.set_len(self.length);
                Err(error)
            }
        }
    }
}

fn open(path: &Path, mode: u32) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).mode(mode).open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

fn put_aside(path: &Path, keep: u32) -> io::Result<()> {
    if keep == 0 {
        return std::fs::remove_file(path);
    }
    let aside = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    for number in (1..keep).rev() {
        match std::fs::rename(aside(number), aside(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::rename(path, aside(1))
}

fn write_to_pipe(pipe: &mut impl Write, mut lines: &[u8], cut: &mut bool) -> io::Result<()> {
    if *cut {
        pipe.write_all(b"\n")?;
        *cut = false;
    }
    let all = lines.len();
    while !lines.is_empty() {
        match pipe.write(lines) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => lines = &lines[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                *cut = lines.len() < all;
                return Err(error);
            }
        }
    }
    pipe.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(directory: &tempfile::TempDir, rotate: Option<Rotate>) -> (PathBuf, Sink, Arc<Counts>) {
        let (path, counts) = (directory.path().join("logs/access.log"), Arc::new(Counts::default()));
        let sink = Sink::open(Output::File(path.clone(), rotate), counts.clone()).unwrap();
        (path, sink, counts)
    }

    fn read(path: &Path, end: &str) -> Option<String> {
        std::fs::read_to_string(format!("{}{end}", path.display())).ok()
    }

    #[test]
    fn a_file_is_put_aside_before_it_is_too_long_and_the_oldest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let (path, mut sink, counts) = file(&directory, Some(Rotate { bytes: 10, keep: 2 }));
        for line in ["aaaa\n", "bbbb\n", "cccc\n", "dddd\n", "a line longer than a file may be\n", "e\n"] {
            sink.write(line.as_bytes(), 1);
        }
        assert_eq!(read(&path, "").unwrap(), "e\n");
        assert_eq!(read(&path, ".1").unwrap(), "a line longer than a file may be\n");
        assert_eq!(read(&path, ".2").unwrap(), "cccc\ndddd\n");
        assert_eq!(read(&path, ".3"), None);
        assert_eq!((counts.written(), counts.dropped()), (6, 0));
        // A start goes on where the file ends.
        let (path, mut sink, _) = file(&directory, Some(Rotate { bytes: 10, keep: 0 }));
        sink.write(b"12345678\n", 1);
        assert_eq!((read(&path, "").unwrap().as_str(), read(&path, ".1").is_some()), ("12345678\n", true));
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_again_when_told_so() {
        let directory = tempfile::tempdir().unwrap();
        let (path, mut sink, _) = file(&directory, None);
        sink.write(b"one\n", 1);
        let moved = directory.path().join("moved");
        std::fs::rename(&path, &moved).unwrap();
        sink.write(b"two\n", 1);
        sink.reopen();
        sink.write(b"three\n", 1);
        assert_eq!(std::fs::read_to_string(moved).unwrap(), "one\ntwo\n");
        assert_eq!(read(&path, "").unwrap(), "three\n");
    }

    #[test]
    fn a_directory_that_went_away_costs_lines_and_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let (path, mut sink, counts) = file(&directory, None);
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        sink.reopen();
        sink.write(b"lost\nlost\n", 2);
        assert_eq!((counts.written(), counts.dropped()), (0, 2));
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        sink.write(b"kept\n", 1);
        assert_eq!((read(&path, "").unwrap().as_str(), counts.written()), ("kept\n", 1));
    }

    #[test]
    fn a_full_disk_costs_lines_and_nothing_else() {
        let counts = Arc::new(Counts::default());
        let full = Output::File("/dev/full".into(), Some(Rotate { bytes: 1, keep: 1 }));
        let mut sink = Sink::open(full, counts.clone()).unwrap();
        for _ in 0..3 {
            sink.write(b"line\n", 1);
        }
        assert_eq!((counts.written(), counts.dropped()), (0, 3));
    }

    /// Takes so many bytes, then breaks once.
    struct Pipe(Vec<u8>, usize);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.1 == 0 {
                self.1 = usize::MAX;
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let taken = bytes.len().min(self.1);
            self.1 -= taken;
            self.0.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_a_pipe_took_half_of_spoils_no_other() {
        let (mut pipe, mut cut) = (Pipe(Vec::new(), 6), false);
        assert!(write_to_pipe(&mut pipe, b"one\ntwo\n", &mut cut).is_err());
        write_to_pipe(&mut pipe, b"three\n", &mut cut).unwrap();
        assert_eq!(String::from_utf8(pipe.0).unwrap(), "one\ntw\nthree\n");
    }
}
