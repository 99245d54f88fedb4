//! Whether a Route's models are reached by their names.
//!
//! Of several Routes that declare one name, the oldest has it; activators go by the same order, at each
//! door among the Routes that it knows. The others are told so, for nobody else will tell their owners.

use std::time::Duration;

use ebb_api::serving::{Route, RouteStatus};
use ebb_api::{labels, models};
use k8s_openapi::jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _};

use crate::cache::{Aged, By};
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
    /// Whether that is so inside the cluster alone: outside, nobody knows the other Route.
    is_inside: bool,
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

/// How the names of its models stand; `None` for a Route that declares none.
pub(super) fn standing(route: &Route, stores: &Stores) -> Option<Standing> {
    let names = names(route);
    if names.is_empty() {
        return None;
    }
    let own = Aged::of(route.meta());
    let all = |name: &str| stores.routes.marked_anywhere(By::Model, name);
    let taken = names.into_iter().filter_map(|model| {
        let mut older = all(&model);
        older.retain(|other| *other < own);
        let holder = older.first()?;
        let is_private = stores.routes.get(&holder.namespace, &holder.name);
        let is_private = is_private.is_some_and(|holder| is_private_route(&holder));
        let long = format!("{}/{model}", own.namespace);
        let is_oldest_here = !older.iter().any(|other| other.namespace == own.namespace);
        let is_free = all(&long).is_empty();
        Some(Taken {
            holder: format!("{}/{}", holder.namespace, holder.name),
            is_inside: is_private && !is_private_route(route),
            reached_as: (is_oldest_here && is_free).then_some(long),
            model,
        })
    });
    Some(Standing(taken.collect()))
}

fn is_private_route(route: &Route) -> bool {
    let visibility = route.labels().get(labels::VISIBILITY);
    visibility.is_some_and(|visibility| visibility == labels::VISIBILITY_CLUSTER_LOCAL)
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
    let Taken { model, holder, is_inside, reached_as } = taken;
    let place = if *is_inside { "Inside the cluster the" } else { "The" };
    let way = match reached_as {
        Some(name) => format!("this one is reached as {name:?}"),
        None => "this one is reached by its own host alone".to_owned(),
    };
    let others = match count - 1 {
        0 => String::new(),
        more => format!(" The same is true of {more} more of its models."),
    };
    format!("{place} older Route {holder} has the model {model:?}: {way}.{others}")
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
        // Outside nobody knows the older one, and somebody else has the long name.
        let mut hidden = route("b", "old", 1, "smol");
        let value = labels::VISIBILITY_CLUSTER_LOCAL.to_owned();
        hidden.metadata.labels = Some([(labels::VISIBILITY.to_owned(), value)].into());
        let said = told(&[hidden, route("a", "new", 2, "smol"), route("c", "exact", 3, "a/smol")]);
        let text = "Inside the cluster the older Route b/old has the model \"smol\": this one is \
                    reached by its own host alone.";
        assert_eq!(said[1], Some(("False", text.to_owned())));
        let mut plain = route("a", "plain", 1, "x");
        plain.metadata.annotations = None;
        assert_eq!(told(&[plain]), [None]);
    }

    /// The oldest Route's events make the younger ones look, and no others.
    #[tokio::test]
    async fn a_route_concerns_the_younger_ones_with_its_models() {
        let mut world = World::new();
        let [old, new, other] = [
            route("b", "old", 1, "smol, tiny"),
            route("a", "new", 2, "tiny, smol"),
            route("a", "other", 3, "else"),
        ];
        for route in [&old, &new, &other] {
            world.watches.routes.feed(route.clone());
        }
        let told = |route: &Route| {
            let triggers = crate::triggers::of_route(&world.stores, route, false);
            let routes = triggers.into_iter().filter_map(|trigger| match trigger {
                crate::queues::Trigger::Route(route) => Some(route.name),
                _ => None,
            });
            routes.collect::<Vec<_>>()
        };
        assert_eq!(told(&old), ["old", "new"]);
        assert_eq!(told(&new), ["new"]);
        world.watches.routes.lose(old.clone());
        assert!(world.stores.routes.marked_anywhere(By::Model, "smol").len() == 1);
    }
}
