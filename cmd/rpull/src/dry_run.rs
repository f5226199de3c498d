//! `--dry-run`: says of every image what a pull would do, one after the other, and does nothing.

use std::fmt::Write as _;

use oci::Reference;
use pull::{Planned, PlannedAction, Puller, Room};

use crate::{
    args::{Args, Form},
    exit::ExitCode,
    failure::Failure,
    images::Wanted,
    render::{Kind, Screen, size},
    report::one_line,
    run,
};

/// Plans what `args` asks for; the exit code is that of the failure that says most. Lack of room is one, told after the plan.
pub(crate) fn run(args: &Args, form: Form) -> ExitCode {
    // A program reads objects and nothing between them.
    let kind = if form == Form::Json { Kind::None } else { Kind::Plain };
    run::look(args, kind, Wanted::of(args), None, async |puller, wanted, screen| {
        plan_all(args, puller, wanted, form, screen).await
    })
}

async fn plan_all(args: &Args, puller: &Puller, wanted: Wanted, form: Form, screen: &Screen) -> Vec<ExitCode> {
    let several = wanted.several;
    let (references, refused) = wanted.into_parts();
    let mut codes = Vec::new();
    let mut failed = |failure: Failure| {
        codes.push(failure.code);
        screen.failed(None, failure);
        args.images.fail_fast
    };
    let mut over = refused.into_iter().any(&mut failed);
    for reference in references {
        if over {
            break;
        }
        if let Err(failure) = Box::pin(plan(puller, &reference, form, screen)).await {
            over = failed(if several { failure.of(reference.name()) } else { failure });
        }
    }
    codes
}

async fn plan(puller: &Puller, reference: &Reference, form: Form, screen: &Screen) -> Result<(), Failure> {
    let planned = puller.plan(reference).await?;
    screen.line(match form {
        Form::Table => table(&planned),
        Form::Json => serde_json::to_string(&planned).expect("a plan is plain data"),
    });
    match planned.shortage() {
        None => Ok(()),
        Some(short) => Err(short.into()),
    }
}

/// The plan as people read it.
fn table(planned: &Planned) -> String {
    let all = planned.layers.len();
    let rows: Vec<[String; 5]> = planned
        .layers
        .iter()
        .enumerate()
        .map(|(index, layer)| {
            let action = match layer.action {
                PlannedAction::Keep => "keep",
                PlannedAction::Attach => "attach",
                PlannedAction::Fetch => "fetch",
            };
            let place = format!("{}/{all}", index + 1);
            [place, layer.digest.short(), size(layer.size), action.to_owned(), one_line(&layer.why)]
        })
        .collect();
    let heads = ["LAYER", "DIGEST", "SIZE", "ACTION", "WHY"].map(str::to_owned);
    let width = |column: usize| rows.iter().chain([&heads]).map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2), width(3)];
    let mut text = format!("{}: {}\n", planned.reference, planned.target);
    for [place, digest, size, action, why] in [&heads].into_iter().chain(&rows) {
        let [a, b, c, d] = widths;
        writeln!(text, "{place:a$}  {digest:b$}  {size:>c$}  {action:d$}  {why}").expect("writing to a string does not fail");
    }
    let total = planned.layers.iter().map(|layer| layer.size).sum();
    let mut lines = vec![format!("network: {} of {}", size(planned.network), size(total))];
    lines.extend(planned.space.iter().map(room));
    lines.push(format!("store: {}, {}", planned.store.mode, one_line(&planned.store.why)));
    lines.extend(planned.warnings.iter().map(|warning| format!("warning: {}", one_line(warning))));
    text + &lines.join("\n")
}

fn room(room: &Room) -> String {
    let short = if room.is_short() { ", which is not enough" } else { "" };
    format!("space: {} needed, {} free at {}{short}", size(room.needed), size(room.free), room.dir.display())
}
