use super::*;

fn said(code: Code, words: &str) -> Said {
    Status::new(code, words).into()
}

fn refused(code: Code, words: &str) -> Error {
    Error::Refused { what: "to commit it".to_owned(), source: said(code, words) }
}

#[test]
fn each_error_that_can_be_cured_says_how() {
    let digest = Digest::of(b"x");
    let (name, address) = (|| "overlaybd".to_owned(), || "/run/c.sock".to_owned());
    for (error, told) in [
        (
            Error::SocketMissing { address: address() },
            "containerd socket /run/c.sock is not there\n\
             hint: is containerd running? name its socket with --address or CONTAINERD_ADDRESS",
        ),
        (
            Error::SocketDenied { address: address(), source: io::ErrorKind::PermissionDenied.into() },
            "containerd socket /run/c.sock may not be used by this user\n\
             hint: run rpull as root, or as a member of the group that owns the socket",
        ),
        (
            Error::Silent { address: address(), source: None },
            "containerd at /run/c.sock does not answer\n\
             hint: see whether containerd is alive (`systemctl status containerd`) and listens at /run/c.sock",
        ),
        (
            Error::NoSnapshotter { name: name(), source: said(Code::NotFound, "") },
            "containerd has no snapshotter overlaybd\n\
             hint: add [proxy_plugins.overlaybd] to containerd's config.toml and restart it, or choose one of `ctr plugins ls` \
             with --snapshotter",
        ),
        (
            Error::SnapshotterDown { name: name(), source: said(Code::Unavailable, "") },
            "snapshotter overlaybd does not answer containerd\n\
             hint: start the snapshotter's own service (`systemctl status overlaybd-snapshotter`)",
        ),
        (
            Error::SnapshotterSilent { name: name(), what: "to prepare it".to_owned(), waited: Duration::from_secs(60) },
            "snapshotter overlaybd has not answered the call to prepare it for 60 seconds\n\
             hint: see what the snapshotter waits for (`journalctl -u overlaybd-snapshotter`) or restart it, then run rpull again",
        ),
        (
            Error::LeaseGone { id: "rpull-1".to_owned() },
            "lease rpull-1 is gone\n\
             hint: another client changed containerd meanwhile; run rpull again, finished layers are kept",
        ),
        (
            Error::Gone { what: "content x".to_owned() },
            "content x is not there\n\
             hint: another client changed containerd meanwhile; run rpull again, finished layers are kept",
        ),
        (
            Error::Mismatch { digest, source: said(Code::FailedPrecondition, "") },
            "containerd did not take DIGEST\n\
             hint: run rpull again; if it happens again the disk or the memory of this host is suspect",
        ),
        (
            Error::WrongSize { digest, claimed: 1, actual: 2 },
            "the image says that DIGEST has 1 bytes, it has 2\n\
             hint: the image is broken in the registry; build and push it again",
        ),
        (
            Error::Damaged { digest, place: "/blobs/x".to_owned() },
            "/blobs/x is damaged: its bytes are not those of DIGEST\n\
             hint: another namespace may hold it: find it with `ctr -n NAMESPACE content ls | grep DIGEST`, delete it in all of them, \
             pull again",
        ),
        (
            Error::Held { digest, namespaces: vec!["a".parse().unwrap(), "b".parse().unwrap()] },
            "DIGEST cannot be put right through containerd: it would bring the damaged file back, for other namespaces hold it (a, b)\n\
             hint: run it where the direct store works (--store direct says why it does not), or delete DIGEST there too: \
             ctr -n a content rm DIGEST; ctr -n b content rm DIGEST",
        ),
        (
            Error::NoDirect { why: "it is elsewhere".to_owned() },
            "the direct store cannot be used: it is elsewhere\nhint: use --store auto or --store api",
        ),
        (
            refused(Code::Unimplemented, "unknown method"),
            "containerd refused to commit it\nhint: this containerd is too old; 1.6 is the oldest that works",
        ),
        (refused(Code::PermissionDenied, "no"), "containerd refused to commit it\nhint: run rpull as root"),
        (
            refused(Code::Unknown, "write x: no space left on device"),
            "containerd refused to commit it\n\
             hint: free some space on the disk of containerd and its snapshotter, and run rpull again: what is there is kept",
        ),
        (refused(Code::Unknown, "something"), "containerd refused to commit it"),
    ] {
        let hint = error.hint().map_or_else(String::new, |hint| format!("\nhint: {hint}"));
        assert_eq!(format!("{error}{hint}"), told.replace("DIGEST", &digest.to_string()));
    }
}
