//! Which process took a lease, in a form by which another one on this machine can tell that it is dead.
//!
//! A pid alone lies: it is used again, and in another pid namespace it is somebody else. So it goes with the boot, the namespace
//! and the start time; where these cannot be compared nobody is declared dead.

use std::fs;

/// `BOOT_ID/PID_NAMESPACE/PID/START_TIME` of this process; `None` without `/proc`.
pub(crate) fn this_process() -> Option<String> {
    let pid = std::process::id();
    Some(format!("{}/{}/{pid}/{}", boot()?, namespace()?, start_time(pid)?))
}

/// Is the process that wrote `owner` certainly gone?
pub(crate) fn is_dead(owner: &str) -> bool {
    let mut parts = owner.split('/');
    let (Some(its_boot), Some(its_namespace), Some(pid), Some(its_start), None) =
        (parts.next(), parts.next(), parts.next().and_then(|pid| pid.parse().ok()), parts.next(), parts.next())
    else {
        return false;
    };
    // Another boot may be another machine, and alive: a guest's, or one that has this socket forwarded to it.
    boot().as_deref() == Some(its_boot)
        && namespace().as_deref() == Some(its_namespace)
        && start_time(pid).as_deref() != Some(its_start)
}

fn boot() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

/// `pid:[4026531836]`
fn namespace() -> Option<String> {
    fs::read_link("/proc/self/ns/pid").ok()?.into_os_string().into_string().ok()
}

/// Clock ticks after boot: field 22 of `/proc/PID/stat` (proc(5)). The second field is a name that may hold blanks and brackets.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_that_is_certainly_gone_is_dead() {
        let this = this_process().unwrap();
        assert!(!is_dead(&this), "{this}");
        let [boot, namespace, pid, start] = this.split('/').collect::<Vec<_>>()[..] else { panic!("{this}") };
        let dead = |parts: [&str; 4]| is_dead(&parts.join("/"));
        assert!(dead([boot, namespace, pid, "1"]), "its pid is used again");
        assert!(dead([boot, namespace, "4194305", start]), "above the largest pid");
        assert!(!dead(["another", namespace, "4194305", start]), "before the last boot, or on another machine");
        assert!(!dead([boot, "pid:[1]", pid, "1"]), "in a namespace we cannot look into");
        for rubbish in ["", "a/b/c", "a/b/c/d/e", "//x/"] {
            assert!(!is_dead(rubbish), "{rubbish}");
        }
    }
}
