//! A backup, looked into: whether the state that it holds is whole, and knows the objects that it should know.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

use crate::backup_archive::{self, BackupKey, Manifest};
use crate::error::Result;
use crate::project::Project;

/// The length of a UID as Kubernetes writes it (RFC 9562, section 4).
const UID: usize = 36;
/// Archives lie in archives where a distribution makes its own: k0s and MicroK8s.
const DEEPEST: u32 = 3;

/// What was found in a backup.
#[derive(Debug)]
pub struct Verified {
    /// What it says of itself.
    pub manifest: Manifest,
    /// The databases in it, each with what was checked.
    pub databases: Vec<String>,
    /// Objects of the manifest that no database knows, as the manifest has them.
    pub missing: Vec<String>,
}

/// Opens a backup, and looks for each object of its manifest in the databases that it holds. Nothing is changed.
///
/// # Errors
/// It is damaged, does not open with this key, or holds a database that is not whole.
pub fn verify_backup(project: &Project, from: &Path, key: &BackupKey) -> Result<Verified> {
    let state = project.private_file()?;
    let manifest = backup_archive::read(from, key, state.path())?;
    let mut found = Found { databases: Vec::new(), uids: BTreeSet::new(), project };
    let archive = File::open(state.path()).context("cannot open what was in the backup")?;
    found.archive(&mut BufReader::new(archive), 0).with_context(|| format!("{} is not whole", from.display()))?;
    let known = |object: &&String| object.split(' ').next().is_some_and(|uid| found.uids.contains(uid));
    let missing = manifest.objects.iter().filter(|object| !known(object)).cloned().collect();
    Ok(Verified { databases: found.databases, missing, manifest })
}

struct Found<'a> {
    databases: Vec<String>,
    uids: BTreeSet<String>,
    project: &'a Project,
}

impl Found<'_> {
    fn archive(&mut self, packed: &mut dyn Read, depth: u32) -> anyhow::Result<()> {
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed));
        for entry in archive.entries()? {
            let mut entry = entry?;
            let name = entry.path()?.display().to_string();
            if !entry.header().entry_type().is_file() {
                continue;
            }
            if name.ends_with(".tar.gz") && depth < DEEPEST {
                self.archive(&mut entry, depth + 1)?;
                continue;
            }
            let mut file = self.project.private_file()?;
            std::io::copy(&mut entry, file.file())?;
            self.file(&name, file.file()).with_context(|| name.clone())?;
        }
        Ok(())
    }

    fn file(&mut self, name: &str, file: &mut File) -> anyhow::Result<()> {
        let size = file.metadata()?.len();
        let mut head = [0; 100];
        file.seek(SeekFrom::Start(0))?;
        let read = file.read(&mut head)?;
        if head.starts_with(b"SQLite format 3\0") && read == head.len() {
            // sqlite.org/fileformat.html, 1.3: the size of a page at 16, and how many there are at 28.
            let page = match u16::from_be_bytes([head[16], head[17]]) {
                1 => 65_536,
                other => u64::from(other),
            };
            let pages = u64::from(u32::from_be_bytes([head[28], head[29], head[30], head[31]]));
            if pages * page != size {
                bail!("the database of SQLite has {size} bytes, and should have {}", pages * page);
            }
            self.databases.push(format!("{name}: SQLite, {pages} pages"));
        } else if size % 512 == 32 && head.get(16..20) == Some(&0xED0C_DAED_u32.to_le_bytes()) {
            // etcd puts the digest of a snapshot behind it (etcd.io, "Disaster recovery"); what is before it is bbolt's, whose
            // pages begin with a header of 16 bytes, and the first two with this magic behind it (bbolt, db.go).
            file.seek(SeekFrom::Start(0))?;
            let mut hash = Sha256::new();
            std::io::copy(&mut (&mut *file).take(size - 32), &mut hash)?;
            let mut told = [0; 32];
            file.read_exact(&mut told)?;
            if hash.finalize().as_slice() != told {
                bail!("the snapshot of etcd is not what its digest says");
            }
            self.databases.push(format!("{name}: etcd, {size} bytes, its digest is right"));
        }
        file.seek(SeekFrom::Start(0))?;
        self.uids(BufReader::new(file))
    }

    /// Gathers all that looks like a UID; values stand in both databases as they are.
    fn uids(&mut self, mut from: impl Read) -> anyhow::Result<()> {
        let mut buffer = vec![0; 1 << 20];
        let mut kept = 0;
        loop {
            let read = from.read(&mut buffer[kept..])?;
            let all = &buffer[..kept + read];
            self.uids.extend(
                all.windows(UID).filter(|window| is_uid(window)).map(|uid| String::from_utf8_lossy(uid).into_owned()),
            );
            if read == 0 {
                return Ok(());
            }
            // One may be cut by the end of what was read.
            let tail = all.len().min(UID - 1);
            let from = all.len() - tail;
            buffer.copy_within(from..from + tail, 0);
            kept = tail;
        }
    }
}

fn is_uid(bytes: &[u8]) -> bool {
    let dash = |at: &usize| bytes[*at] == b'-';
    bytes[8] == b'-'
        && [13, 18, 23].iter().all(dash)
        && bytes
            .iter()
            .enumerate()
            .all(|(at, byte)| matches!(at, 8 | 13 | 18 | 23) || byte.is_ascii_digit() || (b'a'..=b'f').contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const OBJECTS: [&str; 2] = ["0b54a8ac-41ba-4f5a-9d3e-5f1f6c1d8a11", "f0e1d2c3-b4a5-4687-9788-a9bacbdcedfe"];

    fn snapshot(digest: bool) -> Vec<u8> {
        let mut bytes = vec![0; 512 * 4096];
        bytes[16..20].copy_from_slice(&0xED0C_DAED_u32.to_le_bytes());
        // One over the end of what is read at once.
        for (uid, at) in OBJECTS.iter().zip([5000, (1 << 20) - 7]) {
            bytes[at..at + UID].copy_from_slice(uid.as_bytes());
        }
        let mut told = Sha256::digest(&bytes).to_vec();
        told[0] ^= u8::from(!digest);
        [bytes, told].concat()
    }

    fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, *bytes).unwrap();
        }
        let mut packer = tar.into_inner().unwrap();
        packer.flush().unwrap();
        packer.finish().unwrap()
    }

    fn look(dir: &Path, mut bytes: &[u8]) -> anyhow::Result<Vec<String>> {
        let loaded = bramble_spec::load(Path::new("shelf.yaml"), include_str!("../../../examples/smallest.yaml"));
        let cluster = loaded.clusters.into_iter().next().unwrap();
        let project = Project { cluster, dir: dir.to_owned(), home: None, bundle: None, user_cache: None };
        let mut found = Found { databases: Vec::new(), uids: BTreeSet::new(), project: &project };
        found.archive(&mut bytes, 0)?;
        assert_eq!(found.databases.len(), 1, "{:?}", found.databases);
        Ok(found.uids.into_iter().collect())
    }

    #[test]
    fn a_snapshot_of_etcd_is_known_by_its_digest_and_its_objects_are_found_also_in_an_archive_within() {
        let dir = tempfile::tempdir().unwrap();
        let whole = packed(&[("./pki/ca.crt", b"-----"), ("./etcd.db", &snapshot(true))]);
        assert_eq!(look(dir.path(), &whole).unwrap(), OBJECTS);
        let within = packed(&[("./k0s_backup_1.tar.gz", &packed(&[("etcd-snapshot.db", &snapshot(true))]))]);
        assert_eq!(look(dir.path(), &within).unwrap(), OBJECTS);
        let error = look(dir.path(), &packed(&[("./etcd.db", &snapshot(false))])).unwrap_err();
        assert!(
            format!("{error:#}").contains("etcd.db: the snapshot of etcd is not what its digest says"),
            "{error:#}"
        );
    }

    #[test]
    fn a_database_of_sqlite_that_was_cut_off_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = vec![0; 3 * 4096];
        bytes[..16].copy_from_slice(b"SQLite format 3\0");
        bytes[16..18].copy_from_slice(&4096_u16.to_be_bytes());
        bytes[28..32].copy_from_slice(&3_u32.to_be_bytes());
        bytes[4200..4236].copy_from_slice(OBJECTS[0].as_bytes());
        assert_eq!(look(dir.path(), &packed(&[("./sqlite/state.db", &bytes)])).unwrap(), OBJECTS[..1]);
        let error = look(dir.path(), &packed(&[("./sqlite/state.db", &bytes[..8192])])).unwrap_err();
        assert!(format!("{error:#}").contains("has 8192 bytes, and should have 12288"), "{error:#}");
    }
}
