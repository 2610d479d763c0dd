use super::*;
use crate::failure::Failure;

fn volume(root: &Path, pod_uid: &str) -> Volume {
    let slot = NaiveDate::from_ymd_opt(2026, 8, 21).unwrap();
    Volume::new(root, Some("pg/"), "shop", "nightly", slot, pod_uid)
}

fn staged(root: &Path, pod_uid: &str) -> Volume {
    let scratch = tempfile::NamedTempFile::new().unwrap();
    fs::write(scratch.path(), pod_uid).unwrap();
    let volume = volume(root, pod_uid);
    volume
        .stage(scratch.path(), &archive::digest(scratch.path()).unwrap())
        .unwrap();
    volume
}

#[test]
fn a_folder_that_cannot_be_listed_is_not_an_empty_one() {
    let root = tempfile::tempdir().unwrap();
    let volume = volume(root.path(), "a");
    assert_eq!(volume.names().unwrap(), Vec::<String>::new());
    fs::create_dir_all(root.path().join("pg/shop")).unwrap();
    fs::write(root.path().join("pg/shop/nightly"), "no folder").unwrap();
    let error = volume.names().unwrap_err().to_string();
    assert!(
        error.contains("failed to list") && error.contains("pg/shop/nightly"),
        "{error}"
    );
}

#[test]
fn the_second_link_never_overwrites_the_first() {
    let root = tempfile::tempdir().unwrap();
    let (first, second) = (staged(root.path(), "a"), staged(root.path(), "b"));
    assert_eq!(first.key(), "pg/shop/nightly/20260821.tar.zst");
    assert_eq!(first.look(&|_| Ok(())).0, Stored::Absent);
    assert_eq!(first.link().unwrap(), Linked::Stored);
    assert_eq!(second.link().unwrap(), Linked::Exists);
    assert_eq!(fs::read_to_string(root.path().join(first.key())).unwrap(), "a");
    first.folders().unwrap().make_durable().unwrap();
    assert!(matches!(second.look(&|_| Ok(())).0, Stored::Damaged { .. }));
    second.sweep(true);
    assert_eq!(fs::read_dir(root.path().join("pg/shop/nightly")).unwrap().count(), 1);
}

#[test]
fn a_withdrawn_pod_can_store_no_more() {
    let root = tempfile::tempdir().unwrap();
    let (paused, other) = (staged(root.path(), "a"), volume(root.path(), "b"));
    other.withdraw("a").unwrap();
    other.withdraw("a").unwrap();
    assert_eq!(paused.link().unwrap(), Linked::Withdrawn);
    assert_eq!(other.look(&|_| Ok(())).0, Stored::Absent);
}

#[test]
fn a_copy_that_another_pod_removed_before_it_was_read_back_is_no_fault_of_the_volume() {
    let root = tempfile::tempdir().unwrap();
    let (first, second) = (staged(root.path(), "a"), staged(root.path(), "b"));
    let expected = archive::digest(&root.path().join("pg/shop/nightly/.20260821.b.unfinished")).unwrap();
    assert_eq!(second.read_back(&expected).unwrap(), Staged::Whole);
    first.sweep(true);
    assert_eq!(second.read_back(&expected).unwrap(), Staged::Withdrawn);
}

#[test]
fn only_the_owner_and_the_volumes_group_can_read_an_archive() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let volume = staged(root.path(), "a");
    volume.link().unwrap();
    for path in ["pg", "pg/shop", "pg/shop/nightly", &volume.key()] {
        let mode = fs::metadata(root.path().join(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o007, 0, "{path}: {mode:o}");
    }
}

#[test]
fn a_folder_that_is_gone_cannot_be_made_durable() {
    let root = tempfile::tempdir().unwrap();
    let volume = staged(root.path(), "a");
    volume.link().unwrap();
    fs::remove_dir_all(root.path().join("pg")).unwrap();
    let error = volume.folders().unwrap_err().to_string();
    assert!(error.starts_with("failed to open"), "{error}");
}

#[test]
fn a_server_of_files_that_is_away_passes_and_a_volume_that_refuses_does_not() {
    for (number, expected) in [
        // EIO, ESTALE, ETIMEDOUT, EHOSTDOWN, EAGAIN.
        (5, true),
        (116, true),
        (110, true),
        (112, true),
        (11, true),
        // EACCES, ENOTDIR, ENOSPC, EROFS, EDQUOT.
        (13, false),
        (20, false),
        (28, false),
        (30, false),
        (122, false),
    ] {
        assert_eq!(passes(&io::Error::from_raw_os_error(number)), expected, "{number}");
    }
}

#[test]
fn a_sweep_leaves_what_may_be_alive() {
    let root = tempfile::tempdir().unwrap();
    let volume = staged(root.path(), "b");
    let folder = root.path().join("pg/shop/nightly");
    let long_ago = SystemTime::now() - ABANDONED_AFTER * 2;
    for (name, old) in [
        (".20260821.a.unfinished", false),
        (".20260821.c.unfinished", true),
        (".20260820.a.unfinished", true),
        (".20260822.a.unfinished", true),
        ("20260820.tar.zst", true),
        (".other", true),
    ] {
        let file = File::create(folder.join(name)).unwrap();
        if old {
            file.set_modified(long_ago).unwrap();
        }
    }
    volume.sweep(false);
    let left = || {
        let mut names: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        left(),
        [
            ".20260821.a.unfinished",
            ".20260822.a.unfinished",
            ".other",
            "20260820.tar.zst"
        ]
    );
    volume.sweep(true);
    assert_eq!(left(), [".20260822.a.unfinished", ".other", "20260820.tar.zst"]);
    assert!(volume.names().unwrap().contains(&"20260820.tar.zst".to_owned()));
}

#[test]
fn when_no_run_is_left_every_unfinished_file_goes_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let stored = staged(root.path(), "b");
    stored.link().unwrap();
    let folder = root.path().join("pg/shop/nightly");
    for name in [".20260822.a.unfinished", ".other"] {
        File::create(folder.join(name)).unwrap();
    }
    let paused = staged(root.path(), "c");
    stored.remove_unfinished().unwrap();
    let mut names = stored.names().unwrap();
    names.sort();
    assert_eq!(names, [".other", "20260821.tar.zst"]);
    assert_eq!(paused.link().unwrap(), Linked::Withdrawn);
    assert!(volume(&root.path().join("none"), "a").remove_unfinished().is_ok());
}

#[test]
fn what_is_not_the_archive_that_was_checked_is_refused_and_no_fault_of_the_volume() {
    let root = tempfile::tempdir().unwrap();
    let scratch = tempfile::NamedTempFile::new().unwrap();
    fs::write(scratch.path(), "x").unwrap();
    let wrong = Digest {
        sha256: "0".repeat(64),
        bytes: 1,
    };
    let refused = |path: &Path| {
        let staged = volume(root.path(), "a").stage(path, &wrong);
        Failure::of_staging(staged.unwrap_err())
    };
    let changed = refused(scratch.path());
    assert_eq!(
        (changed.category(), changed.is_passing()),
        ("ArchiveDamaged", false),
        "{changed}"
    );
    // What is no file cannot be read.
    let unread = refused(root.path());
    assert_eq!(
        (unread.category(), unread.is_passing()),
        ("ScratchFailed", false),
        "{unread}"
    );
}
