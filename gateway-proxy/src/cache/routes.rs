//! Listings as the gateway serves them: the record, and the seller made ready once a version.
//!
//! Entries are kept by id; a slug only leads to an id, so a listing has one breaker and one set of
//! permits however it is called.

use std::sync::Arc;
use std::time::Instant;

use crochet_shared::id::ListingId;
use crochet_shared::internal::{EndpointRecord, ListingStatus, RouteName, RouteRecord};
use crochet_shared::redis_key;
use quick_cache::sync::Cache;

use super::flight::Flights;
use super::{Changes, FRESH, PATIENCE, REDIS_AGE_MAX, from_redis};
use crate::adapter::again::patiently;
use crate::adapter::batch::Unanswered;
use crate::gateway::Gateway;
use crate::seller::{Health, Network, Seller};

const ROUTES_MAX: usize = 50_000;
const UNKNOWN_MAX: usize = 8_192;
/// Longest text that can name a listing.
const NAME_CHARS_MAX: usize = 200;

/// A listing, ready to be served.
#[derive(Debug)]
pub struct Route {
    /// As the control plane gave it.
    pub record: RouteRecord,
    /// The seller's endpoint, when there is one that this gateway may call.
    pub seller: Option<Arc<Seller>>,
    /// That, or the last there was. A listing that is free for a while, or an endpoint that nobody can open for
    /// a while, comes back as it went: with its breaker, and with its calls that are still under way.
    last: Option<Arc<Seller>>,
}

impl Route {
    fn new(record: RouteRecord, network: &Network, before: Option<&Self>) -> Self {
        let before = before.and_then(|route| route.last.as_ref());
        let seller = record.endpoint.as_ref().and_then(|endpoint| {
            let before = before.map(Arc::as_ref);
            Seller::new(record.listing_id, endpoint, network, before)
                .map_err(|error| {
                    tracing::error!(listing = %record.listing_id, %error, "cannot be served");
                })
                .ok()
        });
        Self {
            record,
            last: seller.as_ref().or(before).map(Arc::clone),
            seller,
        }
    }

    /// The endpoint, when the listing is sold per call, active, and not paused by its seller.
    pub fn open_endpoint(&self) -> Option<(&EndpointRecord, &Arc<Seller>)> {
        let endpoint = self.record.endpoint.as_ref()?;
        let seller = self.seller.as_ref()?;
        let open = self.record.status == ListingStatus::Active && !endpoint.paused;
        open.then_some((endpoint, seller))
    }
}

/// Reads the name in a path. `None` is what can name no listing.
pub fn parse_name(text: &str) -> Option<RouteName> {
    if let Ok(id) = text.parse() {
        return Some(RouteName::Id(id));
    }
    let of_a_slug = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (text.len() <= NAME_CHARS_MAX && text.bytes().all(of_a_slug))
        .then(|| RouteName::Slug(text.to_owned()))
}

#[derive(Clone, Debug)]
struct Known {
    route: Arc<Route>,
    at: Instant,
    epoch: u64,
}

type Fetched = Result<Option<Arc<Route>>, Unanswered>;

/// The listings this process has served lately.
#[derive(Debug)]
pub struct Routes {
    known: Cache<ListingId, Known>,
    slugs: Cache<String, ListingId>,
    unknown: Cache<RouteName, (Instant, u64)>,
    flights: Flights<RouteName, Fetched>,
    changes: Changes<ListingId>,
    slug_changes: Changes<String>,
}

impl Default for Routes {
    fn default() -> Self {
        Self {
            known: Cache::new(ROUTES_MAX),
            slugs: Cache::new(ROUTES_MAX),
            unknown: Cache::new(UNKNOWN_MAX),
            flights: Flights::default(),
            changes: Changes::new(),
            slug_changes: Changes::new(),
        }
    }
}

impl Routes {
    /// The listing of a name, from here or by asking.
    pub async fn get(&self, gateway: &Gateway, name: &RouteName, now: Instant) -> Fetched {
        let epoch = gateway.hearing.epoch();
        let counts = &gateway.metrics.routes;
        if let Some(known) = self.cached(name, now, epoch) {
            counts.hit.increment(1);
            return Ok(Some(known));
        }
        if let Some((at, of)) = self.unknown.get(name)
            && of == epoch
            && now.duration_since(at) < FRESH
        {
            counts.hit.increment(1);
            return Ok(None);
        }
        counts.missed(
            self.id(name)
                .is_some_and(|id| self.known.peek(&id).is_some()),
        );
        self.flights.join(name, || self.ask(gateway, name)).await
    }

    fn id(&self, name: &RouteName) -> Option<ListingId> {
        match name {
            RouteName::Id(id) => Some(*id),
            RouteName::Slug(slug) => self.slugs.get(slug),
        }
    }

    /// Of the sellers known here: how many breakers are open, how many half-open, and the calls
    /// under way.
    pub fn sellers(&self, now: Instant) -> (usize, usize, usize) {
        let (mut open, mut half_open, mut underway) = (0, 0, 0);
        for (_, known) in self.known.iter() {
            let Some(seller) = &known.route.last else {
                continue;
            };
            let (health, calls) = seller.standing(now);
            underway += calls as usize;
            // Where nobody can call, no call will ever close a breaker.
            if known.route.open_endpoint().is_some() {
                open += usize::from(health == Health::Open);
                half_open += usize::from(health == Health::HalfOpen);
            }
        }
        (open, half_open, underway)
    }

    fn cached(&self, name: &RouteName, now: Instant, epoch: u64) -> Option<Arc<Route>> {
        let known = self.known.get(&self.id(name)?)?;
        let fresh = known.epoch == epoch && now.duration_since(known.at) < FRESH;
        fresh.then_some(known.route)
    }

    async fn ask(&self, gateway: &Gateway, name: &RouteName) -> Fetched {
        let (since, epoch) = (Instant::now(), gateway.hearing.epoch());
        let changed_lately = since
            .checked_sub(REDIS_AGE_MAX)
            .is_none_or(|then| self.changed(name, then));
        let (mut record, mut at) = (None, since);
        if !changed_lately && let Some(told) = gateway.hearing.told_until(since) {
            record = from_redis::<RouteRecord>(gateway, &redis_name(name)).await;
            // A deleted listing is told of by its id alone, and may be asked for by its slug.
            let then = since.checked_sub(REDIS_AGE_MAX).unwrap_or(since);
            record = record.filter(|record| {
                !self.knows_newer(record) && !self.changes.since(&record.listing_id, then)
            });
            at = told;
        }
        if record.is_none() {
            at = since;
            let ask = || gateway.control_plane.resolve_route(name);
            record = patiently(since, PATIENCE, ask).await?;
            gateway.metrics.routes.from_control_plane.increment(1);
        } else {
            gateway.metrics.routes.from_redis.increment(1);
        }
        let Some(record) = record else {
            if !self.changed(name, since) {
                self.unknown.insert(name.clone(), (since, epoch));
            }
            return Ok(None);
        };
        let stays = !self.changes.since(&record.listing_id, since);
        Ok(Some(self.keep(
            &gateway.network,
            record,
            (at, epoch),
            stays,
        )))
    }

    fn keep(
        &self,
        network: &Network,
        record: RouteRecord,
        (at, epoch): (Instant, u64),
        stays: bool,
    ) -> Arc<Route> {
        let id = record.listing_id;
        self.slugs.insert(record.slug.clone(), id);
        let before = self.known.peek(&id).map(|known| known.route);
        let route = match before {
            Some(before) if before.record == record => before,
            before => Arc::new(Route::new(record, network, before.as_deref())),
        };
        let known = Known {
            route: Arc::clone(&route),
            at,
            // Kept for the seller's sake, whose breaker and permits live on, but not believed.
            epoch: if stays { epoch } else { u64::MAX },
        };
        self.known.insert(id, known);
        route
    }

    fn knows_newer(&self, record: &RouteRecord) -> bool {
        self.known
            .peek(&record.listing_id)
            .is_some_and(|known| known.route.record.version > record.version)
    }

    fn changed(&self, name: &RouteName, since: Instant) -> bool {
        match name {
            RouteName::Id(id) => self.changes.since(id, since),
            RouteName::Slug(slug) => self.slug_changes.since(slug, since),
        }
    }

    /// A change was told.
    pub fn forget(&self, id: ListingId, slug: &str, now: Instant) {
        self.changes.note(id, now);
        self.slug_changes.note(slug.to_owned(), now);
        self.unknown.remove(&RouteName::Id(id));
        self.unknown.remove(&RouteName::Slug(slug.to_owned()));
        if let Some(mut known) = self.known.peek(&id) {
            // Of one that was deleted only the id is told.
            let slug = known.route.record.slug.clone();
            self.slug_changes.note(slug, now);
            known.epoch = u64::MAX;
            self.known.insert(id, known);
        }
    }
}

fn redis_name(name: &RouteName) -> String {
    match name {
        RouteName::Id(id) => redis_key::route(*id),
        RouteName::Slug(slug) => redis_key::slug(slug),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seller::{BreakerConfig, NetworkConfig, SendError, Unsent};
    use crochet_shared::id::ProfileId;
    use crochet_shared::internal::Redelivery;
    use crochet_shared::money::Micros;
    use std::time::Duration;

    fn record(version: i64) -> RouteRecord {
        let now = crochet_shared::clock::now();
        RouteRecord {
            listing_id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
            slug: "echo".into(),
            seller_id: ProfileId::new(now),
            status: ListingStatus::Active,
            price: Micros(1),
            endpoint: Some(EndpointRecord {
                url: "https://93.184.216.34/".into(),
                auth_header: None,
                secrets: vec![("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into(), None)],
                timeout_ms: 30_000,
                max_request_bytes: 1,
                max_response_bytes: 1,
                max_concurrency: 1,
                redelivery: Redelivery::SameRequestId,
                paused: false,
            }),
            version,
        }
    }

    #[tokio::test]
    async fn a_slug_and_an_id_lead_to_one_entry_until_a_change() {
        let routes = Routes::default();
        let network = Network::new(NetworkConfig::default()).unwrap();
        let now = Instant::now();
        let kept = routes.keep(&network, record(1), (now, 1), true);
        let id = kept.record.listing_id;
        let by_slug = routes
            .cached(&RouteName::Slug("echo".into()), now, 1)
            .unwrap();
        let by_id = routes.cached(&RouteName::Id(id), now, 1).unwrap();
        assert!(Arc::ptr_eq(&by_slug, &by_id));
        assert!(routes.cached(&RouteName::Id(id), now + FRESH, 1).is_none());
        assert!(routes.cached(&RouteName::Id(id), now, 2).is_none());
        routes.forget(id, "echo", now);
        assert!(routes.cached(&RouteName::Id(id), now, 1).is_none());
        assert!(routes.changed(&RouteName::Slug("echo".into()), now));
        let later = now + Duration::from_millis(1);
        assert!(!routes.changed(&RouteName::Id(id), later));
    }

    #[tokio::test]
    async fn a_record_older_than_the_one_known_is_not_taken() {
        let routes = Routes::default();
        let network = Network::new(NetworkConfig::default()).unwrap();
        let now = Instant::now();
        routes.keep(&network, record(2), (now, 1), true);
        assert!(routes.knows_newer(&record(1)));
        assert!(!routes.knows_newer(&record(2)));
    }

    #[tokio::test]
    async fn an_endpoint_that_comes_back_has_its_breaker_and_its_calls_under_way() {
        let routes = Routes::default();
        let network = Network::new(NetworkConfig::default()).unwrap();
        let now = Instant::now();
        let keep = |record| routes.keep(&network, record, (now, 1), true);
        let buyer = record(0).seller_id;
        let seller = |route: Arc<Route>| route.seller.clone();
        let first = seller(keep(record(1))).unwrap();
        for _ in 0..BreakerConfig::default().connect_failures {
            let unreachable = Err(SendError::Unsent(Unsent::Connect));
            first.try_admit().unwrap().report(buyer, &unreachable, now);
        }
        let underway = first.try_admit_test().unwrap();
        assert_eq!(first.standing(now), (Health::Open, 1));

        // As it is told while its secrets do not open, and while the listing is free.
        let mut sealed = record(2);
        if let Some(endpoint) = &mut sealed.endpoint {
            endpoint.url.clear();
            endpoint.secrets.clear();
            endpoint.paused = true;
        }
        let mut free = record(3);
        free.endpoint = None;
        for gone in [sealed, free] {
            assert!(seller(keep(gone)).is_none(), "nobody can be served");
            let told = "calls are, a breaker that no call can close is not";
            assert_eq!(routes.sellers(now), (0, 0, 1), "{told}");
        }
        let back = seller(keep(record(4))).unwrap();
        assert_eq!(back.standing(now), (Health::Open, 1));
        drop(underway);
        assert_eq!(back.standing(now).1, 0);
    }

    #[test]
    fn only_ids_and_slugs_name_a_listing() {
        assert!(matches!(parse_name("echo-1"), Some(RouteName::Slug(_))));
        let id = "01890a5d-ac96-774b-bcce-b302099a8057";
        assert!(matches!(parse_name(id), Some(RouteName::Id(_))));
        for text in ["Echo", "a b", "a%20b", "a.b", &"a".repeat(201)] {
            assert!(parse_name(text).is_none(), "{text}");
        }
    }
}
