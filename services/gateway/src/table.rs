//! The routes as requests are matched with them. In: a document. Out: a table by prefixes, so that a request is compared
//! with the routes of its own few prefixes, however many others there are.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Uri};
use tokio_util::task::AbortOnDropHandle;
use valerix_kit::RouteName;
use valerix_kit::identity::Access;
use valerix_policy::Parsed;
use valerix_proxy::{Sending, Speaks, Tls, Upstream};
use valerix_resilience::Resilience;

use crate::cors::Cors;
use crate::document::{AuthType, Dashboard, Gateway, HeaderMatch, Match, Protocol, Route, TargetAddress, TargetTls};

/// The routes in force.
#[derive(Default)]
pub struct Table {
    /// The hash of the document's bytes; none for routes that came of no file.
    pub hash: Option<String>,
    routes: HashMap<Arc<str>, Alike>,
    /// Bytes of the longest prefix: what of a path is longer is not looked for.
    longest: usize,
    upstreams: HashMap<String, Placed>,
    /// What the dashboard is put together of.
    pub dashboard: Dashboard,
    /// Where services describe themselves: the target and the path of each route that leads to such a page, in the order of
    /// the document.
    pub documents: Vec<(String, String)>,
}

/// What calls a target, and where that is and how it was said.
struct Placed {
    url: Uri,
    protocol: Protocol,
    tls: Option<TargetTls>,
    upstream: Arc<Upstream>,
    /// Reads its authorities again when they change.
    following: Option<Arc<AbortOnDropHandle<()>>>,
}

type OfHosts = HashMap<Box<str>, Vec<Arc<RouteEntry>>>;

/// The routes of one prefix. Of each list the route that says most comes first.
#[derive(Default)]
struct Alike {
    /// By host, in lower case.
    of_host: Option<Box<OfHosts>>,
    of_any: Box<[Arc<RouteEntry>]>,
}

/// One route, ready to be used. There may be thousands of them: what most have none of is behind a pointer.
pub struct RouteEntry {
    /// Its name in metrics.
    pub name: RouteName,
    prefix: Arc<str>,
    special: Option<Box<Special>>,
    /// Who may ask; none where no token is looked at.
    pub access: Option<Access>,
    /// What browsers are told; none where pages of other origins may not use it.
    pub cors: Option<Box<Cors>>,
    /// Where its requests go.
    pub upstream: Arc<Upstream>,
    /// How they are passed on.
    pub sending: Sending,
}

/// What few routes say.
#[derive(PartialEq)]
struct Special {
    /// Any where it names none.
    methods: Box<[Method]>,
    headers: Box<[HeaderMatch]>,
    rewrite: Option<Box<str>>,
}

/// Extension of a request: where it goes, by the table that was in force when it came.
#[derive(Clone)]
pub struct Matched(pub Arc<RouteEntry>);

/// Where the targets are: in the document, or where the environment says.
pub type Overrides = HashMap<String, Uri>;

impl Table {
    /// The table of a document. Targets of `former` that are where they were keep their connections.
    pub fn new(parsed: Parsed<Gateway>, resilience: &Resilience, overrides: &Overrides, former: &Self) -> Self {
        let Parsed { document, hash, .. } = parsed;
        for name in unknown(&document, overrides) {
            tracing::warn!(
                target_name = name,
                "UPSTREAMS says where this target is, and no route leads there: name it in the document of the routes"
            );
        }
        let mut upstreams = HashMap::new();
        for target in document.targets {
            // Validated with the document, or given as a URL at start.
            let url = overrides.get(&target.name).cloned().or_else(|| target.url.parse().ok());
            let Some(url) = url else { continue };
            let kept = former
                .upstreams
                .get(&target.name)
                .and_then(|placed| placed.kept(&target, &url));
            match kept.map_or_else(|| Placed::new(&target, url.clone(), resilience), Ok) {
                Ok(placed) => drop(upstreams.insert(target.name, placed)),
                Err(reason) => {
                    tracing::error!(target_name = target.name, %url, reason, "a target cannot be called, its routes are left out");
                }
            }
        }
        let entry = |route: Route| {
            let upstream = Arc::clone(&upstreams.get(&route.target)?.upstream);
            let host = route.matches.host.as_ref().map(|host| host.to_ascii_lowercase());
            let route = RouteEntry::new(route, upstream);
            // Of thousands few change at a time: what says the same is not there twice while the former table is.
            let kept = former
                .alike(&route.prefix, host.as_deref())
                .find(|kept| ***kept == route);
            let route = kept.cloned().unwrap_or_else(|| Arc::new(route));
            Some((host, route))
        };
        let described = document
            .routes
            .iter()
            .filter(|route| route.rewrite_prefix.as_deref() == Some("/docs") && upstreams.contains_key(&route.target));
        let documents = described
            .map(|route| (route.target.clone(), route.matches.path_prefix.clone()))
            .collect();
        let mut entries: Vec<_> = document.routes.into_iter().filter_map(entry).collect();
        entries.sort_by_key(|(_, route)| std::cmp::Reverse(route.weight()));
        let mut routes = HashMap::<Arc<str>, Alike>::new();
        let mut of_any = HashMap::<_, Vec<_>>::new();
        for (host, route) in entries {
            let prefix = Arc::clone(&route.prefix);
            match host {
                Some(host) => {
                    let of_host = routes.entry(prefix).or_default().of_host.get_or_insert_default();
                    of_host.entry(host.into_boxed_str()).or_default().push(route);
                }
                None => of_any.entry(prefix).or_default().push(route),
            }
        }
        for (prefix, of_any) in of_any {
            routes.entry(prefix).or_default().of_any = of_any.into_boxed_slice();
        }
        Self {
            hash: Some(hash),
            longest: routes.keys().map(|prefix| prefix.len()).max().unwrap_or_default(),
            routes,
            upstreams,
            dashboard: document.dashboard,
            documents,
        }
    }

    /// The routes of that prefix and host; without a host those of any.
    fn alike(&self, prefix: &str, host: Option<&str>) -> impl Iterator<Item = &Arc<RouteEntry>> {
        let routes = self.routes.get(prefix).and_then(|alike| match host {
            Some(host) => alike.of_host.as_ref()?.get(host).map(Vec::as_slice),
            None => Some(&*alike.of_any),
        });
        routes.into_iter().flatten()
    }

    /// The route of a request.
    #[must_use]
    pub fn find(&self, method: &Method, path: &str, host: &Authority, headers: &HeaderMap) -> Option<&Arc<RouteEntry>> {
        let host = host.host();
        // As nearly everybody writes it: there is nothing to copy.
        let shouted = host.bytes().any(|byte| byte.is_ascii_uppercase());
        let host = if shouted {
            Cow::Owned(host.to_ascii_lowercase())
        } else {
            Cow::Borrowed(host)
        };
        let of_prefix = |prefix: &str| {
            let alike = self.routes.get(prefix)?;
            let of_host = alike.of_host.as_ref().and_then(|of_host| of_host.get(host.as_ref()));
            let of_host = of_host.into_iter().flatten();
            of_host
                .chain(alike.of_any.iter())
                .find(|route| route.fits(method, headers))
        };
        prefixes(path, self.longest).find_map(of_prefix)
    }

    /// A target of the dashboard.
    #[must_use]
    pub fn upstream(&self, name: &str) -> Option<&Upstream> {
        self.upstreams.get(name).map(|placed| &*placed.upstream)
    }
}

impl Placed {
    fn new(target: &TargetAddress, url: Uri, resilience: &Resilience) -> Result<Self, String> {
        let secured = url.scheme() == Some(&Scheme::HTTPS);
        let authorities = if secured {
            Some(believed(target.tls.as_ref())?)
        } else {
            None
        };
        let (tls, following) = authorities.unzip();
        let speaks = match target.protocol {
            Protocol::Http if secured => Speaks::AsAsked,
            Protocol::Http => Speaks::Http1,
            Protocol::H2c => Speaks::Http2,
        };
        let upstream = Upstream::speaking(resilience, &target.name, &url, speaks, tls.as_ref());
        let upstream = upstream.ok_or_else(|| "write http://host[:port] or https://host[:port]".to_owned())?;
        Ok(Self {
            url,
            protocol: target.protocol,
            tls: target.tls.clone(),
            upstream: Arc::new(upstream),
            following: following.map(Arc::new),
        })
    }

    /// The same, with its connections, where nothing has changed.
    fn kept(&self, target: &TargetAddress, url: &Uri) -> Option<Self> {
        let same = (&self.url, self.protocol, &self.tls) == (url, target.protocol, &target.tls);
        same.then(|| Self {
            url: self.url.clone(),
            protocol: self.protocol,
            tls: self.tls.clone(),
            upstream: Arc::clone(&self.upstream),
            following: self.following.clone(),
        })
    }
}

/// Whom a target of `https` is believed by, and what follows the file of those.
fn believed(tls: Option<&TargetTls>) -> Result<(Tls, AbortOnDropHandle<()>), String> {
    let own = tls.and_then(|tls| tls.ca_bundle.as_ref());
    let authorities = match own {
        Some(path) => Tls::awaiting(Path::new(path)),
        None => Tls::of_system().map_err(|error| error.to_string())?,
    };
    let following = AbortOnDropHandle::new(tokio::spawn(authorities.clone().follow()));
    let named = match tls.and_then(|tls| tls.server_name.as_ref()) {
        Some(name) => authorities.named(name).map_err(|error| error.to_string())?,
        None => authorities,
    };
    Ok((named, following))
}

/// Whether both say the same and lead to the same connections.
impl PartialEq for RouteEntry {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            name,
            prefix,
            special,
            access,
            cors,
            upstream,
            sending,
        } = self;
        (name.as_str(), prefix, special) == (other.name.as_str(), &other.prefix, &other.special)
            && (access, cors, sending) == (&other.access, &other.cors, &other.sending)
            && Arc::ptr_eq(upstream, &other.upstream)
    }
}

impl RouteEntry {
    fn new(route: Route, upstream: Arc<Upstream>) -> Self {
        let access = match (route.auth.auth_type, route.auth.roles.is_empty()) {
            (AuthType::None, _) => None,
            (AuthType::Optional, _) => Some(Access::Public),
            (AuthType::Required, true) => Some(Access::User),
            (AuthType::Required, false) => Some(Access::Admin),
        };
        let cors = Cors::of(&route).map(Box::new);
        let Match {
            path_prefix,
            host: _,
            methods,
            headers,
        } = route.matches;
        let special = Special {
            methods: methods.iter().filter_map(|method| method.parse().ok()).collect(),
            headers: headers.into(),
            rewrite: route.rewrite_prefix.map(String::into_boxed_str),
        };
        let says_more = !special.methods.is_empty() || !special.headers.is_empty() || special.rewrite.is_some();
        Self {
            cors,
            name: RouteName::new(&route.name),
            prefix: path_prefix.into(),
            special: says_more.then(|| Box::new(special)),
            access,
            upstream,
            sending: Sending {
                max_body: route.max_body_bytes,
                idle: route.idle_timeout.get(),
            },
        }
    }

    /// The more a route says beside its prefix and host, the earlier it is looked at.
    fn weight(&self) -> (bool, usize) {
        let special = self.special.as_ref();
        special.map_or((false, 0), |special| {
            (!special.methods.is_empty(), special.headers.len())
        })
    }

    /// Whether a request of its prefix and host fits it.
    fn fits(&self, method: &Method, headers: &HeaderMap) -> bool {
        let Some(special) = &self.special else {
            return true;
        };
        let has = |HeaderMatch { name, value }: &HeaderMatch| {
            headers
                .get_all(name)
                .iter()
                .any(|found| found.as_bytes() == value.as_bytes())
        };
        (special.methods.is_empty() || special.methods.contains(method)) && special.headers.iter().all(has)
    }

    /// The target of a request that fits, as the service behind knows it.
    #[must_use]
    pub fn rewrite(&self, uri: &Uri) -> Uri {
        let rewrite = self.special.as_ref().and_then(|special| special.rewrite.as_ref());
        let Some(rewrite) = rewrite else {
            return uri.clone();
        };
        let rest = rest(uri.path(), &self.prefix).unwrap_or_default();
        let path = match (&**rewrite, rest) {
            ("/", "") => "/".to_owned(),
            ("/", rest) => rest.to_owned(),
            (rewrite, rest) => format!("{rewrite}{rest}"),
        };
        let target = match uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        // Made of parts of targets: it is one.
        target.parse::<PathAndQuery>().map_or_else(|_| uri.clone(), Uri::from)
    }
}

/// Targets that are placed and that the document does not know.
fn unknown<'names>(document: &Gateway, overrides: &'names Overrides) -> Vec<&'names str> {
    let known = |name: &str| document.targets.iter().any(|target| target.name == name);
    overrides
        .keys()
        .map(String::as_str)
        .filter(|name| !known(name))
        .collect()
}

/// The prefixes of a path of at most `longest` bytes, the longest first.
pub(crate) fn prefixes(path: &str, longest: usize) -> impl Iterator<Item = &str> {
    let whole = (path != "/").then_some(path.len());
    let ends = path.rmatch_indices('/').map(|(end, _)| end).filter(|end| *end > 0);
    let ends = whole.into_iter().chain(ends).filter(move |end| *end <= longest);
    ends.filter_map(|end| path.get(..end)).chain(["/"])
}

/// What of a path comes after a prefix: nothing, or what begins with `/`.
pub(crate) fn rest<'path>(path: &'path str, prefix: &str) -> Option<&'path str> {
    if prefix == "/" {
        return Some(if path == "/" { "" } else { path });
    }
    path.strip_prefix(prefix)
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests;
