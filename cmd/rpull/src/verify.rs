//! `rpull verify`: looks at images that are here, says of each part what is wrong with it, mends it when asked to.

use oci::Reference;
use pull::{Part, Puller, Report};

use crate::{
    args::{Args, Verify},
    exit::ExitCode,
    failure::Failure,
    render::{Kind, Screen},
    report, run,
};

/// Looks at every image; the exit code is that of the failure that says most.
pub(crate) fn run(args: &Args, verify: &Verify) -> ExitCode {
    let references = verify.references().map_err(Failure::from);
    run::look(args, Kind::Plain, references, Some("ok"), async |puller, references, screen| {
        look_at_all(puller, &references, verify, screen).await
    })
}

/// One after the other; what is wrong with one is said before the next. The codes of those that are not whole.
async fn look_at_all(puller: &Puller, references: &[Reference], verify: &Verify, screen: &Screen) -> Vec<ExitCode> {
    let mut codes = Vec::new();
    for reference in references {
        if let Err(failure) = Box::pin(look_at(puller, reference, verify, screen)).await {
            codes.push(failure.code);
            screen.failed(None, failure);
        }
    }
    codes
}

async fn look_at(puller: &Puller, reference: &Reference, verify: &Verify, screen: &Screen) -> Result<(), Failure> {
    let name = reference.name();
    let found = look(puller, reference, verify, screen).await?;
    if found.is_whole() {
        return Ok(());
    }
    if !verify.repair || found.is_broken_at_its_source() {
        return Err(damaged(&found, "is not whole"));
    }
    screen.line(format!("{name}: mending"));
    puller.repair(reference, &found).await.map_err(|error| {
        let failure = Failure::from(error);
        Failure { message: format!("{name} could not be mended: {}", failure.message), ..failure }
    })?;
    let found = look(puller, reference, verify, screen).await?;
    if found.is_whole() { Ok(()) } else { Err(damaged(&found, "is still not whole")) }
}

async fn look(puller: &Puller, reference: &Reference, verify: &Verify, screen: &Screen) -> Result<Report, Failure> {
    screen.line(format!("{}: looking at what is here", reference.name()));
    let report = puller.verify(reference, verify.deep, &mut |part| screen.line(line(part))).await?;
    Ok(report)
}

/// One part, whole or with all that is wrong with it.
fn line(part: &Part) -> String {
    let state = if part.damage.is_empty() {
        "ok".to_owned()
    } else {
        part.damage.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    format!("{} {}: {}", part.place, part.digest.short(), report::one_line(&state))
}

fn damaged(found: &Report, how: &str) -> Failure {
    let name = &found.reference;
    let parts: Vec<String> = found.damaged().map(|part| part.place.to_string()).collect();
    let mut message = format!("{name} {how}: {}", parts.join(", "));
    if !found.layers_known {
        message.push_str("; which layers it has cannot be read");
    }
    let hint = if found.is_broken_at_its_source() {
        "the image is broken in the registry too; build and push it again".to_owned()
    } else if found.is_merely_lazy() {
        format!("rpull {name} fetches the layers")
    } else {
        format!("rpull verify --repair {name} mends it")
    };
    Failure { code: ExitCode::Damaged, message, hint: Some(hint) }
}
