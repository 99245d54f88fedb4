use ebb_api::serving::{Route, TrafficTarget};
use kube::ResourceExt as _;
use kube::runtime::reflector;

use super::*;

fn route(name: &str, uid: &str, version: u32) -> Route {
    let mut route = Route::default();
    route.metadata.name = Some(name.to_owned());
    route.metadata.namespace = Some("default".to_owned());
    route.metadata.uid = Some(uid.to_owned());
    route.metadata.resource_version = Some(version.to_string());
    route
}

fn following(name: &str, version: u32, configuration: &str) -> Route {
    let mut route = route(name, name, version);
    route.spec.traffic = vec![TrafficTarget {
        configuration_name: Some(configuration.to_owned()),
        ..TrafficTarget::default()
    }];
    route
}

fn new() -> (Cache<Route>, Writer<Packed<Route>>) {
    let (store, writer) = reflector::store();
    (Cache::new(store), writer)
}

fn version_of(cache: &Cache<Route>) -> Option<String> {
    cache.get("default", "a").and_then(|route| route.resource_version())
}

fn write(cache: &Cache<Route>, object: Route) {
    cache.begin(&object).answered(object);
}

fn follow(cache: &Cache<Route>, configuration: &str) -> Vec<String> {
    let found = cache.marked("default", By::Follows, configuration);
    found.iter().map(|route| route.name_any()).collect()
}

#[test]
fn a_write_is_read_back_until_the_watch_has_caught_up() {
    let (cache, mut writer) = new();
    cache.absorb(&mut writer, watcher::Event::Apply(route("a", "1", 4)));
    write(&cache, route("a", "1", 9));
    assert_eq!(version_of(&cache).as_deref(), Some("9"));

    cache.absorb(&mut writer, watcher::Event::Apply(route("a", "1", 7)));
    assert_eq!(version_of(&cache).as_deref(), Some("9"));

    cache.absorb(&mut writer, watcher::Event::Apply(route("a", "1", 10)));
    assert_eq!(version_of(&cache).as_deref(), Some("10"));
    assert!(cache.shelf.lock().written.is_empty());
}

#[test]
fn a_deleted_object_is_gone_although_it_was_written_here() {
    let (cache, mut writer) = new();
    write(&cache, following("a", 9, "a"));
    assert_eq!(follow(&cache, "a"), ["a"]);
    cache.absorb(&mut writer, watcher::Event::Delete(following("a", 11, "a")));
    assert_eq!(version_of(&cache), None);
    assert!(follow(&cache, "a").is_empty());
    assert!(cache.shelf.lock().index.is_empty());
}

/// A response to a write that came after the deletion once brought the object back as a ghost.
#[test]
fn an_answer_that_comes_after_the_deletion_makes_no_ghost() {
    let (cache, mut writer) = new();
    cache.absorb(&mut writer, watcher::Event::Apply(following("a", 4, "a")));
    let writing = cache.begin(&route("a", "a", 4));
    cache.absorb(&mut writer, watcher::Event::Delete(following("a", 11, "a")));
    writing.answered(following("a", 9, "a"));
    assert_eq!(version_of(&cache), None);
    assert!(follow(&cache, "a").is_empty());
    let shelf = cache.shelf.lock();
    assert!(shelf.flights.is_empty() && shelf.index.is_empty());
}

/// The next object of the name is no ghost, whichever of its event and its response comes first.
#[test]
fn a_new_object_of_the_name_is_known_although_an_older_one_was_deleted() {
    let (cache, mut writer) = new();
    cache.absorb(&mut writer, watcher::Event::Apply(route("a", "1", 4)));
    let writing = cache.begin(&route("a", "2", 0));
    cache.absorb(&mut writer, watcher::Event::Delete(route("a", "1", 11)));
    writing.answered(route("a", "2", 12));
    assert_eq!(version_of(&cache).as_deref(), Some("12"));

    // The response was faster than the event of the older object's deletion.
    cache.absorb(&mut writer, watcher::Event::Apply(route("a", "2", 12)));
    write(&cache, route("a", "3", 21));
    let changes = cache.absorb(&mut writer, watcher::Event::Delete(route("a", "2", 20)));
    assert!(matches!(&changes[..], [it] if it.gone && it.object().uid().as_deref() == Some("2")));
    assert_eq!(version_of(&cache).as_deref(), Some("21"));
}

/// Only the next list shows the deletion.
#[test]
fn an_answer_that_comes_after_a_list_without_the_object_makes_no_ghost() {
    let (cache, mut writer) = new();
    cache.absorb(&mut writer, watcher::Event::Apply(route("a", "1", 4)));
    let writing = cache.begin(&route("a", "1", 4));
    let mut changes = Vec::new();
    for event in [
        watcher::Event::Init,
        watcher::Event::InitApply(following("b", 3, "b")),
        watcher::Event::InitDone,
    ] {
        changes = cache.absorb(&mut writer, event);
    }
    let told: Vec<_> = changes.iter().map(|it| (it.object().name_any(), it.gone)).collect();
    assert_eq!(told, [("a".to_owned(), true), ("b".to_owned(), false)]);
    writing.answered(route("a", "1", 9));
    assert_eq!(version_of(&cache), None);
    assert_eq!(follow(&cache, "b"), ["b"]);
}

#[test]
fn a_write_that_a_list_has_not_seen_yet_is_kept() {
    let (cache, mut writer) = new();
    cache.absorb(&mut writer, watcher::Event::Apply(following("a", 4, "old")));
    write(&cache, following("a", 9, "new"));
    for event in [
        watcher::Event::Init,
        watcher::Event::InitApply(following("a", 5, "old")),
        watcher::Event::InitDone,
    ] {
        cache.absorb(&mut writer, event);
    }
    assert_eq!(version_of(&cache).as_deref(), Some("9"));
    assert!(follow(&cache, "old").is_empty());
    assert_eq!(follow(&cache, "new"), ["a"]);
}

/// Finding the objects that bear a mark looks at no others.
#[test]
fn marks_follow_the_newest_version_and_nothing_else_is_looked_at() {
    let (cache, mut writer) = new();
    for number in 0..1000 {
        let name = format!("other-{number}");
        cache.absorb(&mut writer, watcher::Event::Apply(following(&name, 1, &name)));
    }
    cache.absorb(&mut writer, watcher::Event::Apply(following("a", 2, "x")));
    cache.absorb(&mut writer, watcher::Event::Apply(following("b", 3, "x")));
    // A longer name with the same beginning is another name.
    cache.absorb(&mut writer, watcher::Event::Apply(following("c", 3, "x-y")));
    cache.looked.store(0, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(follow(&cache, "x"), ["a", "b"]);
    assert_eq!(cache.looked.load(std::sync::atomic::Ordering::Relaxed), 2);
    assert!(cache.marked("elsewhere", By::Follows, "x").is_empty());

    write(&cache, following("a", 4, "y"));
    assert_eq!((follow(&cache, "x"), follow(&cache, "y")), (vec!["b".into()], vec!["a".into()]));
    cache.absorb(&mut writer, watcher::Event::Apply(following("a", 4, "y")));
    assert_eq!(follow(&cache, "y"), ["a"]);
    cache.absorb(&mut writer, watcher::Event::Apply(following("a", 5, "x")));
    assert_eq!(follow(&cache, "x"), ["a", "b"]);
}

/// An object is kept as text, and read from that text.
#[test]
fn an_object_is_the_same_after_it_was_packed() {
    let mut route = following("a", 9, "x");
    route.metadata.labels = Some([("team".to_owned(), "b".to_owned())].into());
    let packed = Packed::of(&route);
    assert_eq!(*packed.unpack(), route);
    assert_eq!(packed.meta().uid, route.metadata.uid);
}
