//! The story of one pull: plan, run, overlaybd's rules, proof, receipt.
