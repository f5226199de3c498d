//! `kill -9`, again and again: nothing that a killed pull finished is fetched again, and the end is right.

use std::{fs, path::Path, process::Stdio, time::Duration};

use testkit::{
    fault::Server,
    image::{Blob, Image, Layer},
};

use crate::stage::{Stage, daemons, eventually, on_each_daemon, say};

const MIB: u64 = 1 << 20;

/// How often a pull is killed, and after how much.
struct Ordeal {
    /// MiB of the one layer.
    size: u64,
    kills: u64,
    connections: u64,
    /// MiB that were sent when the kill comes.
    moments: std::ops::Range<u64>,
    /// MiB that a kill may cost: of each connection the piece it was in, and what the server had sent and nobody had read yet.
    cost: u64,
    /// Bytes per second of each connection.
    rate: f64,
}

impl Ordeal {
    /// Bytes the server sent until the image was whole.
    fn survive(&self, stage: &Stage, seed: u64, after_each_kill: impl Fn(&Path)) -> u64 {
        let scratch = tempfile::tempdir().unwrap();
        let layer = Layer::overlaybd_file(Blob { seed, data: self.size * MIB }, &scratch.path().join("blob"));
        let image = Image::new(vec![layer]);
        let server = Server::builder().image("1", &image).rate(self.rate).start();
        let reference = format!("{}/t/killed:1", server.address());
        let connections = self.connections.to_string();
        let mut random = fastrand::Rng::with_seed(seed);
        for kill in 0..self.kills {
            let moment = server.count().body_bytes + random.u64(self.moments.start * MIB..self.moments.end * MIB);
            let mut command = stage.command(["--max-connections", &connections, &reference]);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            eventually(|| (server.count().body_bytes >= moment).then_some(())).expect("the bytes of that moment are sent");
            std::thread::sleep(Duration::from_millis(random.u64(..10)));
            assert!(child.try_wait().unwrap().is_none(), "the pull ended before kill {kill}");
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(stage.image(&reference).is_none());
            after_each_kill(&stage.spool().join(image.layers()[0].digest.hex()));
        }
        stage.pull(["--max-connections", &connections, &reference]);
        stage.assert_whole(&reference, &image);
        stage.assert_not_in_spool(&image);
        server.count().body_bytes
    }

    fn check(&self, stage: &Stage, seed: u64) {
        let sent = self.survive(stage, seed, |_| ());
        let forgetful =
            self.survive(stage, seed + 1, |entry| fs::remove_file(entry.with_extension("journal")).unwrap_or_default());
        say(&format!("{} MiB and {} kills: {} MiB sent, without journal {}", self.size, self.kills, sent / MIB, forgetful / MIB));
        // The blob is a little larger than what is in it.
        let size = self.size * MIB + self.size * MIB / 50;
        assert!(sent <= size + self.kills * self.cost * MIB, "{sent} bytes sent");
        assert!(forgetful > sent, "{forgetful} bytes without the journal, {sent} with it");
    }
}

#[test]
fn a_pull_that_is_killed_again_and_again_goes_on_each_time() {
    on_each_daemon("killed-often", |stage| {
        Ordeal { size: 24, kills: 4, connections: 2, moments: 3..6, cost: 4, rate: 4e6 }.check(&stage, 810);
    });
}

/// Needs minutes: with `RPULL_LONG` (`hack/test --all`) only.
#[test]
fn twenty_kills_of_a_large_pull_cost_a_piece_of_each_connection() {
    if std::env::var_os("RPULL_LONG").is_none() {
        say("RPULL_LONG is not set: the large pull is left out");
        return;
    }
    let newest = daemons().pop().expect("there is a daemon");
    Ordeal { size: 512, kills: 20, connections: 32, moments: 0..44, cost: 32, rate: 8e6 }.check(&Stage::on(&newest), 820);
}
