//! What is wrong with the API server, seen from one process.

/// Longest time that one step takes on a link that is well. More would only stretch the simulated
/// time: it is enough that a later event of one watch can overtake an earlier one of another.
pub(super) const STEP_MS_MAX: u64 = 8;

/// What is wrong with the API server, seen from one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Nobody listens there any more, and watches end.
    Refuses,
    /// Nothing arrives, in either direction.
    Silent,
    /// Each answer takes up to so many milliseconds more.
    Slow(u64),
    /// One request in so many fails, and one in two of these was carried out all the same.
    Fails(u32),
    /// Watches say nothing, and everything else works.
    Stalled,
    /// Watches of one kind, by its plural, say nothing.
    StalledOne(&'static str),
    /// A quota or a policy refuses Deployments.
    Forbids,
    /// Events of watches come up to so many milliseconds late.
    Late(u64),
    /// Watches end, and the versions that they ask for anew are gone.
    Gone,
}

/// All that is wrong with the API server at one time. Each weather ends by itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sky(pub(super) Vec<Weather>);

impl Sky {
    pub(crate) fn add(&mut self, weather: Weather) {
        self.0.push(weather);
    }

    /// Takes one weather of this kind away.
    pub(crate) fn remove(&mut self, weather: Weather) {
        if let Some(index) = self.0.iter().position(|own| *own == weather) {
            self.0.remove(index);
        }
    }

    pub(super) fn is_silent(&self) -> bool {
        self.0.contains(&Weather::Silent)
    }

    /// Whether no watch goes on: an API server that ends takes its watches with it, and one that has
    /// forgotten versions has begun anew.
    pub(super) fn ends_watches(&self) -> bool {
        self.0.contains(&Weather::Refuses) || self.0.contains(&Weather::Gone)
    }

    /// Whether watches of the kind say nothing.
    pub(super) fn stalls(&self, plural: &str) -> bool {
        self.0.iter().any(|weather| match weather {
            Weather::Stalled | Weather::Silent => true,
            Weather::StalledOne(own) => *own == plural,
            _ => false,
        })
    }

    /// Longest time that an event of a watch takes, in milliseconds.
    pub(super) fn lateness(&self) -> u64 {
        let late = self.0.iter().map(|weather| match weather {
            Weather::Late(most) => *most,
            _ => 0,
        });
        late.fold(STEP_MS_MAX, u64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weather_ends_alone() {
        let mut sky = Sky::default();
        sky.add(Weather::Stalled);
        sky.add(Weather::StalledOne("pods"));
        sky.remove(Weather::Stalled);
        assert!(sky.stalls("pods") && !sky.stalls("routes"));
        sky.remove(Weather::StalledOne("pods"));
        assert!(!sky.stalls("pods"));
    }
}
