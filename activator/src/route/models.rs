//! Which Routes serve which models: a model's name and a door lead to a revision.
//!
//! When a name has several claims, the oldest Route that the door knows gets it, so that all
//! activators agree and a newcomer takes the name from nobody. The oldest of each other namespace is
//! reached as `namespace/name`, unless somebody declares that very name.

use std::collections::HashSet;
use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use super::door::Door;
use super::facts::{Key, RouteFacts};
use super::split::Split;

/// Name of a model to the Routes that claim it; `T` stands for a revision. A clone costs nothing.
#[derive(Debug)]
pub struct ModelTable<T> {
    /// The claims of a name, the oldest Route first; never empty. In order, for lists of the first.
    names: RedBlackTreeMapSync<Arc<str>, Arc<[Claim<T>]>>,
}

/// One Route's claim to a name.
#[derive(Debug)]
struct Claim<T> {
    name: Arc<str>,
    known_as: Option<Arc<str>>,
    offer: Arc<Offer<T>>,
}

/// What all claims of a Route share.
#[derive(Debug)]
pub(super) struct Offer<T> {
    pub(super) route: Arc<Key>,
    /// When the Route was made, in seconds since 1970.
    pub(super) created_s: i64,
    /// Its own address; `None` while no revision serves it.
    pub(super) main: Option<Way<T>>,
    /// Those of its tags.
    pub(super) tags: Vec<(String, Way<T>)>,
    /// Whether the outer door knows the Route.
    pub(super) is_public: bool,
    /// Why no revision serves it, as far as its status tells.
    pub(super) trouble: Option<Arc<str>>,
}

/// How the requests to one address are divided, and whether the outer door knows the address.
#[derive(Debug)]
pub(super) struct Way<T> {
    pub(super) split: Arc<Split<T>>,
    pub(super) is_public: bool,
}

/// Where a request for a model goes.
#[derive(Debug, PartialEq, Eq)]
pub struct Choice<'a, T> {
    /// The revision; without one, why there is none.
    pub target: Result<&'a T, Option<&'a Arc<str>>>,
    /// The name as the Route declares it.
    pub name: &'a Arc<str>,
    /// What the server must be told, if it is not what the client has said.
    pub known_as: Option<&'a Arc<str>>,
}

/// A model as it is listed.
#[derive(Debug, PartialEq, Eq)]
pub struct ModelView<'a, T> {
    /// The name under which it is reached.
    pub id: String,
    /// Namespace of its Route.
    pub namespace: &'a str,
    /// When the Route was made, in seconds since 1970.
    pub created_s: i64,
    /// The revision with the largest share; without one, why there is none.
    pub target: Result<&'a T, Option<&'a Arc<str>>>,
}

// === impl ModelTable ===

impl<T> Default for ModelTable<T> {
    fn default() -> Self {
        Self { names: RedBlackTreeMapSync::new_sync() }
    }
}

impl<T> Clone for ModelTable<T> {
    fn clone(&self) -> Self {
        Self { names: self.names.clone() }
    }
}

impl<T> ModelTable<T> {
    /// Where a request for `model` goes that came through `door`; `random` decides between several
    /// revisions. The whole text is looked up first, then as `model:tag`, then as
    /// `namespace/model` and `namespace/model:tag`.
    pub fn pick(&self, model: &str, door: Door, random: u64) -> Option<Choice<'_, T>> {
        let (claim, way) = self.look_up(model, door)?;
        let server_name = claim.known_as.as_ref().unwrap_or(&claim.name);
        Some(Choice {
            target: way.map(|way| way.split.pick(random)).ok_or(claim.offer.trouble.as_ref()),
            name: &claim.name,
            known_as: (**server_name != *model).then_some(server_name),
        })
    }

    /// The claim that `model` leads to, and the way of its requests if a revision serves them.
    fn look_up(&self, model: &str, door: Door) -> Option<(&Claim<T>, Option<&Way<T>>)> {
        self.look_up_in(model, door, |_| true).or_else(|| {
            let (namespace, rest) = model.split_once('/')?;
            self.look_up_in(rest, door, |claim| claim.offer.route.0 == namespace)
        })
    }

    fn look_up_in(
        &self,
        text: &str,
        door: Door,
        is_meant: impl Fn(&Claim<T>) -> bool,
    ) -> Option<(&Claim<T>, Option<&Way<T>>)> {
        let find = |name: &str| {
            let mut claims = self.claims(name);
            claims.find(|claim| claim.offer.is_known(door) && is_meant(claim))
        };
        find(text).map(|claim| (claim, claim.offer.main.as_ref())).or_else(|| {
            let (name, tag) = text.rsplit_once(':')?;
            let claim = find(name)?;
            Some((claim, Some(claim.offer.tag(tag, door)?)))
        })
    }

    /// The models that this door knows and `is_wanted` wants by the names that they are reached by, at
    /// most `most` and the first by name; true when there are more. Costs no more than it returns and
    /// passes over.
    pub fn list(
        &self,
        door: Door,
        most: usize,
        is_wanted: impl Fn(&str) -> bool,
    ) -> (Vec<ModelView<'_, T>>, bool) {
        let is_declared = |id: &str| self.claims(id).any(|claim| claim.offer.is_known(door));
        let all = self.names.values().flat_map(|claims| reached(claims, door));
        // A namespace before a name may be somebody's name as well.
        let all = all.filter(|(place, model)| *place == 0 || !is_declared(&model.id));
        let mut all = all.filter(|(_, model)| is_wanted(&model.id));
        let models = all.by_ref().take(most).map(|(_, model)| model).collect();
        (models, all.next().is_some())
    }

    /// The model that a request for `id` would go to.
    pub fn find(&self, id: &str, door: Door) -> Option<ModelView<'_, T>> {
        let (claim, way) = self.look_up(id, door)?;
        Some(claim.offer.view(id.to_owned(), way))
    }

    /// Whether no model is declared.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Adds what a Route declares; it has no claims yet.
    pub(super) fn insert(&mut self, facts: &RouteFacts, offer: Offer<T>) {
        let offer = Arc::new(offer);
        for model in facts.models() {
            let name: Arc<str> = model.name.as_str().into();
            let mut claims: Vec<_> = self.claims(&name).map(Claim::clone).collect();
            let place = claims.partition_point(|other| other.offer.age() < offer.age());
            let known_as = model.known_as.as_deref().map(Arc::from);
            let claim = Claim { name: Arc::clone(&name), known_as, offer: Arc::clone(&offer) };
            claims.insert(place, claim);
            self.names.insert_mut(name, claims.into());
        }
    }

    /// Takes back what a Route declared.
    pub(super) fn remove(&mut self, facts: &RouteFacts, route: &Key) {
        for model in facts.models() {
            let others = self.claims(&model.name).filter(|claim| *claim.offer.route != *route);
            let others: Arc<[_]> = others.map(Claim::clone).collect();
            if others.is_empty() {
                self.names.remove_mut(model.name.as_str());
            } else {
                self.names.insert_mut(model.name.as_str().into(), others);
            }
        }
    }

    fn claims(&self, name: &str) -> impl Iterator<Item = &Claim<T>> {
        self.names.get(name).into_iter().flat_map(|claims| claims.iter())
    }
}

/// The models of one name that a door knows: the oldest has the name, and of each other namespace
/// the oldest is reached with the namespace before it.
fn reached<T>(claims: &[Claim<T>], door: Door) -> impl Iterator<Item = (usize, ModelView<'_, T>)> {
    let mut namespaces = HashSet::new();
    let known = claims.iter().filter(move |claim| claim.offer.is_known(door));
    known.enumerate().filter_map(move |(place, claim)| {
        let namespace = claim.offer.route.0.as_str();
        let is_first = namespaces.insert(namespace);
        let id = match place {
            0 => claim.name.to_string(),
            _ => format!("{namespace}/{}", claim.name),
        };
        is_first.then(|| (place, claim.offer.view(id, claim.offer.main.as_ref())))
    })
}

// === impl Claim ===

impl<T> Clone for Claim<T> {
    fn clone(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            known_as: self.known_as.clone(),
            offer: Arc::clone(&self.offer),
        }
    }
}

// === impl Offer ===

impl<T> Offer<T> {
    /// Adds the address of a tag, or the Route's own.
    pub(super) fn add(&mut self, tag: Option<String>, split: &Arc<Split<T>>, is_public: bool) {
        let way = Way { split: Arc::clone(split), is_public };
        match tag {
            Some(tag) => self.tags.push((tag, way)),
            None => self.main = Some(way),
        }
    }

    fn view<'a>(&'a self, id: String, way: Option<&'a Way<T>>) -> ModelView<'a, T> {
        ModelView {
            id,
            namespace: &self.route.0,
            created_s: self.created_s,
            target: way.map(|way| way.split.largest()).ok_or(self.trouble.as_ref()),
        }
    }

    fn is_known(&self, door: Door) -> bool {
        door == Door::Inner || self.is_public
    }

    fn tag(&self, name: &str, door: Door) -> Option<&Way<T>> {
        let (_, way) = self.tags.iter().find(|(tag, _)| tag == name)?;
        (door == Door::Inner || way.is_public).then_some(way)
    }

    fn age(&self) -> (i64, &Key) {
        (self.created_s, &self.route)
    }
}

#[cfg(test)]
mod tests;
