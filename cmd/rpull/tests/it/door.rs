//! One binary, three names: what is ours under the names `ctr` and `nerdctl`, and that everything else reaches the real program as if
//! we were not there.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        fs::{PermissionsExt as _, symlink},
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    outcome,
    stage::{Stage, daemons, native, on_each_daemon, run, say},
};

/// What is under test, by its real name.
pub(crate) const RPULL: &str = env!("CARGO_BIN_EXE_rpull");

/// A directory in which we are `ctr` and `nerdctl`.
pub(crate) struct Names(tempfile::TempDir);

impl Names {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["ctr", "nerdctl"] {
            symlink(RPULL, directory.path().join(name)).unwrap();
        }
        Self(directory)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Called by this name, with nothing in the environment.
    pub(crate) fn call(&self, name: &str) -> Command {
        let mut command = Command::new(self.path(name));
        command.env_clear().env("HOME", "/nonexistent").stdin(Stdio::null());
        command
    }

    /// Called as `ctr` or `nerdctl` with a stage's containerd and namespace in front of the command.
    pub(crate) fn on<A: AsRef<OsStr>>(&self, name: &str, stage: &Stage, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.call(name);
        command.arg("--address").arg(stage.containerd().address()).args(["--namespace", stage.namespace()]).args(args);
        command
    }
}

/// A program at `path` that does what a shell does with `body`.
pub(crate) fn script(path: &Path, body: &str) {
    fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A second name for a file.
#[expect(clippy::disallowed_methods, reason = "no blob is linked here")]
pub(crate) fn link(file: &Path, name: &Path) {
    fs::hard_link(file, name).unwrap();
}

/// Path of the script that ran, then its arguments.
const TELL: &str = "printf '[%s]' \"$0\" \"$@\"";

#[test]
fn ctr_with_globals_and_rpull_pulls() {
    on_each_daemon("door-ctr", |stage| {
        let names = Names::new();
        let image = native(&[900, 901]);
        let reference = image.push(stage.registry(), "door-ctr", "1");
        run(&mut names.on("ctr", &stage, ["--debug=false", "--timeout", "2m", "rpull", "--plain-http", &reference])).succeeds();
        stage.assert_whole(&reference, &image);
        // Go's single dash, and `--` before the command.
        run(&mut names.on("ctr", &stage, ["-connect-timeout=9s", "--", "rpull", "-plain-http", &reference])).succeeds();
    });
}

#[test]
fn every_other_command_of_ctr_is_the_real_ones() {
    for daemon in daemons() {
        let stage = Stage::shared(&daemon, "door-real");
        let names = Names::new();
        let image = native(&[902]);
        let reference = image.push(stage.registry(), "door-real", "1");
        let reals = [Some(daemon.ctr().into_os_string()), std::env::var_os("UPSTREAM_CTR").filter(|path| !path.is_empty())];
        stage.pull([&reference]);
        for real in reals.into_iter().flatten() {
            let both = |args: &[&str]| {
                let run_one = |mut command: Command| outcome(command.args(args).env_remove("HOME"));
                let mut direct = Command::new(&real);
                direct.env_clear().arg("-a").arg(stage.containerd().address()).args(["-n", "door-real"]);
                let mut ours = names.call("ctr");
                ours.env("RPULL_CTR", &real).arg("-a").arg(stage.containerd().address()).args(["-n", "door-real"]);
                let (expected, found) = (run_one(direct), run_one(ours));
                // The log has times in it.
                let known = |(code, stdout, stderr): &(i32, String, String)| (*code, stdout.clone(), stderr.lines().count());
                assert_eq!(known(&found), known(&expected), "{args:?}");
                found
            };
            let (code, stdout, _) = both(&["images", "ls", "-q"]);
            assert_eq!((code, stdout.trim()), (0, reference.as_str()));
            let (code, ..) = both(&["images", "no-such-command-and-flag", "--rpull"]);
            say(&format!("{}: {code}", real.display()));
            assert_eq!(both(&["content", "get", "sha256:0"]).0, 1);
            both(&["obdconv", "--help"]);
            both(&["record-trace", "--help"]);
            both(&["--version"]);
            both(&["--help"]);
        }
    }
}

#[test]
fn the_real_one_has_our_arguments_environment_process_and_signals() {
    let names = Names::new();
    let cat = |program: &str, file: &str| {
        let mut command = names.call("ctr");
        command.env("RPULL_CTR", "/bin/cat").arg0(program).arg(file);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert_eq!(cat("ctr", "/proc/self/cmdline"), "ctr\0/proc/self/cmdline\0");
    assert_eq!(cat("./x/ctr", "/proc/self/cmdline"), "./x/ctr\0/proc/self/cmdline\0");

    let signals = |status: &str| {
        let lines = status.lines().filter(|line| line.starts_with("Sig") || line.starts_with("Shd")).map(str::to_owned);
        lines.filter(|line| !line.starts_with("SigQ")).collect::<Vec<_>>()
    };
    let direct = Command::new("/bin/cat").arg("/proc/self/status").output().unwrap();
    assert_eq!(signals(&cat("ctr", "/proc/self/status")), signals(&String::from_utf8(direct.stdout).unwrap()));

    let mut env = names.call("ctr");
    env.env_clear().env("RPULL_CTR", "/usr/bin/env").env("A", "b\nc").env("CONTAINERD_ADDRESS", "/x");
    let mut lines: Vec<String> = outcome(&mut env).1.lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["A=b", "CONTAINERD_ADDRESS=/x", "RPULL_CTR=/usr/bin/env", "c"]);

    script(&names.path("real"), "echo $$; exit 42");
    let child = names.call("ctr").env("RPULL_CTR", names.path("real")).stdout(Stdio::piped()).spawn().unwrap();
    let id = child.id();
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stdout), (Some(42), format!("{id}\n").into_bytes()));

    script(&names.path("real"), "kill -TERM $$");
    let ended = names.call("ctr").env("RPULL_CTR", names.path("real")).status().unwrap();
    assert_eq!(ended.signal(), Some(15));
}

#[test]
fn arguments_reach_the_real_one_unchanged() {
    let names = Names::new();
    script(&names.path("real"), TELL);
    let real = names.path("real");
    for arguments in [
        &["images", "pull", "r/a:1"][..],
        &["-n", "rpull", "images", "ls"],
        &["run", "--rm", "rpull", "", " a b", "--", "-x=y"],
        &["--help", "rpull"],
        &["--unknown", "rpull"],
        &["help", "rpull"],
        &["obdconv", "rpull"],
        &["rpull", "--generate-bash-completion"],
        &[],
    ] {
        for (name, variable) in [("ctr", "RPULL_CTR"), ("nerdctl", "RPULL_NERDCTL_BIN")] {
            let expected: String =
                [real.to_str().unwrap()].iter().chain(arguments).flat_map(|argument| ["[", argument, "]"]).collect();
            assert_eq!(outcome(names.call(name).env(variable, &real).args(arguments)), (0, expected, String::new()));
        }
    }
}

#[test]
fn the_real_one_is_named_or_beside_us_or_next_on_the_path() {
    let (names, elsewhere) = (Names::new(), tempfile::tempdir().unwrap());
    let tell = |who: &str| format!("echo {who}");
    let path = format!("{}:{}", names.path("").display(), elsewhere.path().display());
    let call = |name: &str, path: &str| {
        let mut command = names.call(name);
        command.env("PATH", path).args(["images", "ls"]);
        outcome(&mut command)
    };
    for (name, variable) in [("ctr", "RPULL_CTR"), ("nerdctl", "RPULL_NERDCTL_BIN")] {
        let said = |who: &str| (0, format!("{who}\n"), String::new());
        // Ourselves are passed over: this link, a copy, a hard link, a stripped copy.
        let more = tempfile::tempdir().unwrap();
        for (at, place) in ["copy", "link", "stripped"].into_iter().enumerate() {
            fs::create_dir(more.path().join(place)).unwrap();
            let file = more.path().join(place).join(name);
            match at {
                0 => drop(fs::copy(RPULL, &file).unwrap()),
                1 => link(&more.path().join("copy").join(name), &file),
                _ => assert!(Command::new("strip").arg("-o").arg(&file).arg(RPULL).status().unwrap().success()),
            }
        }
        let ours = ["copy", "link", "stripped"].map(|place| more.path().join(place).display().to_string()).join(":");
        script(&elsewhere.path().join(name), &tell("next"));
        assert_eq!(call(name, &format!("{ours}:{path}")), said("next"), "{name}");
        // What cannot be run is passed over, too.
        let dull = tempfile::tempdir().unwrap();
        fs::write(dull.path().join(name), "").unwrap();
        assert_eq!(call(name, &format!("{}:{path}", dull.path().display())), said("next"), "{name}");
        // Beside us, by the link's directory, also when the shell found us on PATH.
        script(&names.path(&format!("{name}.real")), &tell("kept"));
        assert_eq!(call(name, &path), said("kept"));
        let mut by_path = Command::new("/bin/sh");
        by_path.args(["-c", &format!("{name} images ls")]).env_clear().env("PATH", &path);
        assert_eq!(outcome(&mut by_path), said("kept"));
        // Named before all.
        script(&names.path("named"), &tell("named"));
        assert_eq!(outcome(names.call(name).env(variable, names.path("named")).args(["images"])), said("named"));
        // A name alone is a file here, not on PATH.
        let mut relative = names.call(name);
        relative.current_dir(names.path("")).env(variable, "named").env("PATH", &path).arg("x");
        assert_eq!(outcome(&mut relative), said("named"));
        // An empty variable is none.
        assert_eq!(outcome(names.call(name).env(variable, "").args(["images"])), said("kept"));
    }
}

#[test]
fn beside_us_is_also_beside_the_file_a_link_leads_to() {
    let (names, home) = (Names::new(), tempfile::tempdir().unwrap());
    fs::copy(RPULL, home.path().join("rpull")).unwrap();
    script(&home.path().join("ctr.real"), "echo kept");
    fs::remove_file(names.path("ctr")).unwrap();
    symlink(home.path().join("rpull"), names.path("ctr")).unwrap();
    assert_eq!(outcome(names.call("ctr").arg("x")), (0, "kept\n".to_owned(), String::new()));
}

#[test]
fn without_a_real_one_the_exit_code_is_127_and_the_hint_says_what_to_do() {
    let names = Names::new();
    let empty = tempfile::tempdir().unwrap();
    for (name, variable, package) in [("ctr", "RPULL_CTR", "containerd's ctr"), ("nerdctl", "RPULL_NERDCTL_BIN", "nerdctl")] {
        let hint = format!("hint: install {package}, or say where it is: {variable}=/path/to/{name}\n");
        for path in [empty.path().display().to_string(), names.path("").display().to_string(), String::new()] {
            let stderr = format!(
                "rpull: called as {name}, but there is no other {name} to run: none kept beside it, none on PATH\n{hint}"
            );
            assert_eq!(outcome(names.call(name).env("PATH", path).arg("images")), (127, String::new(), stderr));
        }
        for file in ["/nonexistent", "/etc/passwd", "/"] {
            let stderr = format!("rpull: {variable} names {file}, which is no program\n{hint}");
            assert_eq!(outcome(names.call(name).env(variable, file).arg("images")), (127, String::new(), stderr));
        }
        let broken = names.path("broken");
        script(&broken, "");
        fs::write(&broken, "#!/nonexistent/interpreter\n").unwrap();
        let (code, _, stderr) = outcome(names.call(name).env(variable, &broken).arg("images"));
        assert_eq!(code, 127);
        assert!(stderr.contains(&format!("{} does not run: No such file", broken.display())), "{stderr}");
    }
}

/// A shim that would call itself.
#[test]
fn a_variable_that_names_us_is_refused() {
    let names = Names::new();
    let copy = names.path("copy");
    fs::copy(RPULL, &copy).unwrap();
    for (name, variable) in [("ctr", "RPULL_CTR"), ("nerdctl", "RPULL_NERDCTL_BIN")] {
        for file in [Path::new(RPULL), &copy, &names.path(name)] {
            let (code, stdout, stderr) = outcome(names.call(name).env(variable, file).args(["images", "ls"]));
            assert_eq!((code, stdout.as_str()), (127, ""));
            let expected = format!("rpull: {variable} names {}, which is rpull itself: it would call itself\n", file.display());
            assert!(stderr.starts_with(&expected), "{stderr}");
        }
        // Kept beside us, it is passed over.
        fs::copy(RPULL, names.path(&format!("{name}.real"))).unwrap();
        assert_eq!(outcome(names.call(name).args(["images", "ls"])).0, 127);
    }
}

#[test]
fn the_help_of_rpull_is_ours_under_each_name() {
    let names = Names::new();
    for (name, usage) in [("ctr", "ctr [GLOBALS] rpull [FLAGS] REF"), ("nerdctl", "nerdctl [GLOBALS] rpull [FLAGS] REF")] {
        for flag in ["--help", "-h"] {
            let (code, stdout, stderr) = outcome(names.call(name).args(["-n", "x", "rpull", flag]));
            assert_eq!((code, stderr.as_str()), (0, ""));
            assert!(stdout.contains(&format!("Usage: {usage}\n")) && stdout.contains("--download-blobs"), "{stdout}");
        }
    }
}

/// Trap 16, and Docker's rules for names under nerdctl's.
#[test]
fn as_ctr_no_hosts_directory_is_looked_into_unless_it_is_given() {
    on_each_daemon("door-hosts", |stage| {
        let names = Names::new();
        let image = native(&[903]);
        let reference = image.push(stage.registry(), "door-hosts", "1");
        // A broken file is noticed by whoever reads it.
        let hosts = tempfile::tempdir().unwrap();
        let of_registry = hosts.path().join(stage.registry().host());
        fs::create_dir(&of_registry).unwrap();
        fs::write(of_registry.join("hosts.toml"), "server = 1").unwrap();
        let dir = hosts.path().to_str().unwrap();
        run(&mut names.on("ctr", &stage, ["rpull", &reference])).succeeds();
        let output = run(&mut names.on("ctr", &stage, ["rpull", "--hosts-dir", dir, &reference]));
        assert!(output.fails_with(2).contains("hosts.toml:1:10"), "{output:#?}");
    });
}
