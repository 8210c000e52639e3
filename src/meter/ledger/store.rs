//! The file of the ledger: SQLite with a write-ahead log.
//!
//! SQLite because other processes read while the gateway writes (`sluice spend`), two gateways may share one file, and a
//! process that is killed leaves a file that is whole. `synchronous = NORMAL`: a commit is safe against a crash of the
//! process at once, and against a crash of the machine as soon as the kernel has written it; the file stays whole
//! either way.
//!
//! Limits: a local file system; the write-ahead log needs shared memory.

use std::fmt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::book::{Key, Sums};

/// Marks the file as a ledger of Sluice ("SLED").
const APPLICATION: i32 = 0x534c_4544;
/// Of the tables below.
const VERSION: i32 = 1;
/// How long a commit waits for another gateway's. It is tried again a second later anyway.
const BUSY: Duration = Duration::from_millis(500);
/// Size that the write-ahead log is cut back to.
const LOG_BYTES: i64 = 4 << 20;

/// Why a ledger cannot be opened, read or written.
#[derive(Debug)]
pub enum StoreError {
    /// The file system or SQLite said no.
    Failed(String),
    /// The file is something else.
    Foreign,
    /// A newer Sluice wrote it.
    Newer(i32),
    /// There is no file.
    Missing,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Failed(why) => f.write_str(why),
            StoreError::Foreign => f.write_str("the file is not a ledger"),
            StoreError::Newer(version) => {
                write!(
                    f,
                    "the ledger has version {version} and this sluice knows {VERSION}: a newer one wrote it"
                )
            }
            StoreError::Missing => f.write_str("there is no such file"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase) => StoreError::Foreign,
            _ => StoreError::Failed(error.to_string()),
        }
    }
}

/// A ledger's file.
pub struct Store {
    connection: Connection,
    insert: String,
}

impl Store {
    /// Opens the file at `path` for writing; it and its directories are made when they are not there, for their owner
    /// alone.
    ///
    /// # Errors
    /// See [`StoreError`]. The file is left as it was.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        let failed = |error: std::io::Error| StoreError::Failed(error.to_string());
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        let mut options = std::fs::OpenOptions::new();
        options.append(true).create(true).mode(0o600).open(path).map_err(failed)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        // Looked at and made in one transaction: another gateway may be starting on the same new file.
        let making = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let tables: i64 = making.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        match marks(&making)? {
            (APPLICATION, VERSION) => {}
            (0, 0) if tables == 0 => making.execute_batch(&schema())?,
            (APPLICATION, newer) => return Err(StoreError::Newer(newer)),
            _ => return Err(StoreError::Foreign),
        }
        making.commit()?;
        write_ahead(&connection)?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
        Ok(Store { connection, insert: insert() })
    }

    /// The rows that `day` has.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn keys(&self, day: u32) -> Result<Vec<Key>, StoreError> {
        let sql = format!("SELECT {} FROM spend WHERE day = ?1", Key::NAMES.join(", "));
        let mut statement = self.connection.prepare(&sql)?;
        let rows = statement.query_map([day], |row| {
            let mut key = Key { day, ..Key::default() };
            for (at, name) in key.names.iter_mut().enumerate() {
                *name = row.get(at)?;
            }
            Ok(key)
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Adds sums to rows, and missed exchanges to days, in one transaction.
    ///
    /// # Errors
    /// The file could not be written, and nothing was.
    pub fn add<'a>(
        &mut self,
        rows: impl Iterator<Item = (&'a Key, &'a Sums)>,
        missed: impl Iterator<Item = (u32, u64)>,
    ) -> Result<(), StoreError> {
        use rusqlite::types::Value;
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        {
            let mut insert = transaction.prepare_cached(&self.insert)?;
            for (key, sums) in rows {
                let day = std::iter::once(Value::from(key.day));
                let names = key.names.iter().map(|name| Value::from(name.clone()));
                let sums = sums.all().into_iter().map(|sum| Value::from(signed(sum)));
                insert.execute(params_from_iter(day.chain(names).chain(sums)))?;
            }
            let mut insert = transaction.prepare_cached(
                "INSERT INTO missed VALUES (?1, ?2) ON CONFLICT DO UPDATE SET exchanges = exchanges + excluded.exchanges",
            )?;
            for (day, exchanges) in missed {
                insert.execute([i64::from(day), signed(exchanges)])?;
            }
        }
        // Dropped without a commit, a transaction is rolled back.
        Ok(transaction.commit()?)
    }

    /// Forgets the days before `day`.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn forget_before(&mut self, day: u32) -> Result<(), StoreError> {
        for table in ["spend", "missed"] {
            self.connection.execute(&format!("DELETE FROM {table} WHERE day < ?1"), [day])?;
        }
        Ok(())
    }
}

/// Opens the file at `path` for reading, while a gateway may be writing it.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, StoreError> {
    if !path.is_file() {
        return Err(StoreError::Missing);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    match marks(&connection)? {
        (APPLICATION, VERSION) => Ok(connection),
        (APPLICATION, newer) => Err(StoreError::Newer(newer)),
        _ => Err(StoreError::Foreign),
    }
}

/// Turns the write-ahead log on. That needs the file for a moment to itself, and SQLite does not wait for it.
fn write_ahead(connection: &Connection) -> Result<(), StoreError> {
    let by = Instant::now() + BUSY;
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
                    && Instant::now() < by =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            done => return Ok(done?),
        }
    }
}

fn marks(connection: &Connection) -> Result<(i32, i32), StoreError> {
    let mark = |name| connection.pragma_query_value(None, name, |row| row.get(0));
    Ok((mark("application_id")?, mark("user_version")?))
}

/// Counts fit; a sum of money past nine billion dollars stays there.
fn signed(sum: u64) -> i64 {
    i64::try_from(sum).unwrap_or(i64::MAX)
}

fn schema() -> String {
    let names = Key::NAMES.map(|name| format!("{name} TEXT NOT NULL")).join(", ");
    let sums = Sums::NAMES.map(|name| format!("{name} INTEGER NOT NULL")).join(", ");
    let key = Key::NAMES.join(", ");
    format!(
        "CREATE TABLE spend (day INTEGER NOT NULL, {names}, {sums}, PRIMARY KEY (day, {key})) STRICT, WITHOUT ROWID;
         CREATE TABLE missed (day INTEGER PRIMARY KEY, exchanges INTEGER NOT NULL) STRICT;
         PRAGMA application_id = {APPLICATION};
         PRAGMA user_version = {VERSION};"
    )
}

fn insert() -> String {
    let places = vec!["?"; 1 + Key::NAMES.len() + Sums::NAMES.len()].join(", ");
    // The sum of two whole numbers that does not fit becomes a fraction, which a strict table refuses; it stays at the top.
    let most = i64::MAX;
    let sums =
        Sums::NAMES.map(|name| format!("{name} = {name} + min(excluded.{name}, {most} - {name})")).join(", ");
    format!("INSERT INTO spend VALUES ({places}) ON CONFLICT DO UPDATE SET {sums}")
}
