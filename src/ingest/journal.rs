//! The journal: what has been shown to readers and is not in the database yet, on disk.
//!
//! A file of frames: length (4 bytes), CRC-32 of the content (4 bytes), content. A frame is appended and synced before the cycle in it
//! is shown, so that a daemon that is killed, or a host that loses its power, comes back with what readers saw. A frame that was
//! torn by either is found by its length or its sum and cut off: it was never shown. One that is damaged and has whole ones behind it
//! was changed by its disk: the others are read, and the file is put aside. When the database has everything, the file is emptied.
//!
//! Several processes may share a directory: each has a file of its own and holds its lock for life; whoever starts takes over the files
//! that nobody holds.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// What a frame has before its content.
const HEADER: u64 = 8;

/// The largest content that is believed; a cycle of 50,000 symbols has about 3 MB.
const MOST_CONTENT: u32 = 64 * 1024 * 1024;

const EXTENSION: &str = "journal";

/// What a file is renamed to that has damage in it.
const ASIDE: &str = "damaged";

/// Why a cycle could not be written down.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Everything that may be kept is kept.
    #[error("the journal {} is full: it holds {} MB that the database has not taken, and ingest.journal.max_megabytes allows no more", .path.display(), .bytes / 1_000_000)]
    Full {
        /// The file.
        path: PathBuf,
        /// What it holds.
        bytes: u64,
    },
    /// What is there is not what was written.
    #[error("the journal {} is damaged at byte {start}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the frame begins.
        start: u64,
    },
    /// The disk.
    #[error("the journal {}: {cause}", .path.display())]
    Disk {
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        cause: io::Error,
    },
}

/// Where a frame is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    start: u64,
    length: u64,
}

/// The file of this process.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    path: PathBuf,
    most_bytes: u64,
    /// Made with the first frame.
    file: Option<File>,
    end: u64,
}

/// A file that an earlier process has left, locked.
#[derive(Debug)]
pub struct Abandoned {
    /// Where it is.
    pub path: PathBuf,
    /// Whole frames, oldest first.
    pub frames: Vec<Frame>,
    /// Frames before the last whole one that are not what was written: their disk has changed them.
    pub damaged: Vec<Frame>,
    /// Bytes after the last whole frame: one that was being written when its process ended.
    pub torn: u64,
    /// Locked.
    file: File,
}

impl Journal {
    /// A journal below `directory` of at most `most_bytes`. Touches nothing yet.
    pub fn new(directory: &Path, most_bytes: u64) -> Self {
        let path = directory.join(format!("{}.{EXTENSION}", Uuid::now_v7()));
        Self { directory: directory.to_owned(), path, most_bytes, file: None, end: 0 }
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> u64 {
        self.end
    }

    /// Appends `content` and returns once it is on the disk.
    ///
    /// # Errors
    /// When there is no room, or the disk fails; then nothing of it is kept.
    pub fn append(&mut self, content: &[u8]) -> Result<Frame, JournalError> {
        let length = content.len() as u64;
        if self.end + HEADER + length > self.most_bytes || content.len() > MOST_CONTENT as usize {
            return Err(JournalError::Full { path: self.path.clone(), bytes: self.end });
        }
        let start = self.end;
        let mut frame = Vec::with_capacity(content.len() + HEADER as usize);
        frame.extend_from_slice(&(content.len() as u32).to_le_bytes());
        frame.extend_from_slice(&crc32fast::hash(content).to_le_bytes());
        frame.extend_from_slice(content);
        match self.write_at_end(&frame) {
            Ok(()) => {
                self.end += HEADER + length;
                Ok(Frame { start, length })
            }
            Err(cause) => {
                // What was written of it must not stand before the next frame.
                if let Some(file) = &self.file
                    && file.set_len(start).is_err()
                {
                    self.file = None;
                }
                Err(JournalError::Disk { path: self.path.clone(), cause })
            }
        }
    }

    fn write_at_end(&mut self, frame: &[u8]) -> io::Result<()> {
        let end = self.end;
        let file = self.open()?;
        file.seek(SeekFrom::Start(end))?;
        file.write_all(frame)?;
        file.sync_data()
    }

    fn open(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            std::fs::create_dir_all(&self.directory)?;
            // After a failure an older file stays as it is, for its frames.
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path)?;
            file.try_lock().map_err(io::Error::from)?;
            // The name must survive a power cut as well as the content.
            File::open(&self.directory)?.sync_all()?;
            self.file = Some(file);
        }
        self.file.as_mut().ok_or_else(|| io::Error::other("the file was not opened"))
    }

    /// Reads a frame again.
    ///
    /// # Errors
    /// When the disk fails, which it may not in a moment; [`JournalError::Damaged`] when it has changed what was written.
    pub fn read(&mut self, frame: Frame) -> Result<Vec<u8>, JournalError> {
        let read = self.open().and_then(|file| read_frame(file, frame));
        found(read, &self.path, frame)
    }

    /// The database has everything: begins anew.
    ///
    /// # Errors
    /// When the disk fails; then what is there is stored again, which changes nothing.
    pub fn clear(&mut self) -> Result<(), JournalError> {
        if let Some(file) = &self.file {
            file.set_len(0).map_err(|cause| JournalError::Disk { path: self.path.clone(), cause })?;
        }
        self.end = 0;
        Ok(())
    }
}

impl Drop for Journal {
    /// An empty file has nothing to tell the next process.
    fn drop(&mut self) {
        if self.file.is_some() && self.end == 0 {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Abandoned {
    /// Takes over every journal below `directory` that no process holds, oldest first.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn find(directory: &Path) -> Result<Vec<Self>, JournalError> {
        let fault = |path: &Path, cause| JournalError::Disk { path: path.to_owned(), cause };
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(none) if none.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(cause) => return Err(fault(directory, cause)),
        };
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == EXTENSION));
        paths.sort();
        let taken = paths.iter().map(|path| Self::take(path).map_err(|cause| fault(path, cause)));
        taken.filter_map(Result::transpose).collect()
    }

    fn take(path: &Path) -> io::Result<Option<Self>> {
        let mut file = match File::options().read(true).write(true).open(path) {
            Ok(file) => file,
            // Its process has just removed it.
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(cause),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(cause)) => return Err(cause),
        }
        let size = file.metadata()?.len();
        let (mut frames, mut damaged, mut passed_over) = (Vec::new(), Vec::new(), Vec::new());
        let (mut start, mut whole_until) = (0, 0);
        while let Some(frame) = frame_at(&mut file, start, size)? {
            start = frame.start + HEADER + frame.length;
            if read_frame(&mut file, frame)?.is_some() {
                frames.push(frame);
                damaged.append(&mut passed_over);
                whole_until = start;
            } else {
                passed_over.push(frame);
            }
        }
        Ok(Some(Self { path: path.to_owned(), frames, damaged, torn: size.saturating_sub(whole_until), file }))
    }

    /// Reads one of its frames.
    ///
    /// # Errors
    /// When the disk fails, or has changed it.
    pub fn read(&mut self, frame: Frame) -> Result<Vec<u8>, JournalError> {
        let read = read_frame(&mut self.file, frame);
        found(read, &self.path, frame)
    }

    /// The database has everything in it that could be read. A file with damage is put aside under another name, for whoever can make
    /// more of it; the others are removed.
    ///
    /// # Errors
    /// When the disk fails; then it is taken over again at the next start, which changes nothing.
    pub fn remove(self) -> Result<(), JournalError> {
        let gone = if self.damaged.is_empty() {
            std::fs::remove_file(&self.path)
        } else {
            std::fs::rename(&self.path, self.path.with_extension(ASIDE))
        };
        match gone {
            // Its process has removed it in the same moment.
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(|cause| JournalError::Disk { path: self.path.clone(), cause }),
        }
    }
}

fn found(read: io::Result<Option<Vec<u8>>>, path: &Path, frame: Frame) -> Result<Vec<u8>, JournalError> {
    match read {
        Ok(Some(content)) => Ok(content),
        Ok(None) => Err(JournalError::Damaged { path: path.to_owned(), start: frame.start }),
        Err(cause) => Err(JournalError::Disk { path: path.to_owned(), cause }),
    }
}

/// The frame that begins at `start`, as its header has it, whether or not its content is whole; `None` where no frame fits that begins
/// there.
fn frame_at(file: &mut File, start: u64, size: u64) -> io::Result<Option<Frame>> {
    file.seek(SeekFrom::Start(start))?;
    let mut length = [0; 4];
    if !is_filled(file, &mut length)? {
        return Ok(None);
    }
    let length = u32::from_le_bytes(length);
    // A file that was made longer and not written before the power went ends in zeros: no frame is without content.
    let fits = (1..=MOST_CONTENT).contains(&length) && start + HEADER + u64::from(length) <= size;
    Ok(fits.then_some(Frame { start, length: u64::from(length) }))
}

/// The content of a frame; `None` where it is not what was written.
fn read_frame(file: &mut File, frame: Frame) -> io::Result<Option<Vec<u8>>> {
    file.seek(SeekFrom::Start(frame.start))?;
    let mut header = [0; HEADER as usize];
    if !is_filled(file, &mut header)? {
        return Ok(None);
    }
    let [a, b, c, d, e, f, g, h] = header;
    let (length, sum) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    if u64::from(length) != frame.length {
        return Ok(None);
    }
    let mut content = Vec::new();
    file.take(frame.length).read_to_end(&mut content)?;
    let whole = content.len() as u64 == frame.length && crc32fast::hash(&content) == sum;
    Ok(whole.then_some(content))
}

fn is_filled(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(short) if short.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(cause) => Err(cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(directory: &Path) -> Vec<Vec<u8>> {
        let mut files = Abandoned::find(directory).unwrap();
        let read =
            |file: &mut Abandoned| file.frames.clone().into_iter().map(|frame| file.read(frame).unwrap()).collect();
        files.iter_mut().flat_map(|file| -> Vec<Vec<u8>> { read(file) }).collect()
    }

    #[test]
    fn what_was_appended_is_found_by_the_next_process_and_not_while_this_one_lives() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(directory.path(), 1_000);
        let first = journal.append(b"one").unwrap();
        let second = journal.append(b"2").unwrap();
        let third = journal.append(b"three").unwrap();
        assert_eq!(journal.read(second).unwrap(), b"2");
        assert_eq!((journal.read(third).unwrap(), journal.read(first).unwrap()), (b"three".to_vec(), b"one".to_vec()));
        assert_eq!(journal.append(b"four").unwrap().start, 8 + 3 + 8 + 1 + 8 + 5, "reading moves nothing");
        assert!(contents(directory.path()).is_empty(), "it is held");
        drop(journal);
        assert_eq!(contents(directory.path()), [&b"one"[..], b"2", b"three", b"four"]);
    }

    #[test]
    fn it_is_bounded_and_emptied() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(directory.path(), 40);
        journal.append(&[1; 20]).unwrap();
        assert!(matches!(journal.append(&[2; 5]), Err(JournalError::Full { bytes: 28, .. })));
        journal.append(&[3; 4]).unwrap();
        journal.clear().unwrap();
        journal.append(&[4; 32]).unwrap();
        drop(journal);
        assert_eq!(contents(directory.path()), [vec![4; 32]]);
        let mut journal = Journal::new(directory.path(), 40);
        journal.append(b"x").unwrap();
        journal.clear().unwrap();
        drop(journal);
        for file in Abandoned::find(directory.path()).unwrap() {
            file.remove().unwrap();
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_frame_that_was_torn_anywhere_is_cut_off_and_those_before_it_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(directory.path(), 1_000);
        journal.append(b"whole").unwrap();
        journal.append(b"torn apart").unwrap();
        let path = journal.path.clone();
        drop(journal);
        let bytes = std::fs::read(&path).unwrap();
        let first = 8 + 5;
        for cut in first..bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let found = Abandoned::find(directory.path()).unwrap();
            assert_eq!((found[0].frames.len(), found[0].torn), (1, (cut - first) as u64), "cut at {cut}");
        }
        for cut in [first, first + 8, bytes.len() - 1] {
            let zeros = [&bytes[..cut], &[0; 40]].concat();
            std::fs::write(&path, zeros).unwrap();
            let found = Abandoned::find(directory.path()).unwrap();
            assert_eq!((found[0].frames.len(), found[0].damaged.len()), (1, 0), "zeros from {cut} on");
        }
        // A length that fits nothing, a sum, a byte of the content.
        for changed in first + 3..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[changed] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(contents(directory.path()), [b"whole"], "changed at {changed}");
        }
    }

    #[test]
    fn damage_with_whole_frames_behind_it_costs_only_itself_and_the_file_is_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(directory.path(), 1_000);
        let frames = [&b"one"[..], b"two", b"three", b"four"].map(|content| journal.append(content).unwrap());
        let path = journal.path.clone();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[(frames[1].start + HEADER) as usize] ^= 1;
        bytes[(frames[2].start + HEADER) as usize] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(journal.read(frames[1]), Err(JournalError::Damaged { start: 11, .. })));
        assert_eq!(journal.read(frames[3]).unwrap(), b"four");
        drop(journal);
        let mut found = Abandoned::find(directory.path()).unwrap();
        let mut file = found.remove(0);
        assert_eq!(
            (file.frames.as_slice(), file.damaged.as_slice(), file.torn),
            (&[frames[0], frames[3]][..], &frames[1..3], 0)
        );
        assert_eq!(file.read(frames[3]).unwrap(), b"four");
        file.remove().unwrap();
        assert_eq!(contents(directory.path()), Vec::<Vec<u8>>::new());
        assert_eq!(std::fs::read(path.with_extension(ASIDE)).unwrap(), bytes);
    }
}
