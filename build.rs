//! Packs the live page's files for `src/ui`: content, gzip, media type and hash of each, as a Rust table.
//!
//! The table goes to `OUT_DIR`, so nothing generated is kept in the repository and nothing can be out of date.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/ui/assets");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let assets = Path::new("src/ui/assets");
    let mut files = Vec::new();
    collect(assets, &mut files)?;
    files.sort();
    let all = files.iter().try_fold(SEED, |hash, file| {
        let hash = hashed(hash, file.to_string_lossy().as_bytes());
        fs::read(file).map(|content| hashed(hash, &content))
    })?;
    let base = format!("/ui/{all:016x}/");
    let mut table = String::from("static ASSETS: &[Asset] = &[\n");
    for (number, file) in files.iter().enumerate() {
        println!("cargo::rerun-if-changed={}", file.display());
        let name = file.strip_prefix(assets).unwrap_or(file).to_string_lossy().replace('\\', "/");
        let Some(kind) = kind(&name) else { continue };
        let mut content = fs::read(file)?;
        let (path, fixed) = match &*name {
            "index.html" => {
                content = String::from_utf8_lossy(&content).replace("{{ui}}", &base).into_bytes();
                ("/".to_owned(), false)
            }
            "favicon.svg" => ("/favicon.ico".to_owned(), false),
            _ => (format!("{base}{name}"), true),
        };
        let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        zip.write_all(&content)?;
        let (plain, gzip) = (out.join(format!("ui-{number}")), out.join(format!("ui-{number}.gz")));
        let etag = format!("{:016x}", hashed(SEED, &content));
        fs::write(&plain, &content)?;
        fs::write(&gzip, zip.finish()?)?;
        let _ = writeln!(
            table,
            "    Asset {{ path: {path:?}, kind: {kind:?}, fixed: {fixed}, etag: {etag:?}, plain: include_bytes!({plain:?}), \
             gzip: include_bytes!({gzip:?}) }},"
        );
    }
    table.push_str("];\n");
    fs::write(out.join("ui.rs"), table)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => collect(&path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}

/// The media type of a file of the page; `None` for what is not served, such as licences.
fn kind(name: &str) -> Option<&'static str> {
    Some(match name.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => return None,
    })
}

const SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a: it tells builds apart, and keeps nobody out.
fn hashed(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
