//! At home beside nerdctl: its names, its configuration file, its flags.

use std::{fs, path::PathBuf, process::Command};

use testkit::image::{Image, Layer};

use crate::{
    door::Names,
    outcome,
    stage::{Stage, chain_of, daemons, native, on_each_daemon, run, say},
};

/// A `nerdctl.toml`.
struct Toml(tempfile::TempDir);

impl Toml {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("nerdctl.toml"), text).unwrap();
        Self(directory)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("nerdctl.toml")
    }
}

fn address(stage: &Stage) -> String {
    stage.containerd().address().display().to_string()
}

#[test]
fn what_nerdctl_is_configured_with_counts_for_the_pull() {
    on_each_daemon("nerdctl-toml", |stage| {
        let names = Names::new();
        let toml = Toml::new(&format!(
            "address = \"unix://{}\"\nnamespace = \"nerdctl-toml\"\ninsecure_registry = true\ncni_path = \"/opt/cni/bin\"\n",
            address(&stage)
        ));
        let image = native(&[910, 911]);
        let reference = image.push(stage.registry(), "nerdctl-toml", "1");
        run(names.call("nerdctl").env("NERDCTL_TOML", toml.path()).args(["rpull", &reference])).succeeds();
        // Not nerdctl's own default: an overlaybd image is what rpull is called for.
        stage.assert_whole(&reference, &image);
        let (mut by_variable, mut by_flag) = (crate::rpull(), names.call("ctr"));
        by_variable.env("RPULL_NERDCTL", "1");
        by_flag.args(["rpull", "--nerdctl"]);
        for mut command in [by_variable, by_flag] {
            let output = run(command.env("NERDCTL_TOML", toml.path()).arg(&reference));
            output.succeeds();
            assert!(output.stdout.contains("0 B to fetch"), "{output:#?}");
        }
        assert_eq!(stage.images(), [reference]);
    });
}

#[test]
fn a_flag_goes_before_a_variable_and_a_variable_before_the_file() {
    on_each_daemon("nerdctl-order", |stage| {
        let names = Names::new();
        let toml = Toml::new("address = \"/nonexistent/toml\"\nnamespace = \"nerdctl-none\"\nsnapshotter = \"none\"\n");
        let image = Image::new(vec![Layer::tar(&[("a", b"nerdctl")])]);
        let reference = image.push(stage.registry(), "nerdctl-order", "1");
        let mut by_variables = names.call("nerdctl");
        by_variables.env("CONTAINERD_ADDRESS", format!("unix://{}", address(&stage)));
        by_variables.env("CONTAINERD_NAMESPACE", "nerdctl-order").env("CONTAINERD_SNAPSHOTTER", "native");
        run(by_variables.env("NERDCTL_TOML", toml.path()).args(["rpull", &reference])).succeeds();
        assert_eq!(stage.images(), std::slice::from_ref(&reference));
        assert!(stage.snapshot_of("native", &chain_of(&image)[0]).is_some());

        let host = format!("unix://{}", address(&stage));
        let mut by_flags = names.call("nerdctl");
        by_flags.env("NERDCTL_TOML", toml.path()).env("CONTAINERD_ADDRESS", "/nonexistent/variable");
        by_flags.env("CONTAINERD_NAMESPACE", "nerdctl-none").env("CONTAINERD_SNAPSHOTTER", "none");
        by_flags.args(["-H", &host, "-nnerdctl-order", "--storage-driver=overlayfs", "--cni-path", "/x", "--experimental=false"]);
        run(by_flags.args(["rpull", &reference])).succeeds();
        assert!(stage.snapshot_of("overlayfs", &chain_of(&image)[0]).is_some());

        // And behind the command.
        let mut behind = names.call("nerdctl");
        behind.env("NERDCTL_TOML", toml.path()).args([
            "rpull",
            "--host",
            &host,
            "-n",
            "nerdctl-order",
            "--snapshotter",
            "native",
        ]);
        run(behind.arg(&reference)).succeeds();
        assert_eq!(stage.in_namespace("nerdctl-none").images(), Vec::<String>::new());
    });
}

/// By a name that is not this machine's: only `/etc/hosts` says that it is. Without the flag or the key a registry must speak TLS.
#[test]
fn an_insecure_registry_is_spoken_to_over_http() {
    let stage = Stage::shared(&daemons().pop().expect("there is a containerd"), "nerdctl-insecure");
    let names = Names::new();
    let image = native(&[914]);
    let reference = image.push(stage.registry(), "nerdctl-insecure", "1").replace("127.0.0.1", "registry.example");
    let etc = tempfile::tempdir().unwrap();
    fs::write(etc.path().join("hosts"), "127.0.0.1 registry.example\n").unwrap();
    let (secure, insecure) = (Toml::new("insecure_registry = false\n"), Toml::new("insecure_registry = true\n"));
    let pull = |toml: &Toml, flags: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc && exec \"$@\""]).arg(etc.path());
        command.arg(names.path("nerdctl")).args(["--host", &address(&stage), "-n", "nerdctl-insecure"]).args(flags);
        command.args(["rpull", &reference]).env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
        run(command.env("NERDCTL_TOML", toml.path()))
    };
    let output = pull(&secure, &[]);
    assert!(output.fails_with(5).contains("registry.example"), "{output:#?}");
    pull(&insecure, &["--insecure-registry=false"]).fails_with(5);
    pull(&secure, &["--insecure-registry"]).succeeds();
    stage.assert_whole(&reference, &image);
    pull(&insecure, &[]).succeeds();
}

/// With a real nerdctl in `UPSTREAM_NERDCTL`: its own commands, and a file that it takes or refuses as we do.
#[test]
fn every_other_command_of_nerdctl_is_the_real_ones() {
    let Some(real) = std::env::var_os("UPSTREAM_NERDCTL").filter(|path| !path.is_empty()) else {
        say("UPSTREAM_NERDCTL is not set: nerdctl is not asked");
        return;
    };
    on_each_daemon("nerdctl-real", |stage| {
        let names = Names::new();
        let image = native(&[913]);
        let reference = image.push(stage.registry(), "nerdctl-real", "1");
        let good = Toml::new(&format!("address = \"unix://{}\"\nnamespace = \"nerdctl-real\"\n", address(&stage)));
        let bad = Toml::new("socket = \"/x\"\n");
        let call = |toml: &Toml, args: &[&str]| {
            let mut command = names.call("nerdctl");
            command.env("PATH", "/usr/bin:/bin").env("RPULL_NERDCTL_BIN", &real);
            outcome(command.env("NERDCTL_TOML", toml.path()).args(args))
        };
        let (code, stdout, stderr) = call(&good, &["rpull", &reference]);
        assert_eq!((code, stdout.lines().last()), (0, Some("done")), "{stderr}");
        let format = ["images", "--format", "{{.Repository}}:{{.Tag}}", "--names"];
        let (code, stdout, stderr) = call(&good, &format);
        assert_eq!(code, 0, "{stderr}");
        assert!(stdout.contains(&reference), "{stdout}");
        assert!(call(&good, &["--version"]).1.starts_with("nerdctl version "));
        assert_eq!((call(&bad, &format).0, call(&bad, &["rpull", &reference]).0), (1, 2));
    });
}

#[test]
fn a_key_that_nerdctl_does_not_have_is_an_error_with_its_place() {
    let names = Names::new();
    for (text, said) in [
        ("debug = false\n\n  socket = \"/x\"\n", "3:3: nerdctl has no key \"socket\""),
        ("version = 2\n[grpc]\naddress = \"/x\"\n", "1:1: nerdctl has no key \"version\""),
        ("namespace = 1\n", "1:13: invalid type: integer `1`, expected a string"),
    ] {
        let toml = Toml::new(text);
        let stderr = format!(
            "rpull: {}:{said}\nhint: nerdctl.toml is not the daemon's config.toml; correct it there, nerdctl would not take it either\n",
            toml.path().display()
        );
        let mut command = names.call("nerdctl");
        assert_eq!(outcome(command.env("NERDCTL_TOML", toml.path()).args(["rpull", "r/a:1"])), (2, String::new(), stderr));
    }
}

#[test]
fn no_file_is_no_fault_and_an_address_of_another_kind_is() {
    let names = Names::new();
    for file in ["/nonexistent/nerdctl.toml", ""] {
        let mut command = names.call("nerdctl");
        command.env("NERDCTL_TOML", file).args(["--host=unix:///nonexistent/c.sock", "rpull", "--connect-timeout=1s", "r/a:1"]);
        let (code, _, stderr) = outcome(&mut command);
        assert_eq!(code, 7);
        assert!(stderr.contains(" /nonexistent/c.sock"), "{stderr}");
    }
    let mut command = names.call("nerdctl");
    let (code, _, stderr) = outcome(command.env("NERDCTL_TOML", "").args(["-H", "tcp://127.0.0.1:1", "rpull", "r/a:1"]));
    let expected = "rpull: invalid address \"tcp://127.0.0.1:1\"\n\
                    hint: nerdctl's addresses are paths, with or without unix:// in front\n";
    assert_eq!((code, stderr.as_str()), (2, expected));
}

/// The directories of the file, and those of the flag in its place: several, with commas or one by one.
#[test]
fn all_hosts_directories_are_looked_into() {
    on_each_daemon("nerdctl-hosts", |stage| {
        let names = Names::new();
        let hosts = tempfile::tempdir().unwrap();
        let of_registry = hosts.path().join("second").join(stage.registry().host());
        fs::create_dir_all(&of_registry).unwrap();
        fs::create_dir(hosts.path().join("first")).unwrap();
        fs::write(of_registry.join("hosts.toml"), "server = 1").unwrap();
        let image = native(&[912]);
        let reference = image.push(stage.registry(), "nerdctl-hosts", "1");
        let path = |name: &str| hosts.path().join(name).display().to_string();
        let (first, second) = (path("first"), path("second"));
        let toml = Toml::new(&format!("address = \"{}\"\nhosts_dir = [\"{first}\", \"{second}\"]\n", address(&stage)));
        let none = Toml::new(&format!("address = \"{}\"\nhosts_dir = []\n", address(&stage)));
        let pull = |toml: &Toml, flags: &[&str]| {
            let mut command = names.call("nerdctl");
            run(command.env("NERDCTL_TOML", toml.path()).args(["-n", "nerdctl-hosts"]).args(flags).args(["rpull", &reference]))
        };
        for (toml, flags) in [
            (&toml, &[][..]),
            (&none, &[&format!("--hosts-dir={first},{second}")[..]][..]),
            (&none, &["--hosts-dir", &first, "--hosts-dir", &second]),
        ] {
            let output = pull(toml, flags);
            assert!(output.fails_with(2).contains("hosts.toml:1:10"), "{output:#?}");
        }
        pull(&none, &[]).succeeds();
        pull(&toml, &["--hosts-dir", &first]).succeeds();
    });
}
