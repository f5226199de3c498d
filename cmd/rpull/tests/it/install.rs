//! `rpull install` and `uninstall`: every state of the directory that a run, a cut-off run or a package upgrade leaves, and that there
//! is a whole `ctr` in each.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    door::{RPULL, link, script},
    outcome,
};

const NEW: &str = ".ctr.rpull-new";

/// A directory that may have a `ctr`.
struct Prefix(tempfile::TempDir);

impl Prefix {
    /// With a real `ctr`, which says its name.
    fn new() -> Self {
        let prefix = Self::empty();
        prefix.upgrade("old");
        prefix
    }

    fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// As a package manager puts a file in place.
    fn upgrade(&self, version: &str) {
        script(&self.path("ctr.dpkg-new"), &format!("echo {version}"));
        fs::rename(self.path("ctr.dpkg-new"), self.path("ctr")).unwrap();
    }

    fn command(&self, verb: &str, flags: &[&str]) -> Command {
        let mut command = crate::rpull();
        command.arg(verb).arg("--prefix").arg(self.0.path()).args(flags);
        command
    }

    /// Exit code 0, nothing on stderr, and `done`; what it said.
    #[track_caller]
    fn does(&self, verb: &str, flags: &[&str]) -> String {
        let (code, stdout, stderr) = outcome(&mut self.command(verb, flags));
        assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
        stdout.strip_suffix("done\n").expect("done is the last line").replace(self.0.path().to_str().unwrap(), "DIR")
    }

    /// What the `ctr` of the directory does with another command, and that `rpull` is ours.
    #[track_caller]
    fn assert_ours_over(&self, real: &str) {
        assert_eq!(self.say("ctr"), real);
        let help = Command::new(self.path("ctr")).args(["-n", "x", "rpull", "--help"]).output().unwrap();
        assert!(String::from_utf8_lossy(&help.stdout).contains("ctr [GLOBALS] rpull"));
        assert_eq!(self.names(), ["ctr", "ctr.real"]);
    }

    fn say(&self, name: &str) -> String {
        let output = Command::new(self.path(name)).env("PATH", "/nonexistent").args(["images", "ls"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn inode(path: &Path) -> u64 {
    path.symlink_metadata().unwrap().ino()
}

#[test]
fn install_takes_ctrs_place_and_uninstall_gives_it_back() {
    let prefix = Prefix::new();
    let before = inode(&prefix.path("ctr"));
    assert_eq!(prefix.does("install", &[]), format!("DIR/ctr.real is the ctr that was there\nDIR/ctr is a link to {RPULL}\n"));
    prefix.assert_ours_over("old");
    // The same file, not a copy.
    assert_eq!(inode(&prefix.path("ctr.real")), before);
    assert_eq!(fs::read_link(prefix.path("ctr")).unwrap(), Path::new(RPULL));

    let (ours, real) = (inode(&prefix.path("ctr")), inode(&prefix.path("ctr.real")));
    assert_eq!(prefix.does("install", &[]), "DIR/ctr is rpull already\n");
    assert_eq!((inode(&prefix.path("ctr")), inode(&prefix.path("ctr.real"))), (ours, real));
    prefix.assert_ours_over("old");

    assert_eq!(prefix.does("uninstall", &[]), "DIR/ctr is the real one again\n");
    assert_eq!((prefix.names(), inode(&prefix.path("ctr"))), (vec!["ctr".to_owned()], before));
    assert_eq!(prefix.say("ctr"), "old");
    assert_eq!(prefix.does("uninstall", &[]), "DIR/ctr is not rpull's, and stays\n");
    assert_eq!(prefix.say("ctr"), "old");
}

#[test]
fn a_ctr_that_a_package_upgrade_put_back_replaces_the_one_that_was_kept() {
    let prefix = Prefix::new();
    prefix.does("install", &[]);
    for version in ["new", "newer"] {
        prefix.upgrade(version);
        assert_eq!(prefix.say("ctr"), version);
        prefix.does("install", &[]);
        prefix.assert_ours_over(version);
    }
    prefix.upgrade("newest");
    // The upgrade's is the real one; what is kept is not put over it.
    assert_eq!(prefix.does("uninstall", &[]), "DIR/ctr is not rpull's, and stays; DIR/ctr.real stays beside it\n");
    assert_eq!(prefix.say("ctr"), "newest");
}

#[test]
fn without_a_ctr_the_name_is_taken_and_given_up_again() {
    let prefix = Prefix::empty();
    assert_eq!(prefix.does("install", &[]), format!("DIR/ctr is a link to {RPULL}\n"));
    assert_eq!(prefix.names(), ["ctr"]);
    // The real one is the next on PATH, or there is none.
    let elsewhere = Prefix::new();
    let output = Command::new(prefix.path("ctr")).env("PATH", elsewhere.0.path()).arg("images").output().unwrap();
    assert_eq!(output.stdout, b"old\n");
    let output = Command::new(prefix.path("ctr")).env("PATH", "").arg("images").output().unwrap();
    assert_eq!(output.status.code(), Some(127));

    assert_eq!(prefix.does("install", &[]), "DIR/ctr is rpull already\n");
    assert_eq!(prefix.does("uninstall", &[]), "DIR/ctr is gone; there was none before\n");
    assert_eq!(prefix.names(), [""; 0]);
    assert_eq!(prefix.does("uninstall", &[]), "DIR/ctr is not there\n");
}

/// Every way to have us there, made by hand or by another version, is known as ours, replaced, and taken out.
#[test]
fn ours_is_told_by_the_file_not_by_the_link() {
    let home = tempfile::tempdir().unwrap();
    let other = home.path().join("rpull-of-another-day");
    fs::copy(RPULL, &other).unwrap();
    for how in ["copy", "hard link", "link elsewhere", "stripped"] {
        let prefix = Prefix::empty();
        script(&prefix.path("ctr.real"), "echo old");
        let ctr = prefix.path("ctr");
        match how {
            "copy" => drop(fs::copy(RPULL, &ctr).unwrap()),
            "hard link" => link(&other, &ctr),
            "link elsewhere" => symlink(&other, &ctr).unwrap(),
            _ => assert!(Command::new("strip").arg("-o").arg(&ctr).arg(RPULL).status().unwrap().success()),
        }
        prefix.assert_ours_over("old");
        assert_eq!(prefix.does("install", &[]), format!("DIR/ctr is a link to {RPULL}\n"), "{how}");
        prefix.assert_ours_over("old");
        fs::remove_file(&ctr).unwrap();
        fs::copy(&other, &ctr).unwrap();
        assert_eq!(prefix.does("uninstall", &[]), "DIR/ctr is the real one again\n", "{how}");
        assert_eq!((prefix.names(), prefix.say("ctr")), (vec!["ctr".to_owned()], "old".to_owned()));
    }
}

#[test]
fn a_copy_needs_nothing_of_where_it_came_from() {
    let prefix = Prefix::new();
    let home = tempfile::tempdir().unwrap();
    let rpull = home.path().join("rpull");
    fs::copy(RPULL, &rpull).unwrap();
    let install = |program: &Path| {
        let mut command = Command::new(program);
        command.env_clear().arg("install").arg("--copy").arg("--prefix").arg(prefix.0.path());
        outcome(&mut command)
    };
    for _ in 0..2 {
        assert_eq!(install(&rpull).0, 0);
        prefix.assert_ours_over("old");
        assert_eq!(prefix.path("ctr").symlink_metadata().unwrap().permissions().mode() & 0o7777, 0o755);
    }
    drop(home);
    prefix.assert_ours_over("old");
    // By the copy itself: it is there already.
    let mut itself = Command::new(prefix.path("ctr"));
    itself.env_clear().args(["rpull", "install", "--prefix"]).arg(prefix.0.path());
    assert_eq!(outcome(&mut itself).1, format!("{} is rpull already\ndone\n", prefix.path("ctr").display()));
    prefix.assert_ours_over("old");
    prefix.does("uninstall", &[]);
    assert_eq!((prefix.names(), prefix.say("ctr")), (vec!["ctr".to_owned()], "old".to_owned()));
}

/// An upgrade of rpull replaces the file behind its path, or the directory behind a link on the way: the link is to the path it is
/// called by.
#[test]
fn the_link_survives_an_upgrade_of_rpull() {
    let prefix = Prefix::new();
    let home = tempfile::tempdir().unwrap();
    for version in ["1", "2"] {
        fs::create_dir(home.path().join(version)).unwrap();
        fs::copy(RPULL, home.path().join(version).join("rpull")).unwrap();
    }
    let current = home.path().join("current");
    symlink("1", &current).unwrap();
    let mut command = Command::new("/bin/sh");
    command.env_clear().env("PATH", format!("/nonexistent:{}", current.display()));
    command.args(["-c", "rpull install --prefix \"$0\""]).arg(prefix.0.path());
    assert_eq!(outcome(&mut command).0, 0);
    assert_eq!(fs::read_link(prefix.path("ctr")).unwrap(), current.join("rpull"));
    fs::remove_file(&current).unwrap();
    symlink("2", &current).unwrap();
    fs::remove_dir_all(home.path().join("1")).unwrap();
    prefix.assert_ours_over("old");
}

/// What a run leaves that is cut off behind each of its steps; the next does the rest, and `uninstall` takes everything back.
#[test]
fn a_run_that_was_cut_off_at_any_step_is_finished_by_the_next() {
    type Step = fn(&Prefix);
    let second_name: Step = |prefix| link(&prefix.path("ctr"), &prefix.path(NEW));
    let kept: Step = |prefix| link(&prefix.path("ctr"), &prefix.path("ctr.real"));
    let kept_before: Step = |prefix| script(&prefix.path("ctr.real"), "echo older");
    let new_link: Step = |prefix| symlink(RPULL, prefix.path(NEW)).unwrap();
    let half_a_copy: Step = |prefix| fs::write(prefix.path(NEW), &fs::read(RPULL).unwrap()[..100]).unwrap();
    let renamed: Step = |prefix| fs::rename(prefix.path(NEW), prefix.path("ctr")).unwrap();
    for (state, steps) in [
        ("nothing", &[][..]),
        ("second name", &[second_name]),
        ("second name, an older one kept", &[kept_before, second_name]),
        ("kept", &[kept]),
        ("kept, and the rename of one name to another of the same file", &[kept, second_name]),
        ("link made", &[kept, new_link]),
        ("copy begun", &[kept, half_a_copy]),
        ("link renamed", &[kept, new_link, renamed]),
    ] {
        for verb in ["install", "uninstall"] {
            let prefix = Prefix::new();
            for step in steps {
                step(&prefix);
                // There is a whole one at every moment.
                assert_eq!(prefix.say("ctr"), "old", "{state}");
            }
            prefix.does(verb, &[]);
            if verb == "install" {
                prefix.assert_ours_over("old");
                prefix.does("uninstall", &[]);
            }
            assert_eq!(prefix.say("ctr"), "old", "{state} {verb}");
            let left: &[&str] = if state.contains("older") && verb == "uninstall" { &["ctr", "ctr.real"] } else { &["ctr"] };
            assert_eq!(prefix.names(), left, "{state} {verb}");
        }
    }
}

/// rpull was removed under its link: the real one is not lost to it.
#[test]
fn a_link_that_leads_nowhere_is_no_ctr_to_keep() {
    let prefix = Prefix::empty();
    script(&prefix.path("ctr.real"), "echo old");
    symlink("/nonexistent/rpull", prefix.path("ctr")).unwrap();
    prefix.does("install", &[]);
    prefix.assert_ours_over("old");
    fs::remove_file(prefix.path("ctr")).unwrap();
    symlink("/nonexistent/rpull", prefix.path("ctr")).unwrap();
    assert_eq!(prefix.does("uninstall", &[]), "DIR/ctr is the real one again\n");
    assert_eq!((prefix.names(), prefix.say("ctr")), (vec!["ctr".to_owned()], "old".to_owned()));
}

/// A real `ctr` that is a link stays the link it is.
#[test]
fn a_ctr_that_is_a_link_is_kept_as_one() {
    let prefix = Prefix::empty();
    script(&prefix.path("ctr-1.7"), "echo linked");
    symlink("ctr-1.7", prefix.path("ctr")).unwrap();
    prefix.does("install", &[]);
    assert_eq!(prefix.say("ctr"), "linked");
    assert_eq!(fs::read_link(prefix.path("ctr.real")).unwrap(), Path::new("ctr-1.7"));
    prefix.does("uninstall", &[]);
    assert_eq!(fs::read_link(prefix.path("ctr")).unwrap(), Path::new("ctr-1.7"));
}

/// By the books of the real dpkg, with a database of the test's own; and of an rpm that says what rpm says.
#[test]
fn a_ctr_that_a_package_owns_is_taken_only_by_force() {
    let books = tempfile::tempdir().unwrap();
    let (info, tools) = (books.path().join("info"), books.path().join("bin"));
    fs::create_dir(&info).unwrap();
    fs::create_dir(&tools).unwrap();
    for of in ["dpkg", "rpm"] {
        let prefix = Prefix::new();
        let ctr = prefix.path("ctr").display().to_string();
        match of {
            "dpkg" => {
                let status = "Package: overlaybd-snapshotter\nStatus: install ok installed\nMaintainer: x\nArchitecture: all\n\
                              Version: 1\nDescription: x\n\n";
                fs::write(books.path().join("status"), status).unwrap();
                fs::write(info.join("overlaybd-snapshotter.list"), format!("/.\n{ctr}\n")).unwrap();
                fs::write(info.join("format"), "1\n").unwrap();
            }
            _ => script(&tools.join("rpm"), &format!("[ \"$5\" = {ctr} ] && echo overlaybd-snapshotter || exit 1")),
        }
        let path = if of == "dpkg" { "/usr/bin".to_owned() } else { tools.display().to_string() };
        let command = |verb: &str, flags: &[&str]| {
            let mut command = prefix.command(verb, flags);
            command.env("DPKG_ADMINDIR", books.path()).env("PATH", &path);
            outcome(&mut command)
        };
        let stderr = format!(
            "rpull: {ctr} belongs to the package overlaybd-snapshotter\n\
             hint: --force takes its place; an upgrade of the package puts it back, install again then\n"
        );
        assert_eq!(command("install", &[]), (2, String::new(), stderr), "{of}");
        assert_eq!((prefix.names(), prefix.say("ctr")), (vec!["ctr".to_owned()], "old".to_owned()));
        assert_eq!(command("install", &["--force"]).0, 0);
        prefix.assert_ours_over("old");
        // Once it is ours nobody has to force anything.
        assert_eq!(command("install", &[]).0, 0);
        assert_eq!(command("uninstall", &[]).0, 0);
        assert_eq!(prefix.say("ctr"), "old");
        // Another file of that package is no reason.
        fs::rename(prefix.path("ctr"), prefix.path("ctl")).unwrap();
        assert_eq!(command("install", &[]).0, 0, "{of}");
    }
}

#[test]
fn several_at_once_are_one_after_the_other() {
    let prefix = Prefix::new();
    std::thread::scope(|scope| {
        for at in 0..8 {
            let prefix = &prefix;
            scope.spawn(move || prefix.does("install", if at % 2 == 0 { &[] } else { &["--copy"] }));
        }
    });
    prefix.assert_ours_over("old");
}

#[test]
fn a_directory_that_cannot_be_used_is_told_with_what_to_do() {
    let (code, _, stderr) = outcome(crate::rpull().args(["install", "--prefix", "/nonexistent"]));
    let expected = "rpull: /nonexistent cannot be opened: No such file or directory (os error 2)\n\
                    hint: install what has its ctr there, or name the directory of yours: --prefix DIR\n";
    assert_eq!((code, stderr.as_str()), (8, expected));

    let prefix = Prefix::empty();
    fs::create_dir(prefix.path("ctr")).unwrap();
    let (code, _, stderr) = outcome(&mut prefix.command("install", &[]));
    let expected =
        format!("rpull: {} is no program\nhint: --prefix names the directory of a ctr\n", prefix.path("ctr").display());
    assert_eq!((code, stderr), (2, expected));

    // As somebody else.
    let prefix = Prefix::new();
    fs::set_permissions(prefix.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let rpull = tempfile::tempdir().unwrap();
    fs::set_permissions(rpull.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(RPULL, rpull.path().join("rpull")).unwrap();
    for verb in ["install", "uninstall"] {
        let mut command = Command::new("setpriv");
        command.env_clear().args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(rpull.path().join("rpull"));
        command.arg(verb).arg("--prefix").arg(prefix.0.path());
        let (code, stdout, stderr) = outcome(&mut command);
        assert_eq!((code, stdout.as_str()), (8, ""), "{stderr}");
        // Without the right to a second name, or to the directory.
        assert!(stderr.starts_with(&format!("rpull: {}/", prefix.0.path().display())), "{stderr}");
        assert!(stderr.ends_with("hint: run it as root\n"), "{stderr}");
        if verb == "install" {
            prefix.does("install", &[]);
        }
        prefix.assert_ours_over("old");
    }
}
