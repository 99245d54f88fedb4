//! Faults, again and again, each strike decided by the seed and its number.

mod api_server;
mod components;
mod links;
mod signals;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::fault::Fault;
use crate::ledger::Ledger;
use crate::site::Site;
use crate::work::Work;

/// Milliseconds from the end of one strike to the next.
const GAP_MS: std::ops::RangeInclusive<u64> = 1_500..=5_000;

/// Strikes until the work is done.
pub(crate) async fn inject(
    site: &Site,
    ledger: &Arc<Ledger>,
    work: &Arc<Work>,
    seed: u64,
) -> anyhow::Result<()> {
    while work.goes_on() {
        let number = ledger.record().strikes;
        let mut chance = SmallRng::seed_from_u64(seed.wrapping_mul(1_000_003) + number);
        work.rest(Duration::from_millis(chance.random_range(GAP_MS))).await;
        if !work.goes_on() {
            break;
        }
        work.strike();
        let strike = strike(site, work, number, &mut chance).await;
        work.struck();
        if let Err(error) = strike {
            work.give_up();
            ledger.went_wrong(format!("strike {number}: {error:#}"));
            let fault = site.fault.name();
            return Err(error).with_context(|| format!("strike {number} of {fault} went wrong"));
        }
        ledger.struck();
    }
    Ok(())
}

/// One strike, until all is as it was before. Eases the work when its effects are over.
async fn strike(
    site: &Site,
    work: &Work,
    number: u64,
    chance: &mut SmallRng,
) -> anyhow::Result<()> {
    match site.fault {
        Fault::F1 => components::replace(site, work, number).await,
        Fault::F2 => components::kill_one(site, work, chance).await,
        Fault::F3 => components::keep_dead(site, work, chance).await,
        Fault::F6 => api_server::take_away(site, work, chance).await,
        Fault::F7 => api_server::slow_down(site, work, chance).await,
        Fault::F13 => links::cut_reports(site, work, chance).await,
        Fault::F16 => links::cut_webhook(site, work, chance).await,
        // Pods of before end as long as it lasts.
        Fault::F20 => components::roll(site, number).await,
        // The clients bring this one about.
        Fault::F24 => Ok(()),
    }
}
