//! Safety 5 and 6: where the spool may lie, and which journal is believed.

use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, PermissionsExt, chown, symlink},
};

use super::*;

fn refused(path: &Path) -> &'static str {
    match Spool::open(path, None) {
        Err(spool::Error::Insecure { why, .. }) => why,
        other => panic!("{}: {other:?}", path.display()),
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_new_spool_is_ours_alone() {
    let bench = Bench::new();
    assert_eq!(fs::metadata(bench.spool.path()).unwrap().mode() & 0o7777, 0o700);
    assert!(bench.spool.free().unwrap() > 0);
}

#[test]
fn a_spool_that_others_can_reach_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("spool");
    fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
    for open in [0o777, 0o1777, 0o755, 0o770, 0o710, 0o720, 0o740, 0o701, 0o702, 0o704] {
        mode(&path, open);
        assert_eq!(refused(&path), "others have access to it, its mode must be 0700");
    }
    mode(&path, 0o700);
    Spool::open(&path, None).unwrap();
}

#[test]
fn a_spool_below_a_directory_that_others_can_write_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let above = home.path().join("above");
    fs::create_dir(&above).unwrap();
    for open in [0o777, 0o775, 0o757] {
        mode(&above, open);
        assert_eq!(refused(&above.join("spool")), "others can write to it");
        assert!(!above.join("spool").exists());
    }
    mode(&above, 0o1777);
    Spool::open(&above.join("spool"), None).expect("in a sticky directory nobody can move what is ours");
}

#[test]
fn a_symbolic_link_is_no_spool_but_may_lie_above_it() {
    let home = tempfile::tempdir().unwrap();
    fs::DirBuilder::new().mode(0o700).create(home.path().join("real")).unwrap();
    symlink("real", home.path().join("link")).unwrap();
    assert_eq!(refused(&home.path().join("link")), "it is not a directory");
    let spool = Spool::open(&home.path().join("link/spool"), None).unwrap();
    assert_eq!(spool.path(), fs::canonicalize(home.path()).unwrap().join("real/spool"));
}

#[test]
fn a_spool_of_another_owner_is_refused() {
    if !is_root() {
        return; // Only root can give a directory away.
    }
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("spool");
    fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
    chown(&path, Some(1), None).unwrap();
    assert_eq!(refused(&path), "it belongs to another user");
    assert_eq!(refused(&path.join("below")), "it belongs to another user");
}

#[test]
fn a_name_that_leads_up_is_no_spool() {
    let home = tempfile::tempdir().unwrap();
    assert_eq!(refused(&home.path().join("..")), "it has no name of its own");
    assert!(Spool::open(&home.path().join("missing/spool"), None).is_err());
}

#[tokio::test]
async fn a_journal_that_cannot_be_ours_is_dropped() {
    type Meddle = fn(&Bench);
    let cases: [(&str, Meddle); 7] = [
        ("without the owner's write bit", |bench| mode(&bench.journal(), 0o400)),
        ("of another version", |bench| {
            let mut bytes = fs::read(bench.journal()).unwrap();
            bytes[7] += 1;
            fs::write(bench.journal(), bytes).unwrap();
        }),
        ("larger than 1 MiB", |bench| {
            fs::OpenOptions::new().append(true).open(bench.journal()).unwrap().write_all(&vec![0; MIB]).unwrap();
        }),
        ("with another name", |bench| rustix::fs::link(bench.journal(), bench.home.path().join("other")).unwrap()),
        ("a symbolic link", |bench| {
            fs::rename(bench.journal(), bench.home.path().join("moved")).unwrap();
            symlink(bench.home.path().join("moved"), bench.journal()).unwrap();
        }),
        ("of another blob", |bench| {
            let mut bytes = fs::read(bench.journal()).unwrap();
            bytes[8] ^= 1;
            fs::write(bench.journal(), bytes).unwrap();
        }),
        ("of another owner", |bench| {
            if is_root() {
                chown(bench.journal(), Some(1), None).unwrap();
            } else {
                fs::remove_file(bench.journal()).unwrap();
            }
        }),
    ];
    for (name, meddle) in cases {
        let bench = Bench::new();
        bench.interrupted();
        let before = fs::File::open(bench.data()).unwrap();
        meddle(&bench);
        assert_eq!(bench.entry().resumed(), 0, "{name}");
        assert_eq!(bench.finish().await, bench.bytes, "{name}");
        assert_ne!(before.metadata().unwrap().ino(), inode(&bench.data()), "{name}");
    }
}

#[test]
fn isolated_namespaces_do_not_share_entries() {
    let bench = Bench::new();
    bench.interrupted();
    let [one, other] = ["k8s.io", "default"].map(|name| Spool::open(bench.spool.path(), Some(&name.parse().unwrap())).unwrap());
    let entry = one.try_entry(&bench.blob).unwrap().unwrap();
    assert_eq!(entry.resumed(), 0);
    write(&entry, &bench.bytes, 0, MIB);
    assert_eq!(other.try_entry(&bench.blob).unwrap().unwrap().resumed(), 0);
    drop(entry);
    assert_eq!(one.try_entry(&bench.blob).unwrap().unwrap().resumed(), MIB as u64);
    assert_eq!(bench.entry().resumed(), 2 * MIB as u64);
}

#[test]
fn a_spool_that_was_moved_is_used_where_it_is_and_not_what_took_its_place() {
    let bench = Bench::new();
    let moved = bench.home.path().join("moved");
    fs::rename(bench.spool.path(), &moved).unwrap();
    fs::create_dir(bench.spool.path()).unwrap();
    bench.interrupted();
    assert!(names(bench.spool.path()).is_empty());
    assert_eq!(names(&moved).len(), 3);
    bench.spool.sweep(std::time::Duration::ZERO, &[bench.blob.digest]).unwrap();
    bench.spool.forget(bench.blob.digest).unwrap();
    assert!(names(&moved).is_empty());
}
