//! Whether a Route's models are reached by their names.
//!
//! Of several Routes that declare one name, the oldest has it; activators go by the same order. The
//! others are told so, for nobody else will tell their owners.

use std::time::Duration;

use ebb_api::models;
use ebb_api::serving::{Route, RouteStatus};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use crate::cache::By;
use crate::stores::Stores;

/// When a Route that does not have one of its names looks again: no event tells that the Route that
/// has it declares it no longer.
pub(crate) const LOOK_AGAIN_AFTER: Duration = Duration::from_mins(1);

/// How the names of a Route's models stand: those that older Routes have.
pub(super) struct Standing(Vec<Taken>);

/// A name that another Route has.
struct Taken {
    model: String,
    /// `namespace/name` of that Route.
    holder: String,
    /// The name that leads to this Route, if it is the oldest of its namespace with the model.
    reached_as: Option<String>,
}

// === impl Standing ===

impl Standing {
    /// Whether another Route has one of the names.
    pub(super) fn is_behind(&self) -> bool {
        !self.0.is_empty()
    }
}

/// The models that a Route declares.
pub(crate) fn names(route: &Route) -> Vec<String> {
    let declared = models::declared(route.metadata.annotations.as_ref()).unwrap_or_default();
    declared.into_iter().map(|model| model.name).collect()
}

/// Whether two versions are of one Route.
pub(crate) fn is_same(one: &Route, other: &Route) -> bool {
    one.namespace() == other.namespace() && one.name_any() == other.name_any()
}

/// How the names of its models stand; `None` for a Route that declares none.
pub(super) fn standing(route: &Route, stores: &Stores) -> Option<Standing> {
    let names = names(route);
    if names.is_empty() {
        return None;
    }
    let own = age(route);
    let taken = names.into_iter().filter_map(|model| {
        let mut all = stores.routes.marked_anywhere(By::Model, &model);
        all.retain(|other| age(other) < own);
        let holder = all.iter().min_by_key(|other| age(other))?;
        let holder = format!("{}/{}", holder.namespace().unwrap_or_default(), holder.name_any());
        let namespace = route.namespace().unwrap_or_default();
        let is_oldest_here = !all.iter().any(|other| other.namespace() == route.namespace());
        let reached_as = is_oldest_here.then(|| format!("{namespace}/{model}"));
        Some(Taken { model, holder, reached_as })
    });
    Some(Standing(taken.collect()))
}

/// Says in the status how the names stand.
pub(super) fn tell(status: &mut RouteStatus, standing: Option<Standing>, now: Timestamp) {
    const CONDITION: &str = RouteStatus::MODELS_REACHABLE;
    let mut conditions = RouteStatus::CONDITIONS.manage(&mut status.conditions, now);
    match standing {
        None => conditions.clear(CONDITION),
        Some(Standing(taken)) => match taken.first() {
            None => conditions.mark_true(CONDITION),
            Some(first) => {
                conditions.mark_false(CONDITION, "NameTaken", &message(first, taken.len()));
            }
        },
    }
}

fn message(taken: &Taken, count: usize) -> String {
    let Taken { model, holder, reached_as } = taken;
    let way = match reached_as {
        Some(name) => format!("this one is reached as {name:?}"),
        None => "this one is reached by its own host alone".to_owned(),
    };
    let others = match count - 1 {
        0 => String::new(),
        more => format!(" The same is true of {more} more of its models."),
    };
    format!("The older Route {holder} has the model {model:?}: {way}.{others}")
}

/// The order in which Routes have a name, as activators see it.
fn age(route: &Route) -> (i64, String, String) {
    let created = route.creation_timestamp().map_or(0, |time| time.0.as_second());
    (created, route.namespace().unwrap_or_default(), route.name_any())
}

#[cfg(test)]
mod tests {
    use ebb_api::condition;
    use ebb_api::serving::RouteSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::stores::tests::World;

    fn route(namespace: &str, name: &str, created_s: i64, models: &str) -> Route {
        let mut route = Route::new(name, RouteSpec::default());
        route.metadata.namespace = Some(namespace.to_owned());
        route.metadata.creation_timestamp = Timestamp::from_second(created_s).ok().map(Time);
        let note = (models::MODELS.name().to_owned(), models.to_owned());
        route.metadata.annotations = Some([note].into());
        route
    }

    /// What each Route is told: `None` of nothing, else the condition's status and message.
    fn told(routes: &[Route]) -> Vec<Option<(&'static str, String)>> {
        let mut world = World::new();
        for route in routes {
            world.watches.routes.feed(route.clone());
        }
        let told = |route: &Route| {
            let mut status = RouteStatus::default();
            let standing = standing(route, &world.stores);
            tell(&mut status, standing, Timestamp::UNIX_EPOCH);
            let told = condition::find(&status.conditions, RouteStatus::MODELS_REACHABLE)?;
            assert_eq!(told.severity.as_deref(), Some("Info"), "it counts for Ready");
            Some((told.status.as_str(), told.message.clone().unwrap_or_default()))
        };
        routes.iter().map(told).collect()
    }

    #[tokio::test]
    async fn the_younger_of_two_routes_is_told_who_has_the_name() {
        let good = || Some(("True", String::new()));
        let routes = [
            route("b", "old", 1, "smol, tiny"),
            route("a", "new", 2, "smol, tiny, own"),
            route("b", "third", 3, "smol"),
            route("c", "other", 4, "other"),
        ];
        let said = told(&routes);
        assert_eq!((&said[0], &said[3]), (&good(), &good()));
        let text = "The older Route b/old has the model \"smol\": this one is reached as \
                    \"a/smol\". The same is true of 1 more of its models.";
        assert_eq!(said[1], Some(("False", text.to_owned())));
        let text = "The older Route b/old has the model \"smol\": this one is reached by its own host \
                    alone.";
        assert_eq!(said[2], Some(("False", text.to_owned())));
        let mut plain = route("a", "plain", 1, "x");
        plain.metadata.annotations = None;
        assert_eq!(told(&[plain]), [None]);
    }
}
