//! The table of damages: each row is refused by the check that is there for it.

use crate::harness::{Database, Harness, SMALL, password};
use std::{
    fs,
    io::{Read, Write},
    path::Path,
    sync::{Arc, Mutex},
};
use tokio::process::Command;
use valerix_backup::{
    archive::{self, Error, Writer},
    client,
    dump::{self, SharedWriter, Taken},
    manifest::{Manifest, Member, Owner},
    member::{Form, Written},
};

const FILE: &str = "damage.dump";

struct Material {
    folder: tempfile::TempDir,
    client: client::Client,
    /// A real dump, about twenty kilobytes.
    dump: Vec<u8>,
}

async fn material() -> Material {
    let database = Database::new("damage", SMALL).await;
    let harness = Harness::new(&[("damage", &database.name)]).await;
    let client = client::installed(Path::new("/usr/lib/postgresql"))
        .unwrap()
        .pop()
        .unwrap();
    let dumped = Command::new(client.program("pg_dump"))
        .args(["--format=custom", "--compress=0", "--host", harness.server.get_host()])
        .args(["--port", &harness.server.get_port().to_string()])
        .args(["--username", harness.server.get_username(), &database.name])
        .env("PGPASSWORD", password())
        .output()
        .await
        .unwrap();
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    database.drop().await;
    Material {
        folder: tempfile::tempdir().unwrap(),
        client,
        dump: dumped.stdout,
    }
}

impl Material {
    /// An archive that is being made, under this name.
    fn writer(&self, name: &str) -> SharedWriter {
        let writer = Writer::create(&self.folder.path().join(name), 1_787_000_000).unwrap();
        Arc::new(Mutex::new(writer))
    }

    /// Whatever it is, it goes into the archive and is read on its way there.
    async fn take(&self, archive: &SharedWriter, dump: &[u8]) -> Result<Taken, dump::Error> {
        let path = self.folder.path().join("source");
        fs::write(&path, dump).unwrap();
        let source = fs::File::open(&path).unwrap();
        let form = Form::plain(3);
        dump::take("databases[0] damage", &self.client, source, archive, &form, FILE).await
    }
}

fn manifest(written: &Written) -> Manifest {
    Manifest {
        format: 1,
        policy: Owner {
            namespace: "shop".into(),
            name: "nightly".into(),
            uid: "u".into(),
        },
        slot: chrono::NaiveDate::from_ymd_opt(2026, 8, 21).unwrap(),
        run_id: "pod".into(),
        created_at: chrono::DateTime::from_timestamp(1_787_000_000, 0).unwrap(),
        runner_version: "0".into(),
        encryption: None,
        databases: vec![Member {
            name: "damage".into(),
            file: FILE.into(),
            sha256: written.plain.sha256.clone(),
            bytes: written.plain.bytes,
            tables: 1,
            sealed: None,
            globals: None,
            rows: Default::default(),
            server_version: "15".into(),
            client_version: "15".into(),
            started_at: chrono::DateTime::from_timestamp(1_787_000_000, 0).unwrap(),
            duration_milliseconds: 1,
        }],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_dump_is_refused_although_its_list_reads() {
    let material = material().await;
    let whole = &material.dump;
    let archive = material.writer("a.tar.zst");
    let taken = material.take(&archive, whole).await.unwrap();
    assert_eq!((taken.contents.tables, taken.contents.rows["public.t"]), (1, 500));
    let source = archive::digest(&material.folder.path().join("source")).unwrap();
    assert_eq!(taken.written.plain, source, "what was archived is what was checked");
    let percent = |percent: usize| whole.len() * percent / 100;
    for length in [0, percent(20), percent(60), percent(90), percent(99), whole.len() - 1] {
        let error = material.take(&archive, &whole[..length]).await.unwrap_err();
        assert!(
            error.to_string().starts_with("databases[0] damage: pg_restore"),
            "{length}: {error}"
        );
    }
}

/// What was written before and is not kept leaves nothing behind, however much it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_not_kept_is_none() {
    let material = material().await;
    let archive = material.writer("a.tar.zst");
    let longer = [&material.dump[..], &vec![b'x'; 1 << 20]].concat();
    for dump in [&material.dump[..1000], &longer] {
        // Cut, or with something behind its end: only the first is damage to pg_restore, and neither is kept.
        let _ = material.take(&archive, dump).await;
    }
    let taken = material.take(&archive, &material.dump).await.unwrap();
    let manifest = manifest(&taken.written);
    let mut writer = archive.lock().unwrap();
    writer.keep(&taken.written.appended).unwrap();
    let _ = writer.begin("other.dump", None).unwrap().write_all(&longer);
    writer.finish(&manifest).unwrap();
    let path = material.folder.path().join("a.tar.zst");
    assert_eq!(archive::verify(&path).unwrap().0, manifest);
    let members = members(&fs::read(&path).unwrap());
    assert_eq!(members.len(), 2);
    assert!(members[0] == (FILE.into(), material.dump.clone()));
}

/// What an archive holds, in order.
fn members(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut tar = tar::Archive::new(zstd::Decoder::new(archive).unwrap());
    let read = |entry: std::io::Result<tar::Entry<_>>| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (name, content)
    };
    tar.entries().unwrap().map(read).collect()
}

fn compressed(tar: &[u8]) -> Vec<u8> {
    zstd::encode_all(tar, 3).unwrap()
}

/// An archive of one frame, as runners made them before they wrote members as these arrive.
pub fn rebuilt(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    compressed(&builder.into_inner().unwrap())
}

/// The same archive as the table makes one: a row is refused for its damage, and not for how it was made.
pub fn undamaged(good: &[u8]) -> Vec<u8> {
    let members = members(good);
    let members: Vec<_> = members
        .iter()
        .map(|(name, content)| (name.as_str(), content.as_slice()))
        .collect();
    rebuilt(&members)
}

/// The table: an archive of one dump, damaged in every way.
pub fn damages(good: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let members = members(good);
    let [(name, dump), (last, text)] = members.as_slice() else {
        panic!("one dump and the manifest")
    };
    assert_eq!(last, "manifest.json");
    let name = name.as_str();
    let tar = zstd::decode_all(good).unwrap();
    let mut flipped = dump.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let mut flipped_archive = good.to_vec();
    let middle = flipped_archive.len() / 2;
    flipped_archive[middle] ^= 1;
    let mut trailing = good.to_vec();
    trailing.write_all(b"more").unwrap();
    // An encrypted member whose plain name would lead out of the folder that it is decrypted into.
    let mut leading_out: serde_json::Value = serde_json::from_slice(text).unwrap();
    let member = &mut leading_out["databases"][0];
    member["sealed"] = serde_json::json!({"file": name, "sha256": member["sha256"], "bytes": member["bytes"]});
    member["file"] = format!("../{name}").into();
    let leading_out = serde_json::to_vec(&leading_out).unwrap();
    let cut_dump = &dump[..dump.len() * 6 / 10];
    let member_end = 512 + dump.len().div_ceil(512) * 512;

    vec![
        ("zstd cut in the middle", good[..good.len() / 2].to_vec()),
        ("zstd cut by one byte", good[..good.len() - 1].to_vec()),
        ("a bit flipped in the archive", flipped_archive),
        ("bytes after the end", trailing),
        ("no file at all", Vec::new()),
        ("tar cut inside a member", compressed(&tar[..member_end / 2])),
        ("tar cut at a member's boundary", compressed(&tar[..member_end])),
        (
            "a bit flipped in an uncompressed dump",
            rebuilt(&[(name, &flipped), ("manifest.json", text)]),
        ),
        (
            "a member of no length",
            rebuilt(&[(name, b""), ("manifest.json", text)]),
        ),
        ("a member is missing", rebuilt(&[("manifest.json", text)])),
        (
            "a member too many",
            rebuilt(&[(name, dump), ("other.dump", dump), ("manifest.json", text)]),
        ),
        (
            "the manifest is not last",
            rebuilt(&[("manifest.json", text), (name, dump)]),
        ),
        (
            "the manifest is cut",
            rebuilt(&[(name, dump), ("manifest.json", &text[..text.len() - 2])]),
        ),
        (
            "a name that leads out",
            rebuilt(&[(name, dump), ("manifest.json", &leading_out)]),
        ),
        ("a cut dump", rebuilt(&[(name, cut_dump), ("manifest.json", text)])),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damaged_archive_is_refused() {
    let material = material().await;
    let folder = material.folder.path();
    let archive = material.writer("a.tar.zst");
    let taken = material.take(&archive, &material.dump).await.unwrap();
    let manifest = manifest(&taken.written);
    let mut writer = archive.lock().unwrap();
    writer.keep(&taken.written.appended).unwrap();
    writer.finish(&manifest).unwrap();
    let path = folder.join("a.tar.zst");
    let (read_back, digest) = archive::verify(&path).unwrap();
    assert_eq!(read_back, manifest);
    let good = fs::read(&path).unwrap();
    assert_eq!(digest.bytes, good.len() as u64);
    let damaged = folder.join("damaged.tar.zst");
    for (row, bytes) in damages(&good) {
        fs::write(&damaged, bytes).unwrap();
        let error = archive::verify(&damaged).err();
        assert!(matches!(error, Some(Error::Damaged { .. })), "{row}: {error:?}");
    }
    // The rebuilding itself is sound: without damage it is accepted.
    fs::write(&damaged, undamaged(&good)).unwrap();
    archive::verify(&damaged).unwrap();
}

/// It is written by us and not by the library: every byte of it counts.
#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_a_members_header_can_be_another_one() {
    /// What stands around it in its frame, and itself.
    const FRAME: usize = 4 + 1 + 4 + 3 + 512 + 4;
    let material = material().await;
    let archive = material.writer("a.tar.zst");
    let taken = material.take(&archive, &material.dump).await.unwrap();
    let manifest = manifest(&taken.written);
    let mut writer = archive.lock().unwrap();
    writer.keep(&taken.written.appended).unwrap();
    writer.finish(&manifest).unwrap();
    let good = fs::read(material.folder.path().join("a.tar.zst")).unwrap();
    for place in 0..FRAME {
        let mut bytes = good.clone();
        bytes[place] ^= 1;
        let read = archive::scan(&*bytes, &mut |_, _| Ok(()));
        assert!(matches!(read, Err(Error::Damaged { .. })), "{place}: {read:?}");
    }
}
