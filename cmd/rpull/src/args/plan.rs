//! Only a plan, no pull.

use super::Refusal;
use crate::render::Kind;

/// The part of the command line that asks for a plan.
#[derive(clap::Args)]
pub(crate) struct DryRun {
    /// Say what would be done and why, do nothing, and leave nothing behind; --dry-run=json for one JSON object an image
    #[arg(
        help_heading = "Pull",
        long,
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "table",
        hide_possible_values = true,
        value_name = "json"
    )]
    dry_run: Option<Form>,
}

/// How a plan is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Form {
    /// For people.
    Table,
    /// For scripts.
    Json,
}

impl DryRun {
    pub(super) fn is_wanted(&self) -> bool {
        self.dry_run.is_some()
    }

    /// `kind` is what `--progress` asks for.
    pub(crate) fn form(&self, kind: Kind) -> Option<Form> {
        self.dry_run.map(|form| if kind == Kind::Json { Form::Json } else { form })
    }

    pub(super) fn check(&self, kind: Kind, record: bool) -> Result<(), Refusal> {
        if self.dry_run.is_none() {
            return Ok(());
        }
        if matches!(kind, Kind::Quiet | Kind::None) {
            return Err(Refusal::usage("--dry-run has nothing to say with --quiet or --progress none", "leave one of them out"));
        }
        if record {
            let hint = "write the plan to a file: rpull --dry-run=json REF > FILE";
            return Err(Refusal::usage(
                "--dry-run pulls nothing that --receipt, --trace, --waterfall or --metrics could tell of",
                hint,
            ));
        }
        Ok(())
    }
}
